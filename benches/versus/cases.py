"""The cases: what is asked for, how, and what the peers do with it. A further one is a line here."""

from dataclasses import dataclass, replace

from files import JSON
from loads import FullHandshakes, H2load, Load, Own, Wrk
from peers.peer import CACHE, COMPRESS, H2, PASS, RESUMED, TLS, WEBSOCKET, Setup

GZIP = "Accept-Encoding: gzip"
STORED, CODED, BOTH = (CACHE,), (COMPRESS,), (CACHE, COMPRESS)


@dataclass(frozen=True)
class Loaded:
    """Requests for one file, as fast as they are answered, or at a constant rate."""

    name: str
    file: str
    load: Load
    features: tuple[str, ...] = ()
    # The most that Tollgate's CPU time a request may be of nginx's; there is none for some cases.
    bar: float | None = None
    # In the same turns a plain hit is measured under this name, of as many bytes as the answers of this case have.
    plain: str | None = None
    # The most that Tollgate's CPU time a request may be of that of its plain hit.
    plain_bar: float | None = None

    @property
    def hits(self) -> bool:
        return CACHE in self.features

    @property
    def coded(self) -> bool:
        return COMPRESS in self.features

    @property
    def messages(self) -> bool:
        return WEBSOCKET in self.features

    @property
    def setup(self) -> Setup:
        return Setup(self.features, to_echo=self.load.payload is not None)

    @property
    def needs(self) -> list[str]:
        """What a peer must be able to do."""
        load = self.load.own()
        further = {TLS: load.tls, H2: load.protocol == "h2", RESUMED: load.fresh == "resumed"}
        return [*(self.features or (PASS,)), *(need for need, needed in further.items() if needed)]

    def paced(self, rate: float) -> Load:
        """The same requests at a constant rate."""
        return replace(self.load.own(), rate=rate)


@dataclass(frozen=True)
class Idle:
    """Connections that have each had one answer and stay open."""

    name: str
    tls: bool
    connections: int = 2000
    # The most KiB that Tollgate may take for one.
    bar: float | None = None


@dataclass(frozen=True)
class Growth:
    """The same requests where there are few of something, and where there are many."""

    name: str
    # As Setup.many and Peer.grows call it.
    what: str
    small: int
    large: int
    path: str
    features: tuple[str, ...] = ()
    header: str | None = None
    # Whether all are asked for once before anything is measured.
    filled: bool = False

    def load(self, count: int) -> Own:
        """What is measured."""
        if self.what == "connections":
            return Own(connections=count, in_flight_max=self.small)
        keys = count if "{" in self.path + (self.header or "") else 1
        return Own(header=self.header, keys=keys)

    def filling(self, count: int) -> Own:
        return replace(self.load(count), in_order=True, requests=count)


LOADED = [
    Loaded("h1-1KiB", "1KiB", Wrk(), bar=0.95),
    Loaded("h1-64KiB", "64KiB", Wrk(), bar=0.65),
    Loaded("h1-1MiB", "1MiB", Wrk(), bar=0.75),
    Loaded("tls-1KiB", "1KiB", Wrk(tls=True), bar=0.85),
    Loaded("tls-64KiB", "64KiB", Wrk(tls=True)),
    Loaded("h2-1KiB", "1KiB", H2load(), bar=0.8),
    Loaded("h2-64KiB", "64KiB", H2load()),
    Loaded("full-handshake", "1KiB", FullHandshakes(), bar=0.5),
    Loaded("resumed-handshake", "1KiB", Wrk(tls=True, header="Connection: close")),
    Loaded("post-16KiB", "upload", Own(payload=16 * 1024)),
    Loaded("websocket-128B", "messages", Own(protocol="websocket", payload=128), (WEBSOCKET,)),
    Loaded("hit-1KiB", "1KiB", Wrk(), STORED, bar=0.65),
    Loaded("hit-64KiB", "64KiB", Wrk(), STORED, bar=0.95),
    Loaded("hit-1MiB", "1MiB", Wrk(), STORED, bar=1.3),
    Loaded("tls-hit-1KiB", "1KiB", Wrk(tls=True), STORED, bar=0.7),
    Loaded("tls-hit-64KiB", "64KiB", Wrk(tls=True), STORED, bar=0.55),
    Loaded("h2-hit-1KiB", "1KiB", H2load(), STORED, bar=0.75),
    Loaded("gzip-miss-32KiB", JSON, Wrk(header=GZIP), CODED, bar=0.55),
    Loaded("gzip-hit-32KiB", JSON, Wrk(header=GZIP), BOTH, bar=0.2, plain="plain-hit-of-that-size", plain_bar=1.0),
]

IDLE = [Idle("idle", tls=False), Idle("idle-tls", tls=True, bar=24)]
# The most MiB that may be resident of Tollgate before its first request.
START_BAR_MIB = 20

GROWTH = [
    Growth("routes", "routes", 10, 10_000, "r{n}/1KiB"),
    # The table is as long, and what belongs to a route stays at hand.
    Growth("one-of-routes", "routes", 10, 10_000, "r7/1KiB"),
    Growth("endpoints", "endpoints", 3, 1000, "1KiB"),
    Growth("stored-objects", "objects", 100, 1_000_000, "128B?n={n}", STORED, filled=True),
    Growth("rate-keys", "keys", 100, 1_000_000, "1KiB", STORED, header="X-Forwarded-For: {ip}", filled=True),
    Growth("connections", "connections", 10, 8000, "1KiB"),
]
# The most that a request may cost where there are many, of what it costs where there are few.
GROWTH_BAR = 1.1
GROWTH_BARRED = ("routes", "one-of-routes", "stored-objects", "rate-keys")

# Of nginx's requests a second, at which latency is measured, and the most that Tollgate's may be of nginx's at the second.
SHARES = (0.5, 0.8)
LATENCY_BAR = 1.0

# In the order of reports.
NAMES = [name for case in LOADED for name in (case.name, case.plain) if name] + [case.name for case in IDLE + GROWTH]
