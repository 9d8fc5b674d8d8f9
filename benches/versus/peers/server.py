"""A process with a configuration made from templates, which ends with its `with` block; nothing is ended but what was
started here, by its process id."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import gauges

HERE = Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parent.parent
TEMPLATES = HERE / "conf"
# What peers come from that Debian does not have; `run.py --install` makes it.
ENVIRONMENT = REPOSITORY / "target" / "versus-venv"
WORKERS = 2
START_LIMIT_S = 20
STOP_LIMIT_S = 10


class DidNotStart(Exception):
    """A process ended at once, or does not listen. It holds what the process printed."""


class Server:
    """A process with a configuration made from a template in `conf/`."""

    name: str
    # Without one there is nothing to configure.
    template: str | None = None
    # Further files that its configuration names.
    templates_beside: tuple[str, ...] = ()
    # In the folder of the server, what it prints.
    printed = "output"

    def __init__(self, folder: Path, settings: dict[str, object]):
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=folder))
        self.settings = {"WORKERS": WORKERS, "DIR": self.folder} | settings
        self.processes: list[subprocess.Popen] = []

    def text(self, template: str) -> str:
        """A template, whose @NAMES@ the settings replace."""
        return (TEMPLATES / template).read_text()

    def command(self, config: Path) -> list[str]:
        raise NotImplementedError

    def port(self) -> int:
        """Answers once the server is up."""
        raise NotImplementedError

    def __enter__(self):
        for template in self.templates_beside:
            self.write(template)
        self._start(self.command(self.write(self.template) if self.template else self.folder))
        try:
            self._wait_until(self._listens)
            self.complete()
        except BaseException:
            self.stop()
            raise
        return self

    def write(self, template: str) -> Path:
        """Puts the configuration where the server reads it, at once and whole."""
        text = self.text(template)
        for name, value in self.settings.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.folder / template
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(text)
        return fresh.rename(path)

    def complete(self):
        """What a server needs beside its process is started here."""

    def environment(self) -> dict[str, str]:
        """Variables beside those of the bench."""
        return {}

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
        with open(self.folder / "output", "ab") as errors, open(self.folder / self.printed, "ab") as output:
            self.processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    env=os.environ | self.environment(),
                    cwd=self.folder,
                )
            )

    def _wait_until(self, done):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and all(process.poll() is None for process in self.processes):
            if done():
                return
            time.sleep(0.05)
        raise DidNotStart(f"{self.name} did not start:\n{(self.folder / 'output').read_text()[-4000:]}")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port()), timeout=1).close()
        except OSError:
            return False
        return True


given: set[int] = set()


def free_port() -> int:
    """One that nobody listens on, and that this has not given before: who got it may not listen yet."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in given:
            given.add(port)
            return port


def output_of(command: list[str]) -> str:
    """The first line that a short command prints on either stream."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    return (ran.stdout.strip().splitlines() or ["unknown"])[0]
