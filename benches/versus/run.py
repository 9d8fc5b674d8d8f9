#!/usr/bin/env python3
"""Tollgate beside other proxies, with equal settings, in one command. See README.md.

Peers take turns in short rounds, so that what else the machine does falls on all of them; what counts is
the ratio of two peers within a round.
"""

import argparse
import hashlib
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import gauges
import report
from cases import IDLE, LOADED, SIZES, Idle, Loaded
from loads import LoadFailed, finished
from peers import HERE, PEERS, REPOSITORY, Origin, Peer

LOG_LIMIT_S = 5
# Both peers write a line after 50 ms at the latest; those of cut requests of the round before come late.
LOG_SETTLE_S = 0.25
IDLE_SETTLE_S = 1.5


@dataclass
class Round:
    """One peer under one load."""

    peer: str
    requests: int
    requests_per_s: float
    cpu_us_per_request: float
    p50_us: int | None
    p99_us: int | None
    pss_kib: int
    rss_peak_kib: int


class Wrong(Exception):
    """A peer did not do what was asked; its figures would mean nothing."""


def main():
    options = arguments()
    raise_open_files_limit()
    with tempfile.TemporaryDirectory(prefix="versus-") as folder:
        folder = Path(folder)
        certificate = make_certificate(folder)
        files = make_files(folder)
        with Origin(folder, files) as origin:

            def peer(name: str) -> Peer:
                return PEERS[name](folder, origin, certificate, options.tollgate)

            loaded, versions = run_loaded(options, peer)
            idle = {case.name: run_idle(case, options, peer) for case in IDLE if chosen(case, options)}
    results = report.Results(
        seconds=options.seconds,
        peers=versions,
        loaded={name: [asdict(each) for each in rounds] for name, rounds in loaded.items()},
        idle_bytes=idle,
    )
    print(report.markdown(results))
    if not options.quick:
        print(f"written to {report.save(results, HERE / 'results')}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tollgate beside other proxies, with equal settings.")
    parser.add_argument("--rounds", type=int, default=6, help="rounds a case; each has every peer once")
    parser.add_argument("--seconds", type=int, default=4, help="length of a peer's turn")
    parser.add_argument("--case", action="append", choices=[case.name for case in LOADED + IDLE])
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="the first is what the others are compared with")
    parser.add_argument("--tollgate", type=Path, help="an executable to use instead of building one")
    parser.add_argument("--quick", action="store_true", help="two rounds of a second, nothing is saved")
    options = parser.parse_args()
    options.peer = options.peer or ["nginx", "tollgate"]
    if options.quick:
        options.rounds, options.seconds = 2, 1
    if not options.tollgate:
        subprocess.run(["cargo", "build", "--release", "--bin", "tollgate"], cwd=REPOSITORY, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
        options.tollgate = target / "release" / "tollgate"
    return options


def chosen(case: Loaded | Idle, options: argparse.Namespace) -> bool:
    return not options.case or case.name in options.case


def run_loaded(options: argparse.Namespace, peer) -> tuple[dict[str, list[Round]], dict[str, str]]:
    rounds: dict[str, list[Round]] = {}
    with ExitStack() as running:
        peers = [running.enter_context(peer(name)) for name in options.peer]
        for case in LOADED:
            if not chosen(case, options):
                continue
            for each in peers:
                verify(case, each)
            rounds[case.name] = []
            for number in range(options.rounds):
                for each in peers if number % 2 == 0 else reversed(peers):
                    rounds[case.name].append(run_round(case, each, options.seconds))
                    show(case, rounds[case.name][-1])
        return rounds, {each.name: each.version() for each in peers}


def run_round(case: Loaded, peer: Peer, seconds: int) -> Round:
    empty_log(peer)
    pids = peer.pids()
    forget_peaks(pids)
    cpu_before = gauges.cpu_ns(pids)
    url = f"https://127.0.0.1:{peer.https}" if case.load.tls else f"http://127.0.0.1:{peer.http}"
    generators = case.load.start(f"{url}/{case.file}", seconds)
    time.sleep(seconds * 0.7)
    pss_kib = gauges.pss_kib(pids)
    try:
        answered = case.load.answered(finished(generators, seconds), seconds)
    except LoadFailed as failed:
        raise Wrong(f"{case.name}, {peer.name}: the load generator says\n{failed}") from None
    await_log(case, peer, answered.requests)
    if peer.pids() != pids:
        raise Wrong(f"{case.name}: {peer.name} has replaced a process")
    cpu_us = (gauges.cpu_ns(pids) - cpu_before) / 1000
    return Round(
        peer=peer.name,
        requests=answered.requests,
        requests_per_s=answered.requests / answered.seconds,
        cpu_us_per_request=cpu_us / answered.requests,
        p50_us=answered.p50_us,
        p99_us=answered.p99_us,
        pss_kib=pss_kib,
        rss_peak_kib=gauges.rss_peak_kib(pids),
    )


def await_log(case: Loaded, peer: Peer, requests: int):
    """Each answer has a line with its status and length. Those under way at the end may have one too."""
    good_line = f'" 200 {case.bytes} '.encode()
    deadline = time.monotonic() + LOG_LIMIT_S
    while True:
        log = peer.access_log.read_bytes()
        lines, good = log.count(b"\n"), log.count(good_line)
        if good >= requests and lines <= requests + case.load.in_flight:
            return
        if time.monotonic() > deadline:
            raise Wrong(f"{case.name}: {peer.name} logged {lines} lines, {good} of them good, for {requests} answers")
        time.sleep(0.02)


def empty_log(peer: Peer):
    time.sleep(LOG_SETTLE_S)
    os.truncate(peer.access_log, 0)


def verify(case: Loaded, peer: Peer):
    """The bytes of the file arrive, all of them, and the log says so."""
    empty_log(peer)
    with connect(peer, case.load.tls) as connection:
        head, body = ask(connection, case.file)
    expected = content(case.bytes)
    if not head.startswith(b"HTTP/1.1 200 ") or digest(body) != digest(expected):
        raise Wrong(f"{case.name}: {peer.name} answered with {len(body)} bytes and\n{head.decode('latin-1')}")
    await_log(case, peer, 1)


def run_idle(case: Idle, options: argparse.Namespace, peer) -> dict[str, list[float]]:
    """Bytes a connection, of fresh processes, in each of a few rounds."""
    bytes_each: dict[str, list[float]] = {name: [] for name in options.peer}
    for number in range(1 if options.quick else 3):
        for name in options.peer if number % 2 == 0 else reversed(options.peer):
            with peer(name) as each:
                bytes_each[name].append(idle_bytes(case, each))
            print(f"{case.name:18} {name:22} {bytes_each[name][-1]:9.0f} bytes a connection", file=sys.stderr)
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
            connections.append(opened.enter_context(connect(peer, case.tls)))
            ask(connections[-1], "1KiB")
        time.sleep(IDLE_SETTLE_S)
        pss_kib = gauges.pss_kib(peer.pids())
        for connection in connections:
            connection.setblocking(False)
            try:
                if not connection.recv(1):
                    raise Wrong(f"{case.name}: {peer.name} closed a connection")
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
    time.sleep(IDLE_SETTLE_S)
    return pss_kib


def connect(peer: Peer, tls: bool) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", peer.https if tls else peer.http), timeout=10)
    if not tls:
        return plain
    # The certificate is of our own making.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


def ask(connection: socket.socket, file: str) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    connection.sendall(f"GET /{file} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    parts, have = [body], len(body)
    while have < length:
        parts.append(received(connection))
        have += len(parts[-1])
    return head, b"".join(parts)


def received(connection: socket.socket) -> bytes:
    data = connection.recv(256 * 1024)
    if not data:
        raise Wrong("a connection was closed within an answer")
    return data


def make_files(folder: Path) -> Path:
    files = folder / "files"
    files.mkdir()
    for name, size in SIZES.items():
        (files / name).write_bytes(content(size))
    return files


def content(size: int) -> bytes:
    """The same bytes at each run, and nothing that repeats within a buffer."""
    return b"".join(hashlib.sha256(block.to_bytes(4)).digest() for block in range(size // 32))


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=20
    )
    return certificate, key


def forget_peaks(pids: list[int]):
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def raise_open_files_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))


def show(case: Loaded, measured: Round):
    line = f"{case.name:18} {measured.peer:22} {measured.cpu_us_per_request:9.1f} µs {measured.requests_per_s:9.0f}/s"
    print(line, file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"versus: {wrong}")
