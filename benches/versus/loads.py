"""The load generators: each runs against one peer for some seconds and says what was answered."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
# Beyond its time a generator may take this long for its start and its end.
GRACE_S = 20


@dataclass
class Answered:
    requests: int
    seconds: float
    p50_us: int | None = None
    p99_us: int | None = None


class LoadFailed(Exception):
    pass


@dataclass(frozen=True)
class Wrk:
    """HTTP/1.1 with one request at a time on each of some connections."""

    tls: bool = False
    connections: int = 64
    header: str | None = None

    @property
    def in_flight(self) -> int:
        """How many requests more than it counts may be answered."""
        return self.connections

    def start(self, url: str, seconds: int) -> list[subprocess.Popen]:
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}", "-s", str(HERE / "count.lua")]
        if self.header:
            command += ["-H", self.header]
        return [started([*command, url])]

    def answered(self, outputs: list[str], seconds: int) -> Answered:
        counted = json.loads(outputs[0].strip().splitlines()[-1])
        if counted["failed"]:
            raise LoadFailed(outputs[0])
        return Answered(counted["requests"], counted["seconds"], counted["p50_us"], counted["p99_us"])


@dataclass(frozen=True)
class H2load:
    """HTTP/2 over TLS with several streams on each of some connections."""

    tls: bool = True
    connections: int = 16
    streams: int = 16
    header: str | None = None

    @property
    def in_flight(self) -> int:
        # It leaves out what it asks for first, before its time starts, as well as what is cut at the end.
        return 2 * self.connections * self.streams

    def start(self, url: str, seconds: int) -> list[subprocess.Popen]:
        command = ["h2load", "-t1", f"-c{self.connections}", f"-m{self.streams}", "-D", str(seconds)]
        if self.header:
            command += ["-H", self.header]
        return [started([*command, url])]

    def answered(self, outputs: list[str], seconds: int) -> Answered:
        protocol = re.search(r"Application protocol: (\S+)", outputs[0])
        codes = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", outputs[0])
        requests = re.search(r"(\d+) succeeded, 0 failed, 0 errored", outputs[0])
        if not (protocol and protocol[1] == "h2" and codes and requests):
            raise LoadFailed(outputs[0])
        return Answered(int(requests[1]), seconds)


@dataclass(frozen=True)
class FullHandshakes:
    """A new connection and a full TLS 1.3 hand-shake for each request.

    wrk and h2load come back with a ticket when they reconnect, so they can't do this.
    """

    tls: bool = True
    processes: int = 4
    header = None

    @property
    def in_flight(self) -> int:
        return self.processes

    def start(self, url: str, seconds: int) -> list[subprocess.Popen]:
        address, _, path = url.removeprefix("https://").partition("/")
        # s_time puts this between "GET " and " HTTP/1.0": what is left of its line becomes a field.
        request = f"/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-Rest:"
        command = ["openssl", "s_time", "-connect", address, "-new", "-tls1_3", "-time", str(seconds), "-www", request]
        return [started(command) for _ in range(self.processes)]

    def answered(self, outputs: list[str], seconds: int) -> Answered:
        counts = [re.search(r"(\d+) connections in \d+ real seconds", output) for output in outputs]
        if not all(counts):
            raise LoadFailed("\n".join(outputs))
        return Answered(sum(int(count[1]) for count in counts), seconds)


def started(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished(processes: list[subprocess.Popen], seconds: int) -> list[str]:
    """What the processes printed. One that fails or does not end fails them all."""
    try:
        outputs = [process.communicate(timeout=seconds + GRACE_S)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    if any(process.returncode for process in processes):
        raise LoadFailed("\n".join(outputs))
    return outputs
