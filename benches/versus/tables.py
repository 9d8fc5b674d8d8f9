"""Results as tables of Markdown. A section that has nothing to say is empty."""

import statistics
from collections.abc import Callable

from cases import GROWTH, GROWTH_BAR, GROWTH_BARRED, IDLE, LATENCY_BAR, LOADED, SHARES, START_BAR_MIB
from files import JSON_SIZE
from results import Ratio, Results

OURS, THEIRS = "tollgate", "nginx"


def bars(results: Results) -> str:
    """What the project wants to keep, and whether it does."""
    rows = []
    for case in LOADED:
        its = results.cpu_us(case.name, OURS)
        if case.bar:
            rows += bar_row(f"{case.name}: CPU", Ratio.by(its, results.cpu_us(case.name, THEIRS)), case.bar)
        if case.plain_bar:
            ratio = Ratio.by(its, results.cpu_us(case.plain, OURS))
            rows += bar_row(f"{case.name}: CPU, by {case.plain} of its own", ratio, case.plain_bar)
    for case in results.latency:
        for key in ("p50", "p99"):
            its, others = (results.waits(case, peer, SHARES[-1], f"{key}_us") for peer in (OURS, THEIRS))
            rows += bar_row(f"{case}: {key} at {SHARES[-1]:.0%}", Ratio.by(its, others), LATENCY_BAR)
    for case in GROWTH_BARRED:
        ratio = Ratio.by(results.grown(case, OURS, "many_cpu_us"), results.grown(case, OURS, "few_cpu_us"))
        rows += bar_row(f"{case}: CPU, many by few", ratio, GROWTH_BAR)
    for case in IDLE:
        if case.bar and (each := results.idle_bytes.get(case.name, {}).get(OURS)):
            rows += bar_row(f"{case.name}: KiB a connection", Ratio([one / 1024 for one in each]), case.bar)
    if started := results.start.get(OURS):
        rows += bar_row("resident at start, MiB", Ratio([one["rss_kib"] / 1024 for one in started]), START_BAR_MIB)
    if not rows:
        return ""
    note = f"Of {OURS} by {THEIRS} in the same round unless it says otherwise; the median of the rounds decides."
    return f"{note}\n\n{table(['what', 'at most', 'measured', 'rounds', 'verdict'], rows)}"


def bar_row(what: str, ratio: Ratio | None, bar: float) -> list[list[str]]:
    """None where it was not measured."""
    return [[what, f"{bar:g}", ratio.median, ratio.range, ratio.verdict(bar)]] if ratio else []


def cpu(results: Results) -> str:
    took_part = results.took_part(results.loaded)
    if not took_part:
        return ""
    first, *others = took_part
    rows = []
    for case in results.loaded:
        base = results.cpu_us(case, first)
        row = [case, median_of(base)]
        for peer in others:
            its = results.cpu_us(case, peer)
            ratio = Ratio.by(its, base)
            row.append(f"{median_of(its)} · **{ratio.median}** ({ratio.range})" if ratio else "–")
        rows.append(row)
    note = (
        f"Over all processes of a peer, in µs, the median of the rounds; in bold that by {first}'s, the median of the rounds' "
        "ratios, and the lowest and the highest of them. Where a peer can't take part: –."
    )
    return f"{note}\n\n{table(['case', first, *others], rows)}"


def plain(results: Results) -> str:
    rows = []
    for case in LOADED:
        for peer in results.took_part(results.loaded) if case.plain else ():
            coded, plain_hit = results.cpu_us(case.name, peer), results.cpu_us(case.plain, peer)
            if ratio := Ratio.by(coded, plain_hit):
                rows.append([peer, median_of(coded), median_of(plain_hit), f"**{ratio.median}** ({ratio.range})"])
    if not rows:
        return ""
    note = "Hits whose body is compressed beside plain hits of as many bytes as that peer's compressed body, turn by turn."
    return f"{note}\n\n{table(['peer', 'compressed, µs', 'plain, µs', 'compressed / plain'], rows)}"


def sizes(results: Results) -> str:
    rows, peers = [], results.took_part(results.loaded)
    for case in LOADED:
        if case.coded and case.name in results.loaded:
            sizes_of = [results.of(case.name, peer, "body_bytes") for peer in peers]
            rows.append([case.name, *(f"{size[0]:,}" if size else "–" for size in sizes_of)])
    if not rows:
        return ""
    note = f"Bytes of the body once compressed, out of {JSON_SIZE:,}: who does less work, may have to send more."
    return f"{note}\n\n{table(['case', *peers], rows)}"


def rates(results: Results) -> str:
    note = "At saturation, medians. All cores are busy with load, origin and peer, so these rank a machine as much as a peer."
    return by_case(results, note, "requests_per_s", lambda each: f"{statistics.median(each):,.0f}")


