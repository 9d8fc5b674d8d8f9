#!/usr/bin/env python3
"""Tollgate beside other proxies, with equal settings, in one command. See README.md.

Peers take turns in short rounds, so that what else the machine does falls on all of them; what counts is
the ratio of two peers within a round.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import growth
import installing
import latency
import memory
import reloads
import report
import throughput
from asking import Wrong
from cases import GROWTH, IDLE, LOADED
from files import Files
from peers import ALL, PEERS
from peers.origins import Echo, Origin
from peers.peer import Bench, Certificate
from peers.server import HERE, REPOSITORY, DidNotStart
from plan import Plan
from results import Results
from smoke import smoke

MEMORY = Path("/dev/shm")
GROUPS = ("throughput", "latency", "memory", "reloads", "growth")
# Those that a run has unless it names others: the default size has to end within a quarter of an hour.
USUAL = ("nginx", "tollgate")


def main():
    begun = time.monotonic()
    options = arguments()
    if options.install:
        installing.install()
    if missing := installing.missing_tools():
        sys.exit(f"versus: there is no {missing}; `--install` gets it")
    raise_open_files_limit()
    plan = Plan(options.peer, options.rounds, options.seconds, options.case, options.smoke)
    plan.notes += options.note
    plan.leave_out_missing()
    build(options)
    with prepared(options) as bench:
        if options.smoke:
            smoke(plan, bench)
            print(f"versus: all as it should be, in {time.monotonic() - begun:.0f} s")
            return
        results = Results(seconds=plan.seconds, rounds=plan.rounds, notes=plan.notes)
        failed = None
        try:
            measure(options.group, plan, bench, results)
        except (Wrong, DidNotStart) as wrong:
            # What was measured until then is worth keeping: it took minutes.
            failed = wrong
    results.peers = {name: PEERS[name].version() for name in plan.peers}
    if options.commit and "tollgate" in results.peers:
        results.peers["tollgate"] = f"tollgate, commit {options.commit}"
    results.commands = [command_of(options)]
    print(report.markdown(results))
    if options.save:
        path = report.save(results, HERE / "results", options.add)
        print(f"written to {path}")
    if failed:
        raise failed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tollgate beside other proxies, with equal settings.")
    parser.add_argument("--rounds", type=int, default=2, help="rounds a case; each has every peer once")
    parser.add_argument("--seconds", type=int, default=1, help="length of a peer's turn")
    parser.add_argument("--group", action="append", choices=GROUPS, help="only this one")
    names = [case.name for case in LOADED + IDLE + GROWTH]
    parser.add_argument("--case", action="append", choices=names, help="only this one, and nothing is saved")
    names = [*PEERS, "all"]
    parser.add_argument("--peer", action="append", choices=names, help="the first is what the others are compared with")
    parser.add_argument("--tollgate", type=Path, help="an executable to use instead of building one")
    parser.add_argument("--note", action="append", default=[], help="what readers of the results should know of the run")
    parser.add_argument("--commit", help="what that was built from")
    parser.add_argument("--generator", type=Path, help="likewise, of the generator of load")
    parser.add_argument("--install", action="store_true", help="get what is missing, from Debian and PyPI")
    parser.add_argument("--quick", action="store_true", help="two rounds of a second, nothing is saved")
    parser.add_argument("--add", action="store_true", help="put the cases of this run into the results of the day, in place of the same")
    parser.add_argument("--smoke", action="store_true", help="look at answers alone, with few requests; saves nothing")
    options = parser.parse_args()
    options.peer = list(dict.fromkeys(options.peer or USUAL))
    if "all" in options.peer:
        options.peer = [peer.name for peer in ALL]
    options.save = not (options.quick or options.case and not options.add)
    options.group, options.case = options.group or GROUPS, options.case or []
    if options.quick or options.smoke:
        options.rounds, options.seconds = (1 if options.smoke else 2), 1
    return options


def command_of(options: argparse.Namespace) -> str:
    """How to have the same again, with what is built by the command itself."""
    parts = ["python3 benches/versus/run.py", f"--rounds {options.rounds}", f"--seconds {options.seconds}"]
    for name, default in (("group", GROUPS), ("peer", list(USUAL)), ("case", [])):
        chosen = getattr(options, name)
        parts += [f"--{name} {each}" for each in chosen] if chosen != default else []
    return " ".join(parts).replace(" ".join(f"--peer {peer.name}" for peer in ALL), "--peer all")


def build(options: argparse.Namespace):
    """Builds what was not given."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release"
    cargo = ["cargo", "build", "--release"]
    if not options.generator:
        subprocess.run([*cargo, "--package", "tollgate-versus-load"], cwd=REPOSITORY, check=True)
        options.generator = folder / "versus-load"
    if not options.tollgate:
        subprocess.run([*cargo, "--bin", "tollgate"], cwd=REPOSITORY, check=True)
        options.tollgate = folder / "tollgate"


@contextmanager
def prepared(options: argparse.Namespace) -> Iterator[Bench]:
    """Folders, files, and the servers behind the peers."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="versus-")))
        in_memory = MEMORY if os.access(MEMORY, os.W_OK) else folder
        stores = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="versus-", dir=in_memory)))
        files = Files(folder / "files")
        generator, tollgate = options.generator.resolve(), options.tollgate.resolve()
        origin = opened.enter_context(Origin(folder, files, everywhere="growth" in options.group))
        echo = opened.enter_context(Echo(folder, generator))
        yield Bench(folder, stores, files, origin, echo, make_certificate(folder), tollgate, generator)


def measure(groups: list[str], plan: Plan, bench: Bench, results: Results):
    if "throughput" in groups:
        results.loaded = throughput.run(plan, bench)
    if "latency" in groups:
        results.latency = latency.run(plan, bench)
    if "memory" in groups:
        results.start = {} if plan.cases else memory.at_start(plan, bench)
        results.idle_bytes = memory.idle(plan, bench)
    if "reloads" in groups and not plan.cases:
        results.reloads = reloads.run(plan, bench)
    if "growth" in groups:
        results.growth = growth.run(plan, bench)


def make_certificate(folder: Path) -> Certificate:
    certificate, key, both = folder / "certificate.pem", folder / "key.pem", folder / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=20
    )
    both.write_text(certificate.read_text() + key.read_text())
    return Certificate(certificate, key, both)


def raise_open_files_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))


if __name__ == "__main__":
    try:
        main()
    except (Wrong, DidNotStart) as wrong:
        sys.exit(f"versus: {wrong}")
