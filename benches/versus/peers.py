"""The processes of a bench: the origin, and the proxies that are compared in front of it.

Each ends with its `with` block; nothing is ended but what was started here, by its process id.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import gauges

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
WORKERS = 2
START_LIMIT_S = 10
STOP_LIMIT_S = 10


class Server:
    """A process with a configuration made from a template of this folder."""

    name: str
    template: str

    def __init__(self, folder: Path, settings: dict[str, object]):
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=folder))
        self.settings = settings | {"WORKERS": WORKERS, "DIR": self.folder}
        self.process: subprocess.Popen | None = None

    def command(self, config: Path) -> list[str]:
        raise NotImplementedError

    def port(self) -> int:
        """Answers once the server is up."""
        raise NotImplementedError

    def __enter__(self):
        text = (HERE / self.template).read_text()
        for name, value in self.settings.items():
            text = text.replace(f"@{name}@", str(value))
        config = self.folder / self.template
        config.write_text(text)
        with open(self.folder / "output", "wb") as output:
            self.process = subprocess.Popen(
                self.command(config), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            for pid in reversed(self.pids()):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def pids(self) -> list[int]:
        return gauges.family(self.process.pid)

    def _wait_until_up(self):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port()), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not start:\n{(self.folder / 'output').read_text()}")


class Origin(Server):
    name = "origin"
    template = "origin.conf"

    def __init__(self, folder: Path, files: Path):
        address = f"127.0.0.1:{free_port()}"
        super().__init__(folder, {"ORIGIN": address, "FILES": files, "USER": nginx_user()})
        self.address = address

    def command(self, config: Path) -> list[str]:
        return ["nginx", "-e", str(self.folder / "error.log"), "-c", str(config)]

    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


class Peer(Server):
    """A proxy under test: plain HTTP on one port, TLS on another, a line in `access_log` for each request."""

    def __init__(self, folder: Path, origin: Origin, certificate: tuple[Path, Path], settings: dict[str, object]):
        self.http, self.https = free_port(), free_port()
        super().__init__(
            folder,
            {
                "ORIGIN": origin.address,
                "HTTP": self.http,
                "HTTPS": self.https,
                "CERTIFICATE": certificate[0],
                "KEY": certificate[1],
            }
            | settings,
        )
        self.access_log = self.folder / "access.log"

    def port(self) -> int:
        return self.https

    def version(self) -> str:
        raise NotImplementedError


class Nginx(Peer):
    name = "nginx"
    template = "nginx.conf"
    log = "buffer=16k flush=50ms"
    buffers = "proxy_buffers 16 4k;"

    def __init__(self, folder, origin, certificate, _tollgate: Path):
        super().__init__(
            folder, origin, certificate, {"USER": nginx_user(), "LOG": self.log, "BUFFERS": self.buffers}
        )

    def command(self, config: Path) -> list[str]:
        return ["nginx", "-e", str(self.folder / "error.log"), "-c", str(config)]

    def version(self) -> str:
        return output_of(["nginx", "-v"])


class NginxUnbufferedLog(Nginx):
    """nginx with its default of one write to the log a request."""

    name = "nginx-unbuffered-log"
    log = ""


class NginxLargeBuffers(Nginx):
    """nginx with the same 64 KiB in few large pieces, which saves it system calls with large bodies."""

    name = "nginx-large-buffers"
    buffers = "proxy_buffer_size 16k; proxy_buffers 4 16k; proxy_busy_buffers_size 48k;"


class Tollgate(Peer):
    name = "tollgate"
    template = "tollgate.toml"

    def __init__(self, folder, origin, certificate, tollgate: Path):
        super().__init__(folder, origin, certificate, {})
        self.executable = tollgate

    def command(self, config: Path) -> list[str]:
        return [str(self.executable), "run", "-c", str(config)]

    def version(self) -> str:
        # The last commit that touched what is built, so that a commit of results does not change it.
        built = ["--", *(str(REPOSITORY / part) for part in ("src", "backend", "Cargo.toml", "Cargo.lock"))]
        git = ["git", "-C", str(REPOSITORY)]
        commit = output_of([*git, "log", "-1", "--format=%h", "--abbrev=12", *built])
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", *built], timeout=20).returncode != 0
        return f"tollgate, commit {commit}{' with changes' if changed else ''}"


PEERS = {peer.name: peer for peer in (Nginx, NginxUnbufferedLog, NginxLargeBuffers, Tollgate)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nginx_user() -> str:
    """Workers run as whoever starts the bench; as root, nginx must be told so."""
    return "user root;" if os.geteuid() == 0 else ""


def output_of(command: list[str]) -> str:
    """The first line that a short command prints on either stream."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    return (ran.stdout.strip().splitlines() or ["unknown"])[0]
