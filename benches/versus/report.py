"""What was measured, as a table for people and as JSON for tools."""

import json
import os
import re
import statistics
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from cases import LOADED
from files import JSON_SIZE
from peers import WORKERS, output_of


@dataclass
class Results:
    # Of one peer's turn.
    seconds: int
    # Name and version, the one that others are compared with first.
    peers: dict[str, str]
    # What was left out, and why.
    notes: list[str]
    # By case, in the order in which they were measured.
    loaded: dict[str, list[dict]]
    # By case and peer, one figure a round: bytes a connection.
    idle_bytes: dict[str, dict[str, list[float]]]

    @property
    def measured(self) -> list[str]:
        """The peers that took part in one of the cases at least."""
        took_part = {each["peer"] for rounds in self.loaded.values() for each in rounds}
        return [peer for peer in self.peers if peer in took_part]

    def of(self, case: str, peer: str, key: str) -> list:
        """A figure of each round; none if the peer was left out of the case."""
        return [each[key] for each in self.loaded.get(case, []) if each["peer"] == peer]

    def cpu_us(self, case: str, peer: str) -> list[float]:
        return self.of(case, peer, "cpu_us_per_request")


@dataclass
class Ratio:
    """CPU time a request by that of something else in the same round."""

    rounds: list[float]

    @classmethod
    def by(cls, its: list[float], others: list[float]) -> "Ratio | None":
        """None if one of the two was not measured."""
        return cls([one / other for one, other in zip(its, others, strict=True)]) if its and others else None

    @property
    def median(self) -> str:
        return f"{statistics.median(self.rounds):.2f}"

    @property
    def range(self) -> str:
        return f"{min(self.rounds):.2f} – {max(self.rounds):.2f} of {len(self.rounds)}"

    def verdict(self, target: float) -> str:
        """As people read it: the two decimals that are shown decide."""
        return "pass" if float(self.median) <= target else "**fail**"


def save(results: Results, folder: Path) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", cpu_model().lower())).strip("-")
    path = folder / f"{date.today().isoformat()}-{slug}.md"
    path.write_text(markdown(results))
    path.with_suffix(".json").write_text(json.dumps({"cpu": cpu_model()} | asdict(results), indent=1) + "\n")
    return path


def markdown(results: Results) -> str:
    parts = [heading(results)]
    if results.loaded:
        parts += [targets_table(results), cpu_table(results), plain_table(results), size_table(results)]
        parts += [rate_table(results), memory_table(results)]
    if results.idle_bytes:
        parts.append(idle_table(results))
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(results: Results) -> str:
    tools = [output_of(["wrk", "-v"]).partition(" Copyright")[0], output_of(["h2load", "--version"])]
    tools.append(output_of(["openssl", "version"]).partition(" (")[0])
    lines = [f"# versus, {date.today().isoformat()}", ""]
    lines += [f"- CPU: {cpu_model()}, {os.cpu_count()} cores; {WORKERS} workers in each peer"]
    lines += [f"- {name}: {version}" for name, version in results.peers.items()]
    lines += [f"- load: {', '.join(tools)}; turns of {results.seconds} s; peers, origin and load share the cores"]
    lines += [f"- {note}" for note in results.notes]
    return "\n".join(lines)


def targets_table(results: Results) -> str:
    rows = []
    for case in LOADED:
        its = results.cpu_us(case.name, "tollgate")
        if case.target and case.name in results.loaded:
            ratio = Ratio.by(its, results.cpu_us(case.name, "nginx"))
            rows.append(target_row(f"{case.name}, tollgate / nginx", ratio, case.target))
        if case.plain_target and case.name in results.loaded:
            ratio = Ratio.by(its, results.cpu_us(case.plain, "tollgate"))
            rows.append(target_row(f"{case.name} / {case.plain}, within tollgate", ratio, case.plain_target))
    if not rows:
        return ""
    note = "Of CPU time a request, the median of the rounds' ratios."
    return f"## Targets\n\n{note}\n\n{table(['ratio', 'at most', 'measured', 'verdict'], rows)}"


def target_row(what: str, ratio: Ratio | None, target: float) -> list[str]:
    return [what, f"{target:.2f}", *((ratio.median, ratio.verdict(target)) if ratio else ("–", "not measured"))]


