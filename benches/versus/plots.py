"""Results as plots. What was not measured gives none."""

import math
import statistics
from dataclasses import dataclass

from cases import GROWTH, GROWTH_BAR, GROWTH_BARRED, IDLE, LOADED, SHARES
from results import Ratio, Results
from svg import Drawing, colour

WIDTH, LEFT, RIGHT = 900, 150, 70
ROW, GAP, TOP, BOTTOM = 13, 10, 62, 30
# Of those lines that say how far the rounds were apart, and that a bar is to be kept.
SPREAD, BAR = "#00000070", "#111"


@dataclass
class Axis:
    """A logarithmic axis from left to right."""

    low: float
    high: float
    left: float = LEFT
    right: float = WIDTH - RIGHT

    def at(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low)
        return self.left + share * (self.right - self.left)

    def draw(self, drawing: Drawing, marks: list[float], top: float, bottom: float):
        for mark in marks:
            drawing.line(self.at(mark), top, self.at(mark), bottom)
            drawing.text(self.at(mark), bottom + 14, f"{mark:g}", size=10, anchor="middle", fill="#555")


@dataclass
class Row:
    peer: str
    ratio: Ratio


def cpu(results: Results) -> str:
    """Ratios of CPU time a request, by case."""
    peers = results.took_part(results.loaded)
    groups = []
    for case in LOADED:
        base = results.cpu_us(case.name, results.first)
        rows = [(peer, Ratio.by(results.cpu_us(case.name, peer), base)) for peer in peers[1:]]
        groups.append((case.name, case.bar, [Row(peer, ratio) for peer, ratio in rows if ratio]))
    title = f"CPU time a request by {results.first}'s: left is cheaper. Thin: the rounds. Black: the bar that is set"
    return ratios(title, [group for group in groups if group[2]], Axis(1 / 32, 32))


def growth(results: Results) -> str:
    """What many of something cost, by case."""
    groups = []
    for case in GROWTH:
        rows = []
        for peer in results.took_part(results.growth):
            few, many = (results.grown(case.name, peer, f"{side}_cpu_us") for side in ("few", "many"))
            if ratio := Ratio.by(many, few):
                rows.append(Row(peer, ratio))
        groups.append((case.name, GROWTH_BAR if case.name in GROWTH_BARRED else None, rows))
    title = "CPU time a request where there are many, by that where there are few"
    return ratios(title, [group for group in groups if group[2]], Axis(0.5, 4))


def ratios(title: str, groups: list[tuple[str, float | None, list[Row]]], axis: Axis) -> str:
    """Bars that begin at 1, in groups."""
    if not groups:
        return ""
    height = TOP + BOTTOM + sum(ROW * len(rows) + GAP for _, _, rows in groups)
    drawing = Drawing(WIDTH, height, title)
    seen = {row.peer: None for _, _, rows in groups for row in rows}
    drawing.legend(44, list(seen))
    marks = [2.0**power for power in range(-5, 6) if axis.low <= 2.0**power <= axis.high]
    axis.draw(drawing, marks, TOP - 6, height - BOTTOM)
    y = TOP
    for name, bar, rows in groups:
        drawing.text(LEFT - 8, y + ROW * len(rows) / 2 + 4, name, anchor="end")
        for row in rows:
            middle, one = axis.at(row.ratio.middle), axis.at(1)
            drawing.rect(min(middle, one), y + 1, abs(middle - one), ROW - 3, colour(row.peer))
            ends = [axis.at(end) for end in (min(row.ratio.rounds), max(row.ratio.rounds))]
            drawing.line(ends[0], y + ROW / 2 - 0.5, ends[1], y + ROW / 2 - 0.5, stroke=SPREAD, width=2)
            drawing.text(max(middle, one, ends[1]) + 4, y + ROW - 3.5, row.ratio.median, size=9.5, fill="#444")
            y += ROW
        if bar:
            drawing.line(axis.at(bar), y - ROW * len(rows), axis.at(bar), y - 1, stroke=BAR, width=2)
        y += GAP
    drawing.line(axis.at(1), TOP - 6, axis.at(1), height - BOTTOM, stroke="#888")
    return drawing.whole()


def latency(results: Results) -> str:
    """From p50 over p99 to p99.9, at each share, side by side."""
    peers = results.took_part(results.latency)
    if not peers:
        return ""
    height = TOP + BOTTOM + 16 + len(results.latency) * (ROW * len(peers) + GAP)
    drawing = Drawing(WIDTH, height, "Latency in ms at a constant rate: p50 (small), p99, p99.9 (large)")
    drawing.legend(44, peers)
    middle = (LEFT + WIDTH - 20) / 2
    axes = [Axis(0.05, 1000, LEFT, middle - 12), Axis(0.05, 1000, middle + 12, WIDTH - 20)]
    for share, axis in zip(SHARES, axes, strict=True):
        axis.draw(drawing, [0.1, 1, 10, 100, 1000], TOP + 10, height - BOTTOM)
        drawing.text((axis.left + axis.right) / 2, TOP + 4, f"{share:.0%} of {results.first}'s most", anchor="middle")
        y = TOP + 16
        for case in results.latency:
            if share == SHARES[0]:
                drawing.text(LEFT - 8, y + ROW * len(peers) / 2 + 4, case, anchor="end")
            for peer in peers:
                found = [results.waits(case, peer, share, key) for key in ("p50_us", "p99_us", "p999_us")]
                if found[0]:
                    at = [axis.at(statistics.median(each) / 1000) for each in found]
                    drawing.line(at[0], y + ROW / 2, at[2], y + ROW / 2, stroke=colour(peer), width=1.5)
                    for x, radius in zip(at, (2, 3.2, 4.4), strict=True):
                        drawing.dot(x, y + ROW / 2, radius, colour(peer))
                y += ROW
            y += GAP
    return drawing.whole()


def memory(results: Results) -> str:
    """Before the first request, and for a connection."""
    groups = [("at start, MiB resident", {peer: each[0]["rss_kib"] / 1024 for peer, each in results.start.items()})]
    for case in IDLE:
        its = results.idle_bytes.get(case.name, {})
        groups.append((f"{case.name}, KiB each", {peer: statistics.median(each) / 1024 for peer, each in its.items()}))
    groups = [(name, its) for name, its in groups if its]
    if not groups:
        return ""
    height = TOP + BOTTOM + sum(ROW * len(its) + GAP for _, its in groups)
    drawing = Drawing(WIDTH, height, "Memory of a peer before its first request, and of an idle connection")
    drawing.legend(44, [peer for peer in results.peers if any(peer in its for _, its in groups)])
    axis = Axis(0.5, 256)
    axis.draw(drawing, [1, 4, 16, 64, 256], TOP - 6, height - BOTTOM)
    y = TOP
    for name, its in groups:
        drawing.text(LEFT - 8, y + ROW * len(its) / 2 + 4, name, anchor="end")
        for peer, value in its.items():
            drawing.rect(LEFT, y + 1, axis.at(value) - LEFT, ROW - 3, colour(peer))
            drawing.text(axis.at(value) + 4, y + ROW - 3.5, f"{value:.1f}", size=9.5, fill="#444")
            y += ROW
        y += GAP
    return drawing.whole()
