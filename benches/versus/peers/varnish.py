"""Varnish, whose log is written by a process of its own."""

from email.message import Message
from pathlib import Path

from .peer import PASS, TLS, WEBSOCKET, Peer
from .server import WORKERS, output_of


class Varnish(Peer):
    """Varnish with its log written by varnishncsa, which counts as a part of it: without, it keeps none."""

    name = "varnish"
    template = "varnish.vcl"
    lacks = {
        TLS: "it has no TLS of its own",
        PASS: "it is a cache: to pass everything on is not what it is for",
        WEBSOCKET: "it is a cache: to pass everything on is not what it is for",
    }
    needs = {"varnishd": "Debian: varnish", "varnishncsa": "Debian: varnish"}

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
