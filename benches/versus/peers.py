"""The processes of a bench: the origin, and the proxies that are compared in front of it.

Each ends with its `with` block; nothing is ended but what was started here, by its process id.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import gauges
from collector import Collector
from files import Files

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
WORKERS = 2
START_LIMIT_S = 10
STOP_LIMIT_S = 10


class DidNotStart(Exception):
    """A process ended at once, or does not listen. It holds what the process printed."""


class Unsupported(Exception):
    """A peer does not know a feature that a case needs."""


class Server:
    """A process with a configuration made from a template of this folder."""

    name: str
    template: str

    def __init__(self, folder: Path, settings: dict[str, object]):
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=folder))
        self.settings = {"WORKERS": WORKERS, "DIR": self.folder} | settings
        self.processes: list[subprocess.Popen] = []

    def text(self) -> str:
        """The template, whose @NAMES@ the settings replace."""
        return (HERE / self.template).read_text()

    def command(self, config: Path) -> list[str]:
        raise NotImplementedError

    def port(self) -> int:
        """Answers once the server is up."""
        raise NotImplementedError

    def __enter__(self):
        text = self.text()
        for name, value in self.settings.items():
            text = text.replace(f"@{name}@", str(value))
        config = self.folder / self.template
        config.write_text(text)
        self._start(self.command(config))
        try:
            self._wait_until(self._listens)
            self.complete()
        except BaseException:
            self.stop()
            raise
        return self

    def complete(self):
        """What a server needs beside its process is started here."""

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        while self.processes:
            process = self.processes.pop()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                for pid in reversed(gauges.family(process.pid)):
                    os.kill(pid, signal.SIGKILL)
                process.wait()

    def pids(self) -> list[int]:
        return [pid for process in self.processes for pid in gauges.family(process.pid)]

    def _start(self, command: list[str]):
        with open(self.folder / "output", "ab") as output:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output))

    def _wait_until(self, done):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and all(process.poll() is None for process in self.processes):
            if done():
                return
            time.sleep(0.05)
        raise DidNotStart(f"{self.name} did not start:\n{(self.folder / 'output').read_text()}")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port()), timeout=1).close()
        except OSError:
            return False
        return True


class Origin(Server):
    name = "origin"
    template = "origin.conf"

    def __init__(self, folder: Path, files: Files):
        address = f"127.0.0.1:{free_port()}"
        super().__init__(folder, {"ORIGIN": address, "FILES": files.folder, "USER": nginx_user()})
        self.address = address
        self._asked = 0

    def command(self, config: Path) -> list[str]:
        return nginx_command(self.folder, config)

    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def requests(self) -> int:
        """How many there have been but for those that asked this."""
        connection = HTTPConnection("127.0.0.1", self.port(), timeout=10)
        connection.request("GET", "/requests")
        accepted_handled_requests = connection.getresponse().read().splitlines()[2]
        connection.close()
        self._asked += 1
        return int(accepted_handled_requests.split()[2]) - self._asked


@dataclass(frozen=True)
class Bench:
    """What the peers of a run share."""

    folder: Path
    # In memory if the machine has such a file system: what peers keep in files costs them no disk.
    memory: Path
    files: Files
    origin: Origin
    certificate: tuple[Path, Path]
    # The executable.
    tollgate: Path


class Peer(Server):
    """A proxy under test: plain HTTP on one port, TLS on another, a line in `access_log` for each request."""

    # Whether it can be compared in cases over TLS, and in those where responses are only passed on.
    tls = True
    passes_on = True
    logs = True
    # Commands that it needs and that may be missing, each with its Debian package.
    needs: dict[str, str] = {}

    def __init__(self, bench: Bench, features: tuple[str, ...]):
        self.http, self.https = free_port(), free_port()
        self.features = features
        self.memory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=bench.memory))
        host, _, port = bench.origin.address.partition(":")
        super().__init__(
            bench.folder,
            {"ORIGIN": bench.origin.address, "ORIGIN_HOST": host, "ORIGIN_PORT": port}
            | {"HTTP": self.http, "HTTPS": self.https, "MEMORY": self.memory}
            | {"CERTIFICATE": bench.certificate[0], "KEY": bench.certificate[1]}
            | self.own_settings(),
        )
        self.access_log = self.folder / "access.log"

    def own_settings(self) -> dict[str, object]:
        """What a peer's template has beside what all have."""
        return {}

    def text(self) -> str:
        template = HERE / self.template
        parts = [template.with_stem(f"{template.stem}-{feature}").read_text() for feature in self.features]
        # A table of its own says how; without it nothing is to be compressed, as in nginx.
        compress = "" if any("[compress]" in part for part in parts) else "compress = false"
        return super().text().replace("@FEATURES@", "\n".join(parts)).replace("@COMPRESS@", compress)

    @classmethod
    def missing(cls) -> str | None:
        """What is not installed."""
        wanting = [command for command in cls.needs if not shutil.which(command)]
        return ", ".join(f"{command} (Debian package {cls.needs[command]})" for command in wanting) or None

    def port(self) -> int:
        return self.https

    def hit(self, fields: Message) -> bool:
        """Whether the fields of a response say that it comes out of the store."""
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        raise NotImplementedError


