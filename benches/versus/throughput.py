"""Requests as fast as they are answered: what each costs, and how many there are."""

from dataclasses import asdict

from cases import Loaded
from peers import Peer
from peers.peer import Bench
from plan import Plan, show
from turns import Turn, questions, take_turn


def run(plan: Plan, bench: Bench) -> dict[str, list[dict]]:
    """By case, the turn of each peer in each round."""
    rounds: dict[str, list[dict]] = {}
    for case, takers in plan.loaded(bench):
        for name, turn in run_case(case, takers, plan, bench):
            rounds.setdefault(name, []).append(turn)
    return rounds


def run_case(case: Loaded, peers: list[Peer], plan: Plan, bench: Bench):
    asked = {peer.name: questions(case, peer, bench.files) for peer in peers}
    for number in range(plan.rounds):
        order = 1 if number % 2 == 0 else -1
        for peer in peers[::order]:
            for question in asked[peer.name][::order]:
                turn = take_turn(question, Turn(number, plan.seconds, case.load, bench.generator))
                show(question.name, peer.name, f"{turn.cpu_us_per_request:9.1f} µs {turn.requests_per_s:9.0f}/s")
                yield question.name, asdict(turn)