def cpu_table(results: Results) -> str:
    first, *others = results.measured
    head = ["case", f"{first}, µs"]
    for peer in others:
        head += [f"{peer}, µs", f"{peer} / {first}", "lowest – highest of the rounds"]
    rows = []
    for case in results.loaded:
        row = [case, median_of(results.cpu_us(case, first))]
        for peer in others:
            ratio = Ratio.by(results.cpu_us(case, peer), results.cpu_us(case, first))
            row += [median_of(results.cpu_us(case, peer)), *ratio_cells(ratio)]
        rows.append(row)
    note = "CPU time a request, over all processes of a peer; the median of the rounds. Where a peer can't take part: –."
    return f"## CPU time a request\n\n{note}\n\n{table(head, rows)}"


def plain_table(results: Results) -> str:
    head = ["case", "peer", "compressed, µs", "plain, µs", "compressed / plain", "lowest – highest of the rounds"]
    rows = []
    for case in LOADED:
        for peer in results.measured if case.plain else ():
            coded, plain = results.cpu_us(case.name, peer), results.cpu_us(case.plain, peer)
            if ratio := Ratio.by(coded, plain):
                rows.append([case.name, peer, median_of(coded), median_of(plain), *ratio_cells(ratio)])
    if not rows:
        return ""
    note = "Hits whose body is compressed beside plain hits of as many bytes as that peer's compressed body, turn by turn."
    return f"## Compressed hits\n\n{note}\n\n{table(head, rows)}"


def size_table(results: Results) -> str:
    rows = []
    for case in LOADED:
        if case.coded and case.name in results.loaded:
            sizes = [results.of(case.name, peer, "body_bytes") for peer in results.measured]
            rows.append([case.name, *(f"{size[0]:,}" if size else "–" for size in sizes)])
    if not rows:
        return ""
    note = f"Bytes of the body once compressed, out of {JSON_SIZE:,}: who does less work, may have to send more."
    head = ["case", *(f"{peer}, bytes" for peer in results.measured)]
    return f"## Size of compressed bodies\n\n{note}\n\n{table(head, rows)}"


def median_of(figures: list[float]) -> str:
    return f"{statistics.median(figures):.1f}" if figures else "–"


def ratio_cells(ratio: Ratio | None) -> list[str]:
    return [f"**{ratio.median}**", ratio.range] if ratio else ["–", "–"]


def rate_table(results: Results) -> str:
    head = ["case", *(f"{peer}, requests/s" for peer in results.measured), *(f"{peer}, p99 ms" for peer in results.measured)]
    rows = []
    for case in results.loaded:
        row = [case]
        for peer in results.measured:
            rates = results.of(case, peer, "requests_per_s")
            row.append(f"{statistics.median(rates):,.0f}" if rates else "–")
        for peer in results.measured:
            latencies = [each / 1000 for each in results.of(case, peer, "p99_us") if each is not None]
            row.append(median_of(latencies))
        rows.append(row)
    note = "Medians. All cores are busy with load, origin and peer, so these rank a machine more than a peer."
    return f"## Requests a second\n\n{note}\n\n{table(head, rows)}"


def memory_table(results: Results) -> str:
    head = ["case", *(f"{peer}, PSS" for peer in results.measured), *(f"{peer}, peak RSS" for peer in results.measured)]
    rows = []
    for case in results.loaded:
        row = [case]
        for key in ("pss_kib", "rss_peak_kib"):
            for peer in results.measured:
                kib = results.of(case, peer, key)
                row.append(f"{max(kib) / 1024:.1f}" if kib else "–")
        rows.append(row)
    note = (
        "MiB over all processes, the most of all rounds. RSS counts pages that processes share in each of them. "
        "What nginx stores is in files, and not in this."
    )
    return f"## Memory under load\n\n{note}\n\n{table(head, rows)}"


def idle_table(results: Results) -> str:
    peers = [peer for peer in results.peers if any(peer in bytes_each for bytes_each in results.idle_bytes.values())]
    rows = [
        [case, *(f"{statistics.median(bytes_each[peer]) / 1024:.1f}" for peer in peers)]
        for case, bytes_each in results.idle_bytes.items()
    ]
    note = "KiB of PSS a further connection that has had an answer and stays open; the kernel's part is not in it."
    return f"## Memory an idle connection\n\n{note}\n\n{table(['case', *peers], rows)}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else os.uname().machine