def by_case(results: Results, note: str, key: str, shown: Callable[[list[float]], str]) -> str:
    peers = results.took_part(results.loaded)
    rows = []
    for case in results.loaded:
        its = [results.of(case, peer, key) for peer in peers]
        rows.append([case, *(shown(each) if each else "–" for each in its)])
    return f"{note}\n\n{table(['case', *peers], rows)}" if rows else ""


def latency(results: Results) -> str:
    peers = results.took_part(results.latency)
    parts = []
    for share in SHARES:
        rows = []
        for case, rounds in results.latency.items():
            rate = next(each["rate"] for each in rounds if each["share"] == share)
            rows.append([case, f"{rate:,.0f}", *(latency_cell(results, case, peer, share) for peer in peers)])
        if rows:
            head = [f"at {share:.0%} of {results.first}'s most", "requests/s", *peers]
            parts.append(table(head, rows))
    if not parts:
        return ""
    note = (
        "p50 / p99 / p99.9 in ms at a constant rate, each request timed from when it was due, whether those before it were "
        "answered or not; medians of the turns, which are half as long as others, and twice as many. † Not all were answered in the end."
    )
    return "\n\n".join([note, *parts])


def latency_cell(results: Results, case: str, peer: str, share: float) -> str:
    found = [results.waits(case, peer, share, key) for key in ("p50_us", "p99_us", "p999_us")]
    if not found[0]:
        return "–"
    late = " †" if any(results.waits(case, peer, share, "unanswered")) else ""
    return " / ".join(f"{statistics.median(each) / 1000:.2f}" for each in found) + late


def reloads(results: Results) -> str:
    rows = []
    for peer, rounds in results.reloads.items():
        row = [peer]
        for what in ("peace", "reloads"):
            for key in ("p50_us", "p99_us", "p999_us"):
                row.append(f"{statistics.median(each[what][key] for each in rounds) / 1000:.2f}")
        again = statistics.median(each["reloads"]["retried"] for each in rounds)
        rows.append([*row, f"{again:.0f} of {rounds[0]['reloads']['requests']:,}"])
    if not rows:
        return ""
    head = ["peer", *(f"{when}: {key}" for when in ("in peace", "reloaded") for key in ("p50", "p99", "p99.9")), "asked again"]
    note = (
        "ms at 5000 requests a second, in peace and while the configuration is changed and read again once a second. Asked "
        "again was what had been sent on a connection that the peer then closed."
    )
    return f"{note}\n\n{table(head, rows)}"


def growth(results: Results) -> str:
    rows = []
    for case in GROWTH:
        for peer in results.took_part(results.growth):
            few, many = (results.grown(case.name, peer, f"{side}_cpu_us") for side in ("few", "many"))
            if ratio := Ratio.by(many, few):
                rounds = [each for each in results.growth[case.name] if each["peer"] == peer]
                memory_of = [f"{max(each[f'{side}_pss_kib'] for each in rounds) / 1024:,.0f}" for side in ("few", "many")]
                counts = f"{rounds[0]['small']:,} → {rounds[0]['large']:,}"
                cost = [median_of(few), median_of(many), f"**{ratio.median}** ({ratio.range})"]
                rows.append([case.name, counts, peer, *cost, " → ".join(memory_of)])
    if not rows:
        return ""
    note = (
        "CPU time a request in µs where there are few, and where there are many, turn by turn; PSS in MiB. What nginx stores is "
        "in files, and not in this."
    )
    return f"{note}\n\n{table(['of what', 'how many', 'peer', 'few', 'many', 'many / few', 'memory'], rows)}"


def memory(results: Results) -> str:
    rows = []
    for peer in results.peers:
        started = results.start.get(peer)
        if not started and not any(peer in its for its in results.idle_bytes.values()):
            continue
        row = [peer, *(f"{started[0][key] / 1024:.1f}" if started else "–" for key in ("rss_kib", "pss_kib"))]
        for case in IDLE:
            each = results.idle_bytes.get(case.name, {}).get(peer)
            row.append(f"{statistics.median(each) / 1024:.1f}" if each else "–")
        rows.append(row)
    if not results.start and not results.idle_bytes:
        return ""
    note = (
        "Before the first request, in MiB over all processes: resident, where pages that processes share count in each, and "
        "PSS. Then KiB of PSS for each further connection that has had an answer and stays open; the kernel's part is not in it."
    )
    return f"{note}\n\n{table(['peer', 'resident', 'PSS', *(case.name for case in IDLE)], rows)}"


def under_load(results: Results) -> str:
    note = "PSS in MiB over all processes, the most of all rounds. What nginx stores is in files, and not in this."
    return by_case(results, note, "pss_kib", lambda each: f"{max(each) / 1024:.1f}")


def median_of(figures: list[float]) -> str:
    return f"{statistics.median(figures):.1f}" if figures else "–"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
