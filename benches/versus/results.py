"""What was measured: kept as JSON, put together from several runs, and asked for figures."""

import json
import statistics
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

# What belongs to a peer within a round, and so to a case.
BY_CASE = ("loaded", "latency", "idle_bytes", "growth")
BY_PEER = ("start", "reloads", "peers")


@dataclass
class Results:
    # Of one peer's turn, and how many turns there were.
    seconds: int
    rounds: int
    # What was left out, and why.
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    # Name and version, the one that others are compared with first.
    peers: dict[str, str] = field(default_factory=dict)
    # By case, in the order in which they were measured.
    loaded: dict[str, list[dict]] = field(default_factory=dict)
    latency: dict[str, list[dict]] = field(default_factory=dict)
    # By peer, PSS and RSS before the first request.
    start: dict[str, list[dict]] = field(default_factory=dict)
    # By case and peer, one figure a round: bytes a connection.
    idle_bytes: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    # By peer.
    reloads: dict[str, list[dict]] = field(default_factory=dict)
    # By case.
    growth: dict[str, list[dict]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Results":
        kept = json.loads(path.read_text())
        return cls(**{each.name: kept[each.name] for each in fields(cls) if each.name in kept})

    def write(self, path: Path, machine: dict):
        path.write_text(json.dumps({"machine": machine} | asdict(self), indent=1) + "\n")

    def add(self, newer: "Results", order: list[str]):
        """Puts the cases of another run in, in place of the same; then cases and peers stand in this order."""
        for name in BY_CASE + BY_PEER:
            mine, others = getattr(self, name), getattr(newer, name)
            whole = mine | others
            if name == "idle_bytes":
                whole = {case: mine.get(case, {}) | each for case, each in whole.items()}
            ordered = sorted(whole, key=lambda key: order.index(key) if key in order else len(order))
            setattr(self, name, {key: whole[key] for key in ordered})
        for name in ("notes", "commands"):
            mine = getattr(self, name)
            mine += [each for each in getattr(newer, name) if each not in mine]

    @property
    def first(self) -> str:
        """Who the others are compared with."""
        return next(iter(self.peers))

    @property
    def others(self) -> list[str]:
        return [peer for peer in self.peers if peer != self.first]

    def took_part(self, by_case: dict[str, list[dict]]) -> list[str]:
        """The peers that took part in one of the cases at least."""
        names = {each["peer"] for rounds in by_case.values() for each in rounds}
        return [peer for peer in self.peers if peer in names]

    def of(self, case: str, peer: str, key: str) -> list:
        """A figure of each round; none if the peer was left out of the case."""
        return [each[key] for each in self.loaded.get(case, []) if each["peer"] == peer]

    def cpu_us(self, case: str, peer: str) -> list[float]:
        return self.of(case, peer, "cpu_us_per_request")

    def waits(self, case: str, peer: str, share: float, key: str) -> list[float]:
        """A figure of each round at a share of the most that the first peer answers."""
        rounds = self.latency.get(case, [])
        return [each[key] for each in rounds if each["peer"] == peer and each["share"] == share]

    def grown(self, case: str, peer: str, key: str) -> list:
        return [each[key] for each in self.growth.get(case, []) if each["peer"] == peer]


@dataclass
class Ratio:
    """A figure by that of something else in the same round."""

    rounds: list[float]

    @classmethod
    def by(cls, its: list[float], others: list[float]) -> "Ratio | None":
        """None if one of the two was not measured."""
        pairs = list(zip(its, others))
        return cls([one / other for one, other in pairs if other]) if pairs else None

    @property
    def middle(self) -> float:
        return statistics.median(self.rounds)

    @property
    def median(self) -> str:
        return f"{self.middle:.2f}"

    @property
    def range(self) -> str:
        return f"{min(self.rounds):.2f} – {max(self.rounds):.2f}"

    def verdict(self, bar: float) -> str:
        """As people read it: the two decimals that are shown decide."""
        return "pass" if float(self.median) <= bar else "**fail**"
