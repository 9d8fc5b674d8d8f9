"""Memory of a peer that nobody has asked yet, and of a connection that stays open after an answer."""

import ssl
import time
from contextlib import ExitStack, closing

import gauges
from asking import Wrong, ask, connect
from cases import IDLE, Idle
from peers import PEERS, Peer
from peers.peer import PASS, TLS, Bench, Setup
from plan import Plan, show

SETTLE_S = 1.5
ROUNDS = 3


def at_start(plan: Plan, bench: Bench) -> dict[str, list[dict]]:
    """By peer, PSS and RSS in KiB of fresh processes."""
    measured: dict[str, list[dict]] = {}
    for name in plan.peers:
        with PEERS[name](bench, Setup()) as peer:
            time.sleep(SETTLE_S)
            pids = peer.pids()
            measured[name] = [{"pss_kib": gauges.pss_kib(pids), "rss_kib": gauges.rss_kib(pids)}]
            show("start", name, f"{measured[name][0]['rss_kib'] / 1024:9.1f} MiB resident")
    return measured


def idle(plan: Plan, bench: Bench) -> dict[str, dict[str, list[float]]]:
    """By case and peer, bytes a connection, of fresh processes in each of a few rounds."""
    return {case.name: run_idle(case, plan, bench) for case in IDLE if plan.chosen(case)}


def run_idle(case: Idle, plan: Plan, bench: Bench) -> dict[str, list[float]]:
    names = plan.able([PASS, TLS] if case.tls else [PASS])
    bytes_each: dict[str, list[float]] = {name: [] for name in names}
    for number in range(min(ROUNDS, plan.rounds)):
        for name in names if number % 2 == 0 else reversed(names):
            with PEERS[name](bench, Setup()) as peer:
                bytes_each[name].append(idle_bytes(case, peer))
            show(case.name, name, f"{bytes_each[name][-1]:9.0f} bytes a connection")
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
        time.sleep(SETTLE_S)
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
    time.sleep(SETTLE_S)
    return pss_kib
