"""What a load test runs against: the edge with replicas of the app, seeded data, and PostgreSQL and Redis if wanted, on free
ports and in a folder of their own."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stores import Missing, Postgres, Redis

HERE = Path(__file__).resolve().parent
PASSWORD = "tollgate-seed"
SEEDED_USERS = 1000
START_MAX_S = 60
STOP_MAX_S = 40
# More would wait for each other at the hash function, and be refused in the end.
SIGN_INS_AT_A_TIME = 4


@dataclass
class Setup:
    binary: Path
    replicas: int
    stores: bool
    # Whether the edge keeps what it may.
    cache: bool = True
    # Between two probes of a replica.
    probes: str = "5s"


class Stack:
    """The running whole. Leaving it ends all processes."""

    def __init__(self, folder: Path, setup: Setup):
        self.folder, self.setup = folder, setup
        self.stores: list[Postgres | Redis] = []
        self.edge: subprocess.Popen | None = None

    def __enter__(self) -> "Stack":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error):
        self.close()

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.endswith(("DATABASE_URL", "REDIS_URL"))}
        environment["TOLLGATE_DATA"] = str(self.folder / "data")
        if self.setup.stores:
            postgres, redis = Postgres(self.folder), Redis(self.folder)
            self.stores = [postgres, redis]
            for store in self.stores:
                store.start()
            environment |= {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}
        self.say("makes up users, media, products and workflows")
        seed = [str(self.setup.binary), "backend", "seed", "--size", "small"]
        subprocess.run(seed, env=environment, check=True, capture_output=True)
        self.start_edge(environment)
        self.await_replicas()

    def start_edge(self, environment: dict[str, str]):
        make_certificate(self.folder)
        text = (HERE / "edge.toml").read_text()
        values = {"FOLDER": str(self.folder), "REPLICAS": str(self.setup.replicas), "PROBES": self.setup.probes}
        values["CACHE"] = "cache = {}" if self.setup.cache else ""
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        # In a folder of its own, as everywhere: this one has the logs, and the edge watches where its configuration is.
        config = self.folder / "etc" / "edge.toml"
        config.parent.mkdir()
        config.write_text(text)
        reader, writer = os.pipe()
        command = [str(self.setup.binary), "run", "-c", str(config), "--ready-fd", str(writer)]
        with open(self.folder / "edge.log", "wb") as log:
            self.edge = subprocess.Popen(command, env=environment, stdout=log, stderr=log, pass_fds=[writer])
        os.close(writer)
        with open(reader, encoding="utf-8") as ready:
            line = ready.readline()
        if not line:
            raise SystemExit(f"loadtest: the edge did not start:\n{(self.folder / 'edge.log').read_text()}")
        told = json.loads(line)
        self.admin = told["admin"]
        self.plain = told["listeners"]["127.0.0.2:0"]
        self.url = f"https://localhost:{told['listeners']['127.0.0.1:0'].rpartition(':')[2]}"

    def await_replicas(self):
        deadline = time.monotonic() + START_MAX_S
        while self.usable() < self.setup.replicas or ask(self.plain, "GET", "/health")[0] != 200:
            if time.monotonic() > deadline:
                raise SystemExit(f"loadtest: not all replicas were ready within {START_MAX_S} s")
            time.sleep(0.1)

    def status(self) -> dict:
        return json.loads(ask(self.admin, "GET", "/status")[1])

    def metrics(self) -> str:
        return ask(self.admin, "GET", "/metrics")[1].decode()

    def usable(self) -> int:
        """Replicas that requests go to."""
        return self.status()["upstreams"][0]["usable"]

    def replicas(self) -> dict[int, int]:
        """Process ids by the numbers of replicas."""
        return {each["replica"]: each["pid"] for each in self.status()["replicas"] if each["pid"]}

    def replica_metrics(self) -> dict[int, str]:
        """What each replica says of itself."""
        replicas = self.status()["replicas"]
        return {each["replica"]: ask(each["address"], "GET", "/metrics")[1].decode() for each in replicas if each["address"]}

    def sign_in(self, count: int) -> Path:
        """A file with so many sessions, each of another seeded user while there are any."""
        count = min(count, SEEDED_USERS)
        self.say(f"signs in {count} users")
        with ThreadPoolExecutor(SIGN_INS_AT_A_TIME) as pool:
            sessions = list(pool.map(self.session, range(count)))
        path = self.folder / "sessions.json"
        path.write_text(json.dumps(sessions))
        return path

    def session(self, number: int) -> dict[str, str]:
        user = f"user{number}"
        fields = {"X-Forwarded-For": f"10.255.{number >> 8}.{number & 255}"}
        status, body = ask(self.plain, "POST", "/api/v1/auth/login", {"login": user, "password": PASSWORD}, fields)
        if status != 200:
            raise SystemExit(f"loadtest: {user} cannot sign in: {status} {body[:300]!r}")
        grant = json.loads(body)
        return {"user": user, "access": grant["access_token"], "refresh": grant["refresh_token"]}

    def say(self, what: str):
        print(f"loadtest: {what}", file=sys.stderr, flush=True)

    def close(self):
        if self.edge and self.edge.poll() is None:
            self.edge.send_signal(signal.SIGTERM)
            try:
                self.edge.wait(STOP_MAX_S)
            except subprocess.TimeoutExpired:
                self.edge.kill()
                self.edge.wait()
        for store in self.stores:
            store.close()


def ask(address: str, method: str, path: str, json_body: object = None, fields: dict[str, str] | None = None):
    """Status and body of one request in clear."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        body = None if json_body is None else json.dumps(json_body)
        head = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body, head | (fields or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def make_certificate(folder: Path):
    if not shutil.which("openssl"):
        raise Missing("openssl (Debian: apt-get install openssl)")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True, timeout=20)
