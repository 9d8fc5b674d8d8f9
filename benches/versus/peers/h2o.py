"""h2o, as Debian packages it."""

import os
from pathlib import Path

from .peer import CACHE, RESUMED, Peer
from .server import output_of


class H2o(Peer):
    name = "h2o"
    template = "h2o.conf"
    needs = {"h2o": "Debian: h2o"}
    lacks = {
        CACHE: "it stores nothing that it passes on",
        RESUMED: "its connections over TLS 1.3 don't always bring a ticket, so that a third of the hand-shakes were full ones",
    }

    def own_settings(self) -> dict[str, object]:
        return {"USER": "user: root" if os.geteuid() == 0 else ""}

    def command(self, config: Path) -> list[str]:
        return ["h2o", "-m", "worker", "-c", str(config)]

    @classmethod
    def version(cls) -> str:
        return output_of(["h2o", "-v"])
