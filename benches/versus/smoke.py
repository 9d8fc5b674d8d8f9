"""Every peer that is installed answers every case as it should. No figure decides anything."""

from dataclasses import replace
from itertools import groupby

import growth
import reloads
from cases import LOADED
from peers.peer import Bench
from plan import Plan, show
from turns import Turn, questions, take_turn

REQUESTS = 40
# Of each, and no longer: a slow machine then has fewer.
SECONDS = 0.3


def smoke(plan: Plan, bench: Bench):
    for setup, cases in groupby(LOADED, key=lambda case: case.setup):
        with plan.running(bench, setup) as peers:
            for case in (case for case in cases if plan.chosen(case)):
                able = plan.able(case.needs)
                load = replace(case.load.own(), requests=REQUESTS, connections=4)
                for peer in (peer for peer in peers if peer.name in able):
                    for question in questions(case, peer, bench.files):
                        take_turn(question, Turn(0, SECONDS, load, bench.generator))
                        show(question.name, peer.name, "answers")
    if not plan.cases:
        reloads.run(plan, bench)
        growth.run(plan, bench)
