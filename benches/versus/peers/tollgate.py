"""Tollgate, and with what is optional switched on."""

import re
import signal
import subprocess
import threading
from contextlib import suppress
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

from collector import Collector

from .nginx import endpoints
from .peer import COMPRESS, Bench, Peer, Setup, Unsupported
from .server import REPOSITORY, DidNotStart, free_port, output_of


class Tollgate(Peer):
    name = "tollgate"
    template = "tollgate.toml"
    grows = ("routes", "endpoints", "objects", "keys", "connections")
    reloads = True

    def __init__(self, bench: Bench, setup: Setup):
        super().__init__(bench, setup)
        self.executable = bench.tollgate

    def own_settings(self) -> dict[str, object]:
        many = self.setup.count
        routes = (f'[[route]]\npath = "/r{n}"\nupstream = "origin"\n' for n in range(many("routes")))
        addresses = endpoints(self.origin.address, many("endpoints"))
        return {
            "READ": 30,
            "STORE": "8GiB" if many("objects") else "256MiB",
            "ENTRIES": "entries_max = 2_000_000" if many("objects") else "",
            "ROUTES": "\n".join(routes),
            "ENDPOINTS": ", ".join(f'"{address}"' for address in addresses),
            "LIMIT": LIMIT if many("keys") else "",
            "LIMITED": 'rate_limit = ["growth"]' if many("keys") else "",
        }

    def text(self, template: str) -> str:
        # A table of its own says how; without it nothing is to be compressed, as in nginx.
        compress = "" if COMPRESS in self.features else "compress = false"
        return super().text(template).replace("@COMPRESS@", compress)

    def __enter__(self):
        try:
            return super().__enter__()
        except DidNotStart:
            said = (self.folder / "output").read_text()
            unknown = re.findall(r"^error: (.* is not supported by this version)$", said, re.MULTILINE)
            if self.features and unknown:
                raise Unsupported(f"its executable says: {'; '.join(dict.fromkeys(unknown))}") from None
            raise

    def command(self, config: Path) -> list[str]:
        return [str(self.executable), "run", "-c", str(config)]

    def hit(self, fields: Message) -> bool:
        return fields["X-Cache"] == "HIT"

    def reload(self):
        said = (self.folder / "output").read_bytes()
        self.processes[0].send_signal(signal.SIGHUP)
        self._wait_until(lambda: b"is in force" in (self.folder / "output").read_bytes()[len(said) :])

    @classmethod
    def version(cls) -> str:
        # The last commit that touched what is built, so that a commit of results does not change it.
        built = ["--", *(str(REPOSITORY / part) for part in ("src", "backend", "Cargo.toml", "Cargo.lock"))]
        git = ["git", "-C", str(REPOSITORY)]
        commit = output_of([*git, "log", "-1", "--format=%h", "--abbrev=12", *built])
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", *built], timeout=20).returncode != 0
        return f"tollgate, commit {commit}{' with changes' if changed else ''}"


class TollgateLimited(Tollgate):
    """Tollgate with every limit on, none of which is met: what they cost a request that they let through."""

    name = "tollgate-limited"
    limits = {
        "[server]": "requests_max = 1_000_000",
        "[client]": 'requests_max = 1_000_000\nrate_limit = ["per-ip"]',
        "[upstream.origin]": "breaker = {}",
        "[[route]]": "requests_max = 1_000_000",
    }
    per_ip = '[rate_limit.per-ip]\nrequests = 1_000_000\nwindow = "1s"\n'

    def text(self, template: str) -> str:
        text = super().text(template)
        for table, keys in self.limits.items():
            text = text.replace(f"\n{table}\n", f"\n{table}\n{keys}\n")
        return f"{text}\n{self.per_ip}"


class TollgateObserved(Tollgate):
    """Tollgate that is looked at in every way: a tenth of the requests is traced, metrics are pushed, a live page is open."""

    name = "tollgate-observed"

    def __init__(self, bench: Bench, setup: Setup):
        super().__init__(bench, setup)
        self.collector = Collector()
        self.admin = free_port()
        self._page: HTTPConnection | None = None

    def text(self, template: str) -> str:
        telemetry = f'[telemetry]\notlp = "{self.collector.url}"\nsample = 0.1\nmetrics_interval = "5s"\n'
        return f'{super().text(template)}\n{telemetry}\n[admin]\naddress = "127.0.0.1:{self.admin}"\n'

    def complete(self):
        super().complete()
        self._page = HTTPConnection("127.0.0.1", self.admin, timeout=10)
        self._page.request("GET", "/events")
        events = self._page.getresponse()
        if events.status != 200:
            raise DidNotStart(f"{self.name} shows no live page: {events.status}")
        # Somebody has to read, or the page is let go.
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    @staticmethod
    def _read(events: HTTPResponse):
        with suppress(OSError, HTTPException):
            while events.read1():
                pass

    def stop(self):
        super().stop()
        self.collector.stop()
        if self._page and not self.collector.taken:
            raise DidNotStart(f"{self.name} sent nothing to the collector")


# A limit by client that nobody reaches, with room for all that ask.
LIMIT = """
[rate_limit.growth]
requests = 1_000_000
window = "1h"
keys_max = 2_000_000
"""
