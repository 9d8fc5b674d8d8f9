"""What all proxies under test have in common."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from files import Files

from .origins import Echo, Origin
from .server import ENVIRONMENT, TEMPLATES, Server, free_port

# What a case may need of a peer.
PASS, CACHE, COMPRESS, TLS, H2, RESUMED, WEBSOCKET = "pass", "cache", "gzip", "tls", "h2", "resumed", "websocket"
# Needs that a part of the configuration belongs to.
PARTS = (CACHE, COMPRESS)


class Unsupported(Exception):
    """A peer does not know a feature that a case needs."""


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path
    # Both in one file.
    both: Path


@dataclass(frozen=True)
class Bench:
    """What the peers of a run share."""

    folder: Path
    # In memory if the machine has such a file system: what peers keep in files costs them no disk.
    memory: Path
    files: Files
    origin: Origin
    echo: Echo
    certificate: Certificate
    # Executables.
    tollgate: Path
    generator: Path


@dataclass(frozen=True)
class Setup:
    """How a peer is to be set up beyond what its template says."""

    features: tuple[str, ...] = ()
    # Requests go to the program that looks at them, and not to the files.
    to_echo: bool = False
    # How many there are of something, in tests of growth: "routes", "endpoints", "objects" or "keys".
    many: tuple[str, int] | None = None

    def count(self, what: str) -> int:
        return self.many[1] if self.many and self.many[0] == what else 0


class Peer(Server):
    """A proxy under test: plain HTTP on one port, TLS on another, a line in `access_log` for each request."""

    # What it cannot do, with the reason that the report gives.
    lacks: dict[str, str] = {}
    logs = True
    # In a line of its log, the length of an answer with the status 200.
    good_line = re.compile(rb'" 200 (\d+) ')
    # How much more than the body that length may say.
    log_slack = 0
    # The share of lines that it may leave out.
    log_loss = 0.0
    # Whether it says how long a body was before it was compressed.
    logs_plain_length = False
    # Commands that it needs and that may be missing, each with the package that it comes from.
    needs: dict[str, str] = {}
    # What it can have many of in tests of growth; connections are not named.
    grows: tuple[str, ...] = ()
    # Whether it can read its configuration again.
    reloads = False

    def __init__(self, bench: Bench, setup: Setup):
        self.http, self.https = free_port(), free_port()
        self.setup, self.features = setup, setup.features
        self.memory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=bench.memory))
        self.origin = bench.echo if setup.to_echo else bench.origin
        host, _, port = self.origin.address.partition(":")
        certificate = bench.certificate
        super().__init__(
            bench.folder,
            {"ORIGIN": self.origin.address, "ORIGIN_HOST": host, "ORIGIN_PORT": port}
            | {"HTTP": self.http, "HTTPS": self.https, "MEMORY": self.memory}
            | {"CERTIFICATE": certificate.certificate, "KEY": certificate.key, "PEM": certificate.both}
            | self.own_settings(),
        )
        self.access_log = self.folder / "access.log"

    def own_settings(self) -> dict[str, object]:
        """What a peer's template has beside what all have."""
        return {}

    def part(self, feature: str) -> str:
        """The part of the configuration that a feature needs, in a file beside the template."""
        template = TEMPLATES / self.template
        return template.with_stem(f"{template.stem}-{feature}").read_text()

    def ordered(self) -> tuple[str, ...]:
        """The features in the order of their parts."""
        return self.features

    def text(self, template: str) -> str:
        parts = "\n".join(self.part(feature).rstrip() for feature in self.ordered() if feature in PARTS)
        return super().text(template).replace("@FEATURES@", parts)

    @classmethod
    def missing(cls) -> str | None:
        """What is not installed."""
        wanting = [command for command in cls.needs if not found(command)]
        return ", ".join(f"{command} ({cls.needs[command]})" for command in wanting) or None

    def port(self) -> int:
        return self.https

    def hit(self, fields: Message) -> bool:
        """Whether the fields of a response say that it comes out of the store."""
        raise NotImplementedError

    def reload(self):
        """Has it read its configuration again, which has been written anew."""
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        raise NotImplementedError


def found(command: str) -> str | None:
    """Where a command is: in the environment of the bench, or where the system keeps it."""
    own = next(ENVIRONMENT.glob(f"lib/python*/site-packages/{command}"), None) if "/" in command else ENVIRONMENT / "bin" / command
    if own and own.exists():
        return str(own)
    return None if "/" in command else shutil.which(command)
