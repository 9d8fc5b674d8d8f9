"""What a request costs where there are many of something, beside where there are few: both run, and take turns."""

import time
from contextlib import ExitStack

import gauges
from asking import Wrong
from cases import GROWTH, Growth
from loads import LoadFailed, Own, finished
from peers import PEERS, Peer
from peers.peer import CACHE, Bench, Setup
from plan import Plan, show
from turns import base

# Longer than any filling takes.
FILL_LIMIT_S = 300
# What a smoke takes for many.
SMOKE_LARGE = 50


def run(plan: Plan, bench: Bench) -> dict[str, list[dict]]:
    """By case, of each peer in each round: CPU time a request and memory, where there are few and where there are many."""
    rounds: dict[str, list[dict]] = {}
    for case in GROWTH:
        if plan.chosen(case):
            for name in plan.able(list(case.features)):
                if case.what in PEERS[name].grows:
                    rounds.setdefault(case.name, []).extend(run_case(case, name, plan, bench))
    return rounds


def run_case(case: Growth, name: str, plan: Plan, bench: Bench) -> list[dict]:
    counts = (case.small, SMOKE_LARGE if plan.smoke else case.large)
    rounds = []
    with ExitStack() as stack:
        peers = [stack.enter_context(PEERS[name](bench, Setup(case.features, many=(case.what, count)))) for count in counts]
        for peer, count in zip(peers, counts, strict=True):
            fill(case, peer, count, bench)
        for number in range(plan.rounds):
            round = {"peer": name, "small": counts[0], "large": counts[1]}
            sides = list(zip(("few", "many"), peers, counts, strict=True))
            for side, peer, count in sides[:: 1 if number % 2 == 0 else -1]:
                round |= {f"{side}_{key}": value for key, value in take_turn(case, peer, count, plan, bench).items()}
            show(case.name, name, f"{round['few_cpu_us']:9.1f} µs with {counts[0]}, {round['many_cpu_us']:.1f} µs with {counts[1]}")
            rounds.append(round)
    return rounds


def fill(case: Growth, peer: Peer, count: int, bench: Bench):
    if case.filled:
        loaded(case, peer, case.filling(count), FILL_LIMIT_S, bench)
    elif CACHE in case.features:
        loaded(case, peer, Own(requests=1, connections=1), FILL_LIMIT_S, bench)


def take_turn(case: Growth, peer: Peer, count: int, plan: Plan, bench: Bench) -> dict:
    pids = peer.pids()
    origin_before, cpu_before = peer.origin.requests(), gauges.cpu_ns(pids)
    requests = loaded(case, peer, case.load(count), plan.seconds, bench)
    # The log is written a little later.
    time.sleep(0.1)
    cpu_us = (gauges.cpu_ns(pids) - cpu_before) / 1000
    passed_on = peer.origin.requests() - origin_before
    if CACHE in case.features and passed_on:
        raise Wrong(f"{case.name}: of {requests} requests for what is stored, {peer.name} passed {passed_on} on")
    return {"cpu_us": cpu_us / requests, "requests": requests, "pss_kib": gauges.pss_kib(pids)}


def loaded(case: Growth, peer: Peer, load: Own, seconds: float, bench: Bench) -> int:
    """How many requests were answered."""
    try:
        url = f"{base(peer, False)}/{case.path}"
        answered = load.answered(finished(load.start(url, seconds, bench.generator), seconds), seconds)
    except LoadFailed as failed:
        raise Wrong(f"{case.name}: {peer.name}: the load generator says\n{failed}") from None
    if answered.unanswered:
        raise Wrong(f"{case.name}: {peer.name} left {answered.unanswered} requests without an answer")
    return answered.requests
