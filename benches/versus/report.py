"""What was measured, as a table for people and as JSON for tools."""

import json
import os
import re
import statistics
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from cases import LOADED
from peers import WORKERS, output_of


@dataclass
class Results:
    # Of one peer's turn.
    seconds: int
    # Name and version, the one that others are compared with first.
    peers: dict[str, str]
    # By case, in the order in which they were measured.
    loaded: dict[str, list[dict]]
    # By case and peer, one figure a round: bytes a connection.
    idle_bytes: dict[str, dict[str, list[float]]]

    def of(self, case: str, peer: str, key: str) -> list:
        return [each[key] for each in self.loaded[case] if each["peer"] == peer]

    def ratios(self, case: str, peer: str) -> list[float]:
        """CPU time a request by that of the first peer, round by round."""
        first = self.of(case, next(iter(self.peers)), "cpu_us_per_request")
        return [its / other for its, other in zip(self.of(case, peer, "cpu_us_per_request"), first, strict=True)]


def save(results: Results, folder: Path) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", cpu_model().lower())).strip("-")
    path = folder / f"{date.today().isoformat()}-{slug}.md"
    path.write_text(markdown(results))
    path.with_suffix(".json").write_text(json.dumps({"cpu": cpu_model()} | asdict(results), indent=1) + "\n")
    return path


def markdown(results: Results) -> str:
    parts = [heading(results)]
    if results.loaded:
        parts += [cpu_table(results), rate_table(results), memory_table(results)]
    if results.idle_bytes:
        parts.append(idle_table(results))
    return "\n\n".join(parts) + "\n"


def heading(results: Results) -> str:
    tools = [output_of(["wrk", "-v"]).partition(" Copyright")[0], output_of(["h2load", "--version"])]
    tools.append(output_of(["openssl", "version"]).partition(" (")[0])
    lines = [f"# versus, {date.today().isoformat()}", ""]
    lines += [f"- CPU: {cpu_model()}, {os.cpu_count()} cores; {WORKERS} workers in each peer"]
    lines += [f"- {name}: {version}" for name, version in results.peers.items()]
    lines += [f"- load: {', '.join(tools)}; turns of {results.seconds} s; peers, origin and load share the cores"]
    return "\n".join(lines)


def cpu_table(results: Results) -> str:
    first, *others = results.peers
    targets = {case.name: case.target for case in LOADED}
    head = ["case", f"{first}, µs"]
    for peer in others:
        head += [f"{peer}, µs", f"{peer} / {first}", "lowest – highest of the rounds"]
        if peer == "tollgate":
            head.append("target")
    rows = []
    for case in results.loaded:
        row = [case, f"{statistics.median(results.of(case, first, 'cpu_us_per_request')):.1f}"]
        for peer in others:
            ratios = results.ratios(case, peer)
            row += [
                f"{statistics.median(results.of(case, peer, 'cpu_us_per_request')):.1f}",
                f"**{statistics.median(ratios):.2f}**",
                f"{min(ratios):.2f} – {max(ratios):.2f} of {len(ratios)}",
            ]
            if peer == "tollgate":
                row.append(f"≤ {targets[case]}" if targets[case] else "")
        rows.append(row)
    note = "CPU time a request, over all processes of a peer; the median of the rounds."
    return f"## CPU time a request\n\n{note}\n\n{table(head, rows)}"


def rate_table(results: Results) -> str:
    head = ["case", *(f"{peer}, requests/s" for peer in results.peers), *(f"{peer}, p99 ms" for peer in results.peers)]
    rows = []
    for case in results.loaded:
        row = [case]
        row += [f"{statistics.median(results.of(case, peer, 'requests_per_s')):,.0f}" for peer in results.peers]
        for peer in results.peers:
            latencies = [each for each in results.of(case, peer, "p99_us") if each is not None]
            row.append(f"{statistics.median(latencies) / 1000:.1f}" if latencies else "–")
        rows.append(row)
    note = "Medians. All cores are busy with load, origin and peer, so these rank a machine more than a peer."
    return f"## Requests a second\n\n{note}\n\n{table(head, rows)}"


def memory_table(results: Results) -> str:
    head = ["case", *(f"{peer}, PSS" for peer in results.peers), *(f"{peer}, peak RSS" for peer in results.peers)]
    rows = []
    for case in results.loaded:
        row = [case]
        for key in ("pss_kib", "rss_peak_kib"):
            row += [f"{max(results.of(case, peer, key)) / 1024:.1f}" for peer in results.peers]
        rows.append(row)
    note = "MiB over all processes, the most of all rounds. RSS counts pages that processes share in each of them."
    return f"## Memory under load\n\n{note}\n\n{table(head, rows)}"


def idle_table(results: Results) -> str:
    rows = [
        [case, *(f"{statistics.median(bytes_each[peer]) / 1024:.1f}" for peer in results.peers)]
        for case, bytes_each in results.idle_bytes.items()
    ]
    note = "KiB of PSS a further connection that has had an answer and stays open; the kernel's part is not in it."
    return f"## Memory an idle connection\n\n{note}\n\n{table(['case', *results.peers], rows)}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else os.uname().machine
