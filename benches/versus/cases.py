"""The cases: what is asked for, and how. A further one is a line here."""

from dataclasses import dataclass

from loads import FullHandshakes, H2load, Wrk

KIB = 1024
SIZES = {"1KiB": KIB, "64KiB": 64 * KIB, "1MiB": 1024 * KIB}


@dataclass(frozen=True)
class Loaded:
    """Requests for one file, as fast as they are answered."""

    name: str
    file: str
    load: Wrk | H2load | FullHandshakes
    # The most that Tollgate's CPU time a request may be of nginx's; there is none for most cases.
    target: float | None = None

    @property
    def bytes(self) -> int:
        return SIZES[self.file]


@dataclass(frozen=True)
class Idle:
    """Connections that have each had one answer and stay open."""

    name: str
    tls: bool
    connections: int = 2000


LOADED = [
    Loaded("h1-1KiB", "1KiB", Wrk(), target=1.1),
    Loaded("h1-64KiB", "64KiB", Wrk(), target=0.8),
    Loaded("h1-1MiB", "1MiB", Wrk()),
    Loaded("tls-1KiB", "1KiB", Wrk(tls=True)),
    Loaded("tls-64KiB", "64KiB", Wrk(tls=True)),
    Loaded("h2-1KiB", "1KiB", H2load()),
    Loaded("h2-64KiB", "64KiB", H2load()),
    Loaded("full-handshake", "1KiB", FullHandshakes()),
    Loaded("resumed-handshake", "1KiB", Wrk(tls=True, header="Connection: close")),
]

IDLE = [Idle("idle", tls=False), Idle("idle-tls", tls=True)]