class Nginx(Peer):
    name = "nginx"
    template = "nginx.conf"
    log = "buffer=16k flush=50ms"
    buffers = "proxy_buffers 16 4k;"
    sendfile = "on"
    tcp_nopush = "off"
    open_files = ""

    def own_settings(self) -> dict[str, object]:
        settings = {"USER": nginx_user(), "LOG": self.log, "BUFFERS": self.buffers}
        return settings | {"SENDFILE": self.sendfile, "TCP_NOPUSH": self.tcp_nopush, "OPEN_FILES": self.open_files}

    def command(self, config: Path) -> list[str]:
        return nginx_command(self.folder, config)

    def complete(self):
        # It would end by itself after a minute, as if a process had died; a store that is new has nothing to load.
        if "cache" in self.features:
            self._wait_until(self._loaders)
            for pid in self._loaders():
                os.kill(pid, signal.SIGTERM)
            self._wait_until(lambda: not self._loaders())

    def _loaders(self) -> list[int]:
        return [pid for pid in self.pids() if "cache loader" in gauges.title(pid)]

    def hit(self, fields: Message) -> bool:
        return fields["X-Cache-Status"] == "HIT"

    @classmethod
    def version(cls) -> str:
        return output_of(["nginx", "-v"])


class NginxUnbufferedLog(Nginx):
    """nginx with its default of one write to the log a request."""

    name = "nginx-unbuffered-log"
    log = ""


class NginxLargeBuffers(Nginx):
    """nginx with the same 64 KiB in few large pieces, which saves it system calls with large bodies."""

    name = "nginx-large-buffers"
    buffers = "proxy_buffer_size 16k; proxy_buffers 4 16k; proxy_busy_buffers_size 48k;"


class NginxWithoutSendfile(Nginx):
    """nginx that reads the files of its store into memory, which is its default and cheaper if they are small."""

    name = "nginx-without-sendfile"
    sendfile = "off"


class NginxTcpNopush(Nginx):
    """nginx that sends files as Debian's nginx.conf has it, which waits at the ends of some."""

    name = "nginx-tcp-nopush"
    tcp_nopush = "on"


class NginxOpenFiles(Nginx):
    """nginx that keeps the files of its store open, which saves it system calls with each hit."""

    name = "nginx-open-files"
    open_files = "open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;"


class Varnish(Peer):
    """Varnish with its log written by varnishncsa, which counts as a part of it: without, it keeps none."""

    name = "varnish"
    template = "varnish.vcl"
    # It has no TLS of its own, and is a cache: to pass everything on is not what it is for.
    tls = False
    passes_on = False
    needs = {"varnishd": "varnish", "varnishncsa": "varnish"}

    def command(self, config: Path) -> list[str]:
        parameters = {"thread_pools": WORKERS, "timeout_idle": 300, "backend_idle_timeout": 300, "listen_depth": 4096}
        command = ["varnishd", "-F", "-j", "none", "-n", str(self.memory), "-f", str(config), "-s", "malloc,256m"]
        command += ["-a", f"127.0.0.1:{self.http}"]
        return command + [part for name, value in parameters.items() for part in ("-p", f"{name}={value}")]

    def port(self) -> int:
        return self.http

    def complete(self):
        self._start(["varnishncsa", "-n", str(self.memory), "-a", "-w", str(self.access_log)])
        self._wait_until(self.access_log.exists)

    def hit(self, fields: Message) -> bool:
        # The request, and the one that stored the response.
        return len(fields["X-Varnish"].split()) == 2

    @classmethod
    def version(cls) -> str:
        return output_of(["varnishd", "-V"])


class VarnishWithoutLog(Varnish):
    """Varnish as it starts, with its log in shared memory alone, where the latest requests can be looked at."""

    name = "varnish-without-log"
    logs = False

    def complete(self):
        pass


class Tollgate(Peer):
    name = "tollgate"
    template = "tollgate.toml"

    def __init__(self, bench: Bench, features: tuple[str, ...]):
        super().__init__(bench, features)
        self.executable = bench.tollgate

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

    def text(self) -> str:
        text = super().text()
        for table, keys in self.limits.items():
            text = text.replace(f"\n{table}\n", f"\n{table}\n{keys}\n")
        return f"{text}\n{self.per_ip}"


class TollgateObserved(Tollgate):
    """Tollgate that is looked at in every way: a tenth of the requests is traced, metrics are pushed, a live page is open."""

    name = "tollgate-observed"

    def __init__(self, bench: Bench, features: tuple[str, ...]):
        super().__init__(bench, features)
        self.collector = Collector()
        self.admin = free_port()
        self._page: HTTPConnection | None = None

    def text(self) -> str:
        telemetry = f'[telemetry]\notlp = "{self.collector.url}"\nsample = 0.1\nmetrics_interval = "5s"\n'
        return f'{super().text()}\n{telemetry}\n[admin]\naddress = "127.0.0.1:{self.admin}"\n'

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


PEERS = {
    peer.name: peer
    for peer in (
        Nginx,
        NginxUnbufferedLog,
        NginxLargeBuffers,
        NginxWithoutSendfile,
        NginxTcpNopush,
        NginxOpenFiles,
        Varnish,
        VarnishWithoutLog,
        Tollgate,
        TollgateLimited,
        TollgateObserved,
    )
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nginx_command(folder: Path, config: Path) -> list[str]:
    return ["nginx", "-e", str(folder / "error.log"), "-c", str(config)]


def nginx_user() -> str:
    """Workers run as whoever starts the bench; as root, nginx must be told so."""
    return "user root;" if os.geteuid() == 0 else ""


def output_of(command: list[str]) -> str:
    """The first line that a short command prints on either stream."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    return (ran.stdout.strip().splitlines() or ["unknown"])[0]
