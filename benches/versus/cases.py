"""The cases: what is asked for, how, and what the peers do with it. A further one is a line here."""

from dataclasses import dataclass

from files import JSON
from loads import FullHandshakes, H2load, Wrk

GZIP = "Accept-Encoding: gzip"
# What a peer does beside passing on: each is a part of its configuration, such as nginx-cache.conf.
CACHE, COMPRESS, BOTH = ("cache",), ("gzip",), ("cache", "gzip")


@dataclass(frozen=True)
class Loaded:
    """Requests for one file, as fast as they are answered."""

    name: str
    file: str
    load: Wrk | H2load | FullHandshakes
    features: tuple[str, ...] = ()
    # The most that Tollgate's CPU time a request may be of nginx's; there is none for most cases.
    target: float | None = None
    # In the same turns a plain hit is measured under this name, of as many bytes as the answers of this case have.
    plain: str | None = None
    # The most that Tollgate's CPU time a request may be of that of its plain hit.
    plain_target: float | None = None

    @property
    def hits(self) -> bool:
        return "cache" in self.features

    @property
    def coded(self) -> bool:
        return "gzip" in self.features


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
    Loaded("hit-1KiB", "1KiB", Wrk(), CACHE, target=0.75),
    Loaded("hit-64KiB", "64KiB", Wrk(), CACHE, target=1.0),
    Loaded("hit-1MiB", "1MiB", Wrk(), CACHE),
    Loaded("tls-hit-1KiB", "1KiB", Wrk(tls=True), CACHE),
    Loaded("h2-hit-1KiB", "1KiB", H2load(), CACHE),
    Loaded("gzip-miss-32KiB", JSON, Wrk(header=GZIP), COMPRESS, target=0.6),
    Loaded("gzip-hit-32KiB", JSON, Wrk(header=GZIP), BOTH, plain="plain-hit-of-that-size", plain_target=1.0),
]

IDLE = [Idle("idle", tls=False), Idle("idle-tls", tls=True)]
