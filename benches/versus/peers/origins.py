"""What stands behind the peers: files, and a program that looks at uploads and returns messages."""

import os
from http.client import HTTPConnection
from pathlib import Path

from files import Files

from .server import Server, free_port


class Origin(Server):
    """nginx that serves fixed files."""

    name = "origin"
    template = "origin.conf"
    # Where it listens: growth tests need it at many addresses.
    host = "127.0.0.1"

    def __init__(self, folder: Path, files: Files, everywhere: bool = False):
        port = free_port()
        listen = f"{'0.0.0.0' if everywhere else self.host}:{port}"
        super().__init__(folder, {"LISTEN": listen, "FILES": files.folder, "USER": nginx_user()})
        self.address = f"{self.host}:{port}"
        self._asked = 0

    def command(self, config: Path) -> list[str]:
        return nginx_command("nginx", self.folder, config)

    def port(self) -> int:
        return port_of(self.address)

    def requests(self) -> int:
        """How many there have been but for those that asked this."""
        self._asked += 1
        accepted_handled_requests = get(self.port(), "/requests").splitlines()[2]
        return int(accepted_handled_requests.split()[2]) - self._asked


class Echo(Server):
    """The origin of uploads and messages, in the same program as the generator of load."""

    name = "echo"

    def __init__(self, folder: Path, generator: Path):
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__(folder, {})
        self.generator = generator
        self._asked = 0

    def command(self, config: Path) -> list[str]:
        return [str(self.generator), "echo", self.address]

    def port(self) -> int:
        return port_of(self.address)

    def requests(self) -> int:
        self._asked += 1
        return int(get(self.port(), "/requests")) - self._asked


def get(port: int, path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def nginx_command(executable: str, folder: Path, config: Path) -> list[str]:
    return [executable, "-e", str(folder / "error.log"), "-c", str(config)]


def nginx_user() -> str:
    """Workers run as whoever starts the bench; as root, nginx must be told so."""
    return "user root;" if os.geteuid() == 0 else ""
