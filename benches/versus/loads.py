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
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    # Were due and never answered.
    unanswered: int = 0
    # Asked again, since their connection was closed.
    retried: int = 0


class LoadFailed(Exception):
    pass


class Load:
    """What every generator says of itself."""

    tls: bool
    header: str | None
    payload: int | None = None

    @property
    def in_flight(self) -> int:
        """How many requests more than it counts may be answered."""
        raise NotImplementedError

    def command(self, url: str, seconds: float, generator: Path) -> list[str]:
        raise NotImplementedError

    def start(self, url: str, seconds: float, generator: Path) -> list[subprocess.Popen]:
        return [started(self.command(url, seconds, generator))]

    def answered(self, outputs: list[str], seconds: float) -> Answered:
        raise NotImplementedError

    def own(self) -> "Own":
        """The same by the bench's own generator, which can keep a rate."""
        raise NotImplementedError


@dataclass(frozen=True)
class Own(Load):
    """The generator in `load/`: at a constant rate, or as fast as answers come."""

    tls: bool = False
    header: str | None = None
    protocol: str = "h1"
    connections: int = 64
    streams: int = 1
    # Requests at a time on all connections.
    in_flight_max: int | None = None
    payload: int | None = None
    # A connection for each request, with a hand-shake that is "full" or "resumed".
    fresh: str | None = None
    rate: float | None = None
    requests: int | None = None
    keys: int = 1
    in_order: bool = False
    reconnect: bool = False

    @property
    def in_flight(self) -> int:
        # Tickets to begin with cost a request a connection.
        return 2 * self.connections * self.streams

    def command(self, url: str, seconds: float, generator: Path) -> list[str]:
        options = {
            "--header": self.header,
            "--protocol": self.protocol,
            "--connections": self.connections,
            "--streams": self.streams,
            "--in-flight": self.in_flight_max,
            "--payload": self.payload,
            "--fresh": self.fresh,
            "--rate": self.rate,
            "--requests": self.requests,
            "--keys": self.keys,
            "--seconds": seconds,
        }
        given = [part for name, value in options.items() if value is not None for part in (name, str(value))]
        flags = ["--in-order"] * self.in_order + ["--reconnect"] * self.reconnect
        return [str(generator), "run", *given, *flags, url]

    def answered(self, outputs: list[str], seconds: float) -> Answered:
        said = json.loads(outputs[0].strip().splitlines()[-1])
        if self.fresh:
            resumed = said["resumed"] / max(said["requests"], 1)
            # A ticket may come too late for the next connection.
            if not (resumed == 0 if self.fresh == "full" else resumed > 0.9):
                raise LoadFailed(f"{resumed:.1%} of the sessions were resumed")
        keys = ("requests", "seconds", "p50_us", "p99_us", "p999_us", "unanswered", "retried")
        return Answered(**{key: said[key] for key in keys})

    def own(self) -> "Own":
        return self


@dataclass(frozen=True)
class Wrk(Load):
    """HTTP/1.1 with one request at a time on each of some connections."""

    tls: bool = False
    connections: int = 64
    header: str | None = None

    @property
    def in_flight(self) -> int:
        return self.connections

    def command(self, url: str, seconds: float, generator: Path) -> list[str]:
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}", "-s", str(HERE / "count.lua")]
        if self.header:
            command += ["-H", self.header]
        return [*command, url]

    def answered(self, outputs: list[str], seconds: float) -> Answered:
        counted = json.loads(outputs[0].strip().splitlines()[-1])
        if counted["failed"]:
            raise LoadFailed(outputs[0])
        return Answered(counted["requests"], counted["seconds"], counted["p50_us"], counted["p99_us"])

    def own(self) -> Own:
        if self.header == "Connection: close":
            # The store of tickets keeps eight for a host.
            return Own(tls=self.tls, connections=8, fresh="resumed")
        return Own(tls=self.tls, connections=self.connections, header=self.header)


@dataclass(frozen=True)
class H2load(Load):
    """HTTP/2 over TLS with several streams on each of some connections."""

    tls: bool = True
    connections: int = 16
    streams: int = 16
    header: str | None = None

    @property
    def in_flight(self) -> int:
        # It leaves out what it asks for first, before its time starts, as well as what is cut at the end.
        return 2 * self.connections * self.streams

    def command(self, url: str, seconds: float, generator: Path) -> list[str]:
        command = ["h2load", "-t1", f"-c{self.connections}", f"-m{self.streams}", "-D", str(seconds)]
        if self.header:
            command += ["-H", self.header]
        return [*command, url]

    def answered(self, outputs: list[str], seconds: float) -> Answered:
        protocol = re.search(r"Application protocol: (\S+)", outputs[0])
        codes = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", outputs[0])
        requests = re.search(r"(\d+) succeeded, 0 failed, 0 errored", outputs[0])
        if not (protocol and protocol[1] == "h2" and codes and requests):
            raise LoadFailed(outputs[0])
        return Answered(int(requests[1]), seconds)

    def own(self) -> Own:
        return Own(
            tls=True, protocol="h2", connections=self.connections, streams=self.streams, header=self.header
        )


@dataclass(frozen=True)
class FullHandshakes(Load):
    """A new connection and a full TLS 1.3 hand-shake for each request.

    wrk and h2load come back with a ticket when they reconnect, so they can't do this.
    """

    tls: bool = True
    processes: int = 4
    header = None

    @property
    def in_flight(self) -> int:
        return self.processes

    def command(self, url: str, seconds: float, generator: Path) -> list[str]:
        address, _, path = url.removeprefix("https://").partition("/")
        # s_time puts this between "GET " and " HTTP/1.0": what is left of its line becomes a field.
        request = f"/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-Rest:"
        return ["openssl", "s_time", "-connect", address, "-new", "-tls1_3", "-time", str(seconds), "-www", request]

    def start(self, url: str, seconds: float, generator: Path) -> list[subprocess.Popen]:
        return [started(self.command(url, seconds, generator)) for _ in range(self.processes)]

    def answered(self, outputs: list[str], seconds: float) -> Answered:
        counts = [re.search(r"(\d+) connections in \d+ real seconds", output) for output in outputs]
        if not all(counts):
            raise LoadFailed("\n".join(outputs))
        return Answered(sum(int(count[1]) for count in counts), seconds)

    def own(self) -> Own:
        return Own(tls=True, connections=16, fresh="full")


def started(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished(processes: list[subprocess.Popen], seconds: float) -> list[str]:
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
