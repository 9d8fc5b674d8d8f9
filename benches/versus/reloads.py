"""Latency at a constant rate while a peer reads its configuration again and again, beside the same rate in peace."""

import time
from dataclasses import asdict

from asking import Wrong
from loads import LoadFailed, Own, finished
from peers import PEERS, Peer
from peers.peer import PASS, Bench, Setup
from plan import Plan, show
from turns import base

RATE = 5000
SECONDS = 6
# Between two reloads.
PAUSE_S = 1.0
# Clients of a peer that closes connections make new ones.
LOAD = Own(rate=RATE, reconnect=True)
SMOKE_LOAD = Own(rate=200, connections=4, reconnect=True)


def run(plan: Plan, bench: Bench) -> dict[str, list[dict]]:
    """By peer, in each round the latency in peace and while it is reloaded."""
    rounds: dict[str, list[dict]] = {}
    able = [name for name in plan.able([PASS]) if PEERS[name].reloads]
    for number in range(plan.rounds):
        for name in able[:: 1 if number % 2 == 0 else -1]:
            with PEERS[name](bench, Setup()) as peer:
                turns = {what: turn(peer, what == "reloads", plan, bench) for what in ("peace", "reloads")}
            rounds.setdefault(name, []).append(turns)
            p99 = [f"{turns[what]['p99_us'] / 1000:.2f}" for what in turns]
            show("reloads", name, f"p99 {' ms, while reloaded '.join(p99)} ms; {turns['reloads']['retried']} asked again")
    return rounds


def turn(peer: Peer, reloaded: bool, plan: Plan, bench: Bench) -> dict:
    load, seconds = (SMOKE_LOAD, 1.0) if plan.smoke else (LOAD, SECONDS)
    generators = load.start(f"{base(peer, False)}/1KiB", seconds, bench.generator)
    begun = time.monotonic()
    count = 0
    while reloaded and time.monotonic() - begun < seconds - PAUSE_S / 2:
        time.sleep(PAUSE_S / 2)
        count += 1
        # Something is different each time, or a peer may leave everything as it is.
        peer.settings["READ"] = 30 + count
        for template in (*peer.templates_beside, peer.template):
            peer.write(template)
        peer.reload()
        time.sleep(PAUSE_S / 2)
    try:
        answered = load.answered(finished(generators, seconds), seconds)
    except LoadFailed as failed:
        raise Wrong(f"reloads: {peer.name}: the load generator says\n{failed}") from None
    if answered.unanswered:
        raise Wrong(f"reloads: {peer.name} left {answered.unanswered} requests without an answer")
    return asdict(answered) | {"reloads": count}
