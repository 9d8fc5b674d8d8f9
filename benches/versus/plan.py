"""What a run is to measure, and the peers that take part in it."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby

from cases import LOADED, Loaded
from peers import PEERS, Peer
from peers.peer import PARTS, PASS, Bench, Setup, Unsupported


@dataclass
class Plan:
    # Names; the first is what the others are compared with.
    peers: list[str]
    rounds: int
    # Of one peer's turn.
    seconds: int
    # Names of the only ones; else all.
    cases: list[str]
    # No figures: each is asked a little, and what it answers is looked at.
    smoke: bool = False
    # Who was left out of what, and why.
    notes: list[str] = field(default_factory=list)

    def chosen(self, case) -> bool:
        return not self.cases or case.name in self.cases

    def note(self, note: str):
        if note not in self.notes:
            self.notes.append(note)
            print(f"versus: {note}", file=sys.stderr)

    def leave_out_missing(self):
        """Takes those that are not installed out of the run."""
        missing = {name: PEERS[name].missing() for name in self.peers}
        self.peers = [name for name in self.peers if not missing[name]]
        for name, what in missing.items():
            if what:
                self.note(f"{name} is left out: there is no {what}; `--install` gets it")

    def able(self, needs: list[str]) -> list[str]:
        """The peers that can do this."""
        able = []
        for name in self.peers:
            lacking = [need for need in needs if need in PEERS[name].lacks]
            for need in lacking:
                self.note(f"{name} is not in cases of {need}: {PEERS[name].lacks[need]}")
            if not lacking:
                able.append(name)
        return able

    @contextmanager
    def running(self, bench: Bench, setup: Setup) -> Iterator[list[Peer]]:
        """The peers that can be set up so, started. What only some cases need, as TLS, is looked at case by case."""
        with ExitStack() as stack:
            peers = []
            for name in self.able(list(setup.features) or [PASS]):
                try:
                    peers.append(stack.enter_context(PEERS[name](bench, setup)))
                except Unsupported as unsupported:
                    features = " and ".join(feature for feature in setup.features if feature in PARTS)
                    self.note(f"{name} is left out of the cases with {features}: {unsupported}")
            yield peers

    def loaded(self, bench: Bench) -> Iterator[tuple[Loaded, list[Peer]]]:
        """The chosen cases of requests for a file, each with the peers that can do it, which run."""
        for setup, cases in groupby(filter(self.chosen, LOADED), key=lambda case: case.setup):
            with self.running(bench, setup) as peers:
                for case in cases:
                    able = self.able(case.needs)
                    yield case, [peer for peer in peers if peer.name in able]


def show(case: str, peer: str, what: str):
    print(f"{case:22} {peer:22} {what}", file=sys.stderr)
