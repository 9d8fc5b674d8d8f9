#!/usr/bin/env python3
"""Tollgate beside other proxies, with equal settings, in one command. See README.md.

Peers take turns in short rounds, so that what else the machine does falls on all of them; what counts is
the ratio of two peers within a round.
"""

import argparse
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import gauges
import report
from asking import Wrong, ask, connect
from cases import IDLE, LOADED, Idle, Loaded
from files import Files
from peers import HERE, PEERS, REPOSITORY, Bench, DidNotStart, Origin, Peer, Unsupported
from turns import Round, questions, take_turn

IDLE_SETTLE_S = 1.5
MEMORY = Path("/dev/shm")


def main():
    options = arguments()
    raise_open_files_limit()
    notes = leave_out_missing(options)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="versus-")))
        in_memory = MEMORY if os.access(MEMORY, os.W_OK) else folder
        memory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="versus-", dir=in_memory)))
        files = Files(folder / "files")
        origin = opened.enter_context(Origin(folder, files))
        bench = Bench(folder, memory, files, origin, make_certificate(folder), options.tollgate)
        loaded = run_loaded(options, bench, notes)
        idle = {case.name: run_idle(case, options, bench) for case in IDLE if chosen(case, options)}
        versions = {name: PEERS[name].version() for name in options.peer}
    results = report.Results(
        seconds=options.seconds,
        peers=versions,
        notes=notes,
        loaded={name: [asdict(each) for each in rounds] for name, rounds in loaded.items()},
        idle_bytes=idle,
    )
    print(report.markdown(results))
    if not options.quick and not options.case:
        print(f"written to {report.save(results, HERE / 'results')}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tollgate beside other proxies, with equal settings.")
    parser.add_argument("--rounds", type=int, default=6, help="rounds a case; each has every peer once")
    parser.add_argument("--seconds", type=int, default=4, help="length of a peer's turn")
    names = [case.name for case in LOADED + IDLE]
    parser.add_argument("--case", action="append", choices=names, help="only this one, and nothing is saved")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="the first is what the others are compared with")
    parser.add_argument("--tollgate", type=Path, help="an executable to use instead of building one")
    parser.add_argument("--quick", action="store_true", help="two rounds of a second, nothing is saved")
    options = parser.parse_args()
    options.peer = options.peer or ["nginx", "tollgate", "varnish"]
    if options.quick:
        options.rounds, options.seconds = 2, 1
    if not options.tollgate and "tollgate" in options.peer:
        subprocess.run(["cargo", "build", "--release", "--bin", "tollgate"], cwd=REPOSITORY, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
        options.tollgate = target / "release" / "tollgate"
    return options


def chosen(case: Loaded | Idle, options: argparse.Namespace) -> bool:
    return not options.case or case.name in options.case


def leave_out_missing(options: argparse.Namespace) -> list[str]:
    """Notes on peers that are not installed; they are taken out of those to compare."""
    missing = {name: PEERS[name].missing() for name in options.peer}
    options.peer = [name for name in options.peer if not missing[name]]
    notes: list[str] = []
    for name, what in missing.items():
        if what:
            add_note(notes, f"{name} is left out: there is no {what}")
    return notes


def add_note(notes: list[str], note: str):
    notes.append(note)
    print(f"versus: {note}", file=sys.stderr)


def run_loaded(options: argparse.Namespace, bench: Bench, notes: list[str]) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {}
    cases = [case for case in LOADED if chosen(case, options)]
    for features, its_cases in groupby(cases, key=lambda case: case.features):
        with ExitStack() as running:
            peers = started(options, bench, features, running, notes)
            for case in its_cases:
                takers = [peer for peer in peers if peer.tls or not case.load.tls]
                for name, measured in run_case(case, takers, options, bench):
                    show(name, measured)
                    rounds.setdefault(name, []).append(measured)
    return rounds


def started(
    options: argparse.Namespace, bench: Bench, features: tuple[str, ...], running: ExitStack, notes: list[str]
) -> list[Peer]:
    """The peers that can be compared in cases with these features."""
    peers = []
    for name in options.peer:
        if not features and not PEERS[name].passes_on:
            continue
        try:
            peers.append(running.enter_context(PEERS[name](bench, features)))
        except Unsupported as unsupported:
            add_note(notes, f"{name} is left out of the cases with {' and '.join(features)}: {unsupported}")
    return peers


def run_case(case: Loaded, peers: list[Peer], options: argparse.Namespace, bench: Bench):
    asked = {peer.name: questions(case, peer, bench.files) for peer in peers}
    for number in range(options.rounds):
        order = 1 if number % 2 == 0 else -1
        for peer in peers[::order]:
            for question in asked[peer.name][::order]:
                yield question.name, take_turn(question, number, options.seconds, bench.origin)


def run_idle(case: Idle, options: argparse.Namespace, bench: Bench) -> dict[str, list[float]]:
    """Bytes a connection, of fresh processes, in each of a few rounds."""
    names = [name for name in options.peer if PEERS[name].passes_on]
    bytes_each: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1 if options.quick else 3):
        for name in names if number % 2 == 0 else reversed(names):
            with PEERS[name](bench, ()) as each:
                bytes_each[name].append(idle_bytes(case, each))
            print(f"{case.name:22} {name:22} {bytes_each[name][-1]:9.0f} bytes a connection", file=sys.stderr)
    return bytes_each


def idle_bytes(case: Idle, peer: Peer) -> float:
    # What the first connections make a process allocate is not the price of a further one.
    hold(case, peer, 100)
    before = gauges.pss_kib(peer.pids())
    return (hold(case, peer, case.connections) - before) * 1024 / case.connections


def hold(case: Idle, peer: Peer, count: int) -> int:
    """Memory in KiB while so many connections are open that have each had an answer."""
    with ExitStack() as opened:
        connections = []
        for _ in range(count):
            connections.append(opened.enter_context(closing(connect(peer, case.tls))))
            ask(connections[-1], "1KiB")
        time.sleep(IDLE_SETTLE_S)
        pss_kib = gauges.pss_kib(peer.pids())
        for connection in connections:
            if connection.sock is None:
                raise Wrong(f"{case.name}: {peer.name} does not keep connections")
            connection.sock.setblocking(False)
            try:
                if not connection.sock.recv(1):
                    raise Wrong(f"{case.name}: {peer.name} closed a connection")
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
    time.sleep(IDLE_SETTLE_S)
    return pss_kib


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=20
    )
    return certificate, key


def raise_open_files_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))


def show(name: str, measured: Round):
    line = f"{name:22} {measured.peer:22} {measured.cpu_us_per_request:9.1f} µs {measured.requests_per_s:9.0f}/s"
    print(line, file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (Wrong, DidNotStart) as wrong:
        sys.exit(f"versus: {wrong}")
