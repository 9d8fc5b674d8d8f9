"""Requests at a constant rate, whether answers come or not, each timed from when it was due (no coordinated omission).

The rate is a share of what the first peer, nginx, answers at most to the same generator.
"""

import statistics
from dataclasses import asdict

from cases import SHARES, Loaded
from peers import Peer
from peers.peer import Bench
from plan import Plan, show
from turns import Question, Turn, take_turn, verified

# Turns are shorter by this, and there are as many more: what else happens on the host spoils fewer of them.
TURNS_A_ROUND = 2

# Turns in which the most is found.
PEAK_TURNS = 2


def run(plan: Plan, bench: Bench) -> dict[str, list[dict]]:
    """By case, the turns of each peer in each round, with the share and the rate that they were at."""
    rounds: dict[str, list[dict]] = {}
    for case, takers in plan.loaded(bench):
        if takers and takers[0].name == plan.peers[0]:
            rounds[case.name] = run_case(case, takers, plan, bench)
    return rounds


def run_case(case: Loaded, peers: list[Peer], plan: Plan, bench: Bench) -> list[dict]:
    asked = [verified(case.name, case, peer, case.file, bench.files) for peer in peers]
    peak = peak_of(case, asked[0], plan, bench)
    rounds = []
    for share in SHARES:
        load = case.paced(round(share * peak, 1))
        for number in range(plan.rounds * TURNS_A_ROUND):
            for question in asked[:: 1 if number % 2 == 0 else -1]:
                turn = take_turn(question, Turn(number, plan.seconds / TURNS_A_ROUND, load, bench.generator))
                tail = f"{turn.p50_us:8.0f} {turn.p99_us:8.0f} {turn.p999_us:8.0f} µs at {load.rate:.0f}/s"
                show(f"{case.name} at {share:.0%}", turn.peer, tail)
                rounds.append({"share": share, "rate": load.rate} | asdict(turn))
    return rounds


def peak_of(case: Loaded, question: Question, plan: Plan, bench: Bench) -> float:
    """The most requests a second."""
    turns = [
        take_turn(question, Turn(number, plan.seconds, case.load.own(), bench.generator)) for number in range(PEAK_TURNS)
    ]
    return statistics.median(turn.requests_per_s for turn in turns)
