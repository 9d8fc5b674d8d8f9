"""PostgreSQL and Redis of this machine, on ports of their own and with empty folders, to be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

START_MAX_S = 30


class Missing(Exception):
    """Something has to be installed first."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def await_port(port: int, what: str):
    deadline = time.monotonic() + START_MAX_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"loadtest: {what} was not ready within {START_MAX_S} s") from None
            time.sleep(0.02)


class Store:
    """A server process."""

    name = ""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self):
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, **self.user())
        self.await_ready()

    def await_ready(self):
        await_port(self.port, self.name)

    def end(self, number: signal.Signals):
        if self.process:
            self.process.send_signal(number)
            self.process.wait(START_MAX_S)

    def user(self) -> dict:
        return {}

    def close(self):
        if self.process and self.process.poll() is None:
            self.end(signal.SIGINT)


class Postgres(Store):
    name = "postgres"

    def __init__(self, folder: Path):
        super().__init__(folder)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
        if not found:
            raise Missing("PostgreSQL (Debian: apt-get install postgresql)")
        self.programs = found[-1].parent
        self.data = folder / "postgres"
        self.data.mkdir()
        if os.geteuid() == 0:
            # It refuses to serve for root; its own user must get through to its folder.
            folder.chmod(0o711)
            shutil.chown(self.data, "postgres", "postgres")
        command = [self.programs / "initdb", "-D", self.data, "-U", "tollgate", "--auth=trust", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, **self.user())

    def user(self) -> dict:
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def command(self) -> list[str]:
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=400"]
        return [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.data), *options]

    def await_ready(self):
        """It listens long before it has recovered from a crash."""
        await_port(self.port, self.name)
        ready = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-d", "postgres"]
        deadline = time.monotonic() + START_MAX_S
        while subprocess.run(ready, check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise SystemExit(f"loadtest: {self.name} did not recover within {START_MAX_S} s")
            time.sleep(0.02)

    @property
    def url(self) -> str:
        return f"postgres://tollgate@127.0.0.1:{self.port}/postgres"


class Redis(Store):
    name = "redis"

    def __init__(self, folder: Path):
        super().__init__(folder)
        if not shutil.which("redis-server"):
            raise Missing("Redis (Debian: apt-get install redis-server)")

    def command(self) -> list[str]:
        return ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self.folder)]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"
