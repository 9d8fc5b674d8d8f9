"""Clients of the app's accounts through the edge at the address given: `routes`, `afterwards`, or so many seconds of asking
while something is killed."""

import os
import subprocess
import sys
import threading
import time

import requests

from _checks import expect, expect_that, finish, part

TASK, *rest = sys.argv[1:]
SECONDS = float(rest.pop(0)) if TASK in ("outage", "redis", "replica") else 0
BASE, ROOT, ADMIN, REDIS_PORT = rest
PASSWORD = "correct horse"
CLIENTS = 8


def session():
    client = requests.Session()
    client.verify = ROOT
    return client


def call(client, method, path, token=None, **more):
    fields = {"Authorization": f"Bearer {token}"} if token else {}
    fields.update(more.pop("fields", {}))
    return client.request(method, BASE + path, headers=fields, timeout=30, **more)


def register(client, name, **more):
    body = {"email": f"{name}@example.com", "user_name": name, "display_name": name, "password": PASSWORD, **more}
    return call(client, "POST", "/api/v1/auth/register", json=body)


def login(client, name):
    return call(client, "POST", "/api/v1/auth/login", json={"login": name, "password": PASSWORD})


def redis(*words):
    command = ["redis-cli", "-p", REDIS_PORT, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Psql:
    """A session of the database, of somebody else."""

    def __init__(self):
        pipe = subprocess.PIPE
        command = ["psql", "-qAt", os.environ["DATABASE_URL"]]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def ask(self, statement):
        """Runs it; the one line that it gives."""
        self.process.stdin.write(f"{statement};\n")
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def end_while_renewed(client, token):
    """Ends a session of this token while somebody renews it; how many of the tokens that he gave out are revoked then."""
    renewing, looking = Psql(), Psql()
    name = call(client, "GET", "/api/v1/users/me/sessions?limit=1", token).json()["items"][0]["id"]
    renewing.ask("begin; insert into refresh_tokens (digest, session_id, access_id, access_expires_ms) "
                 f"values ('renewed', '{name}', 'renewed', 9000000000000); select 1")
    ending = threading.Thread(target=call, args=(session(), "POST", "/api/v1/auth/logout", token))
    ending.start()
    deadline = time.monotonic() + 10
    while looking.ask("select count(*) from pg_locks where not granted") == "0" and time.monotonic() < deadline:
        time.sleep(0.01)
    renewing.ask("commit; select 1")
    ending.join()
    revoked = looking.ask("select count(*) from revoked_tokens where id = 'renewed'")
    for psql in (renewing, looking):
        psql.close()
    return revoked


def well(client):
    """The report once the database and Redis are well at the replica that answers, which looks once a second."""
    deadline = time.monotonic() + 10
    while True:
        report = call(client, "GET", "/health").json()
        found = [report["checks"][check]["status"] for check in ("database", "redis")]
        if found == ["healthy"] * 2 or time.monotonic() > deadline:
            expect("the database and Redis are well", found, ["healthy"] * 2)
            return report
        time.sleep(0.1)


def routes():
    client = session()
    with part("accounts"):
        made = register(client, "ada", phone="+41 44 668 18 00")
        expect("registering", made.status_code, 201)
        for field, value in [("email", "ada@example.com"), ("user_name", "ADA"), ("phone", "+41446681800")]:
            other = {"email": "b@example.com", "user_name": "bob", "phone": "+41446681801", field: value}
            body = {"display_name": "b", "password": PASSWORD, **other}
            refused = call(client, "POST", "/api/v1/auth/register", json=body)
            expect(f"{field} is taken", (refused.status_code, refused.json()["errors"][0]["field"]), (409, field))
        for name in ["ada", "ada@example.com", "+41446681800"]:
            expect(f"signing in by {name}", login(client, name).status_code, 200)
        wrong = call(client, "POST", "/api/v1/auth/login", json={"login": "ada", "password": "wrong horse"})
        nobody = call(client, "POST", "/api/v1/auth/login", json={"login": "eve", "password": "wrong horse"})
        expect("nobody and a wrong password", (wrong.status_code, wrong.content), (401, nobody.content))

    with part("profile"):
        token = login(client, "ada").json()["access_token"]
        me = call(client, "GET", "/api/v1/users/me", token)
        expect("profile", (me.status_code, me.json()["phone"]), (200, "+41446681800"))
        key = f"profile:{me.json()['id']}:1"
        expect_that("the profile is kept in Redis for a day", 86_000 < int(redis("ttl", key)) <= 86_400, redis("ttl", key))
        known = call(client, "GET", "/api/v1/users/me", token, fields={"If-None-Match": me.headers["ETag"]})
        expect("a known profile", (known.status_code, known.content), (304, b""))
        changed = call(client, "PATCH", "/api/v1/users/me", token, json={"display_name": "Ada L.", "phone": None})
        expect("changed", (changed.status_code, changed.json()["display_name"], changed.json()["phone"]), (200, "Ada L.", None))
        expect("the old one is gone from Redis", redis("exists", key), "0")
        names = {call(client, "GET", "/api/v1/users/me", token).json()["display_name"] for _ in range(6)}
        expect("every replica shows the change", names, {"Ada L."})

    with part("sessions"):
        grant = login(client, "ada").json()
        renewed = call(client, "POST", "/api/v1/auth/refresh", json={"refresh_token": grant["refresh_token"]})
        expect("renewed", renewed.status_code, 200)
        listed = call(client, "GET", "/api/v1/users/me/sessions?limit=2", renewed.json()["access_token"]).json()
        expect("sessions by pages", (len(listed["items"]), listed["items"][0]["current"]), (2, True))
        reused = call(client, "POST", "/api/v1/auth/refresh", json={"refresh_token": grant["refresh_token"]})
        expect("used twice", (reused.status_code, reused.json()["code"]), (401, "refresh-token-reused"))
        answers = {call(client, "GET", "/api/v1/users/me", t).json().get("code")
                   for t in [grant["access_token"], renewed.json()["access_token"]] for _ in range(6)}
        expect("its session has ended at every replica", answers, {"token-revoked"})
        expect("both tokens are known to Redis", redis("eval", "return #redis.call('keys', 'revoked:*')", "0"), "2")
        expect("whoever ends a session sees what a renewal gave out meanwhile",
               end_while_renewed(client, login(client, "ada").json()["access_token"]), "1")
        out = call(client, "POST", "/api/v1/auth/logout", token)
        expect("signed out", out.status_code, 204)
        expect("and out", call(client, "GET", "/api/v1/users/me", token).status_code, 401)

    with part("health"):
        report = well(client)
        expect_that("within 10 ms", report["response_time_ms"] < 10, report["response_time_ms"])


def settled(client, token, left):
    """Waits until jobs are over; how they ended."""
    deadline, ends = time.monotonic() + 30, []
    for job in left:
        while (seen := call(client, "GET", f"/api/v1/jobs/{job}", token).json())["state"] in ("waiting", "running"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        ends.append((seen["state"], seen["attempts"]))
    return ends


def walk(client, path, token=None, field="id"):
    """What this field of all items of all pages says."""
    seen, after = [], ""
    while True:
        page = call(client, "GET", path + after, token).json()
        seen += [item[field] for item in page["items"]]
        if not page["next"]:
            return seen
        after = f"&after={page['next']}"


def media():
    client = session()
    for name in ["mia", "max"]:
        register(client, name)
    mia, other = (login(client, name).json()["access_token"] for name in ["mia", "max"])
    added = []

    def add(numbers):
        with session() as mine:
            for number in numbers:
                body = {"title": f"Walk {number} in Zürich", "description": "fog", "content_type": "image/jpeg"}
                added.append(call(mine, "POST", "/api/v1/media", mia, json=body))

    with part("media"):
        threads = [threading.Thread(target=add, args=(range(start, 40, CLIENTS),)) for start in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect("40 items are added at once", [answer.status_code for answer in added], [201] * 40)
        ids = {answer.json()["media"]["id"] for answer in added}
        expect("pages show each once", sorted(walk(client, "/api/v1/media?limit=7")), sorted(ids))
        left = [job["id"] for answer in added for job in answer.json()["jobs"]]
        expect("every job is done at the first attempt", set(settled(client, mia, left)), {("done", 1)})
        foreign = call(client, "GET", f"/api/v1/jobs/{left[0]}", other)
        expect("a job is its owner's", foreign.status_code, 404)
        deadline = time.monotonic() + 30
        while len(told := walk(client, "/api/v1/notifications?limit=100", mia)) < 40 and time.monotonic() < deadline:
            time.sleep(0.05)
        expect("each item is told of once", len(told), 40)

    with part("search"):
        for words, found in [("walk zürich fog", 40), ("ZÜR", 40), ("zur", 0), ("walk 7", 1), ("fog' or", 0)]:
            page = call(client, "GET", "/api/v1/media/search", params={"q": words, "limit": 100}).json()
            expect(f"search for {words}", len(page["items"]), found)
        title = "see www.example.com/fog-7 (ada@mail.test)"
        call(client, "POST", "/api/v1/media", other, json={"title": title, "content_type": "a/b"})
        for words in ["example", "com see", "7", "fog 7", "mail ada"]:
            items = call(client, "GET", "/api/v1/media/search", params={"q": words}).json()["items"]
            expect_that(f"{words} is a word between others", title in [item["title"] for item in items], items)
        item = added[0].json()["media"]["id"]
        changed = call(client, "PATCH", f"/api/v1/media/{item}", mia, json={"title": "Snow"})
        expect("changed by its owner", changed.status_code, 200)
        foreign = call(client, "PATCH", f"/api/v1/media/{item}", other, json={"title": "x"})
        expect("and by nobody else", foreign.status_code, 404)
        found = call(client, "GET", "/api/v1/media/search?q=snow").json()["items"]
        expect("the change is found", [one["id"] for one in found], [item])

    with part("playlists"):
        made = call(client, "POST", "/api/v1/playlists", mia, json={"name": "secret"})
        path, order = made.headers["Location"], []
        for position, answer in zip([0, 0, 1, 9, 2], added):
            item = answer.json()["media"]["id"]
            placed = call(client, "PUT", f"{path}/items/{item}", mia, json={"position": position})
            expect(f"placed at {position}", placed.status_code, 204)
            order.insert(position, item)
        expect("in the order that was asked for", walk(client, f"{path}?limit=2", mia), order)
        moved = call(client, "PUT", f"{path}/items/{order[4]}", mia, json={"position": 1})
        order.insert(1, order.pop(4))
        removed = call(client, "DELETE", f"/api/v1/media/{order[0]}", mia)
        expect("moved, and one removed", (moved.status_code, removed.status_code), (204, 204))
        expect("it keeps the others", walk(client, f"{path}?limit=2", mia), order[1:])
        expect("nobody else sees it", call(client, "GET", path, other).status_code, 404)
        call(client, "PATCH", path, mia, json={"is_public": True})
        seen = call(client, "GET", path)
        expect("unless it is public", (seen.status_code, seen.headers["Cache-Control"][:6]), (200, "public"))
        tags = {call(client, "GET", more, mia).headers["ETag"].split(".")[0] for more in [path, f"{path}?limit=1"]}
        expect("each page has the version of the list", len(tags), 1)
        known, answers = {"If-Match": call(client, "GET", path, mia).headers["ETag"]}, []
        threads = [threading.Thread(target=lambda n=n: answers.append(
            call(session(), "PATCH", path, mia, json={"name": f"name {n}"}, fields=known).status_code))
            for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect("of many who change one version one does", sorted(answers), [204] + [412] * (CLIENTS - 1))
        call(client, "PATCH", path, mia, json={"name": "secret"})
        mine = call(client, "GET", "/api/v1/playlists?mine=true", mia).json()["items"]
        expect("counted", [(one["name"], one["items"]) for one in mine], [("secret", 4)])


class Asking:
    """One client that reads and changes its profile until the time is over."""

    def __init__(self, number):
        self.client, self.name = session(), f"{TASK}{number}"
        register(self.client, self.name)
        self.token = login(self.client, self.name).json()["access_token"]
        revoked = login(self.client, self.name).json()["access_token"]
        call(self.client, "POST", "/api/v1/auth/logout", revoked)
        self.revoked = revoked
        self.answers, self.believed, self.wrong, self.slowest = [], 0, 0, 0.0

    def run(self, until):
        number = 0
        while time.monotonic() < until:
            number += 1
            name = f"{self.name} {number}"
            changed = self.ask("PATCH", json={"display_name": name})
            seen = self.ask("GET")
            if number % 5 == 1:
                self.ask("POST", "/api/v1/media", json={"title": name, "content_type": "image/jpeg"})
            # Whether a change was made whose answer never came, nobody can know.
            if changed.status_code == seen.status_code == 200 and seen.json()["display_name"] != name:
                self.wrong += 1
            if call(self.client, "GET", "/api/v1/users/me", self.revoked).status_code == 200:
                self.believed += 1

    def jobs_left_over(self):
        """How many of the items that were added, also without an answer, were not told of exactly once."""
        deadline = time.monotonic() + 30
        items = sorted(walk(self.client, f"/api/v1/media/search?q={self.name}&limit=100"))
        while (told := sorted(walk(self.client, "/api/v1/notifications?limit=100", self.token, "subject"))) != items:
            if time.monotonic() > deadline or len(told) > len(items):
                break
            time.sleep(0.1)
        return len(items), sum(told.count(item) != 1 for item in items) + max(0, len(told) - len(items))

    def ask(self, method, path="/api/v1/users/me", **more):
        begin = time.monotonic()
        answer = call(self.client, method, path, self.token, **more)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        self.answers.append((method, answer.status_code, time.monotonic()))
        return answer


def ask_for_a_while():
    askers = [Asking(number) for number in range(CLIENTS)]
    # Only now: on a busy machine it takes seconds until all have signed in.
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=asker.run, args=(until,)) for asker in askers]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    told = set()
    while any(thread.is_alive() for thread in threads):
        told.add(call(session(), "GET", "/health").json()["status"])
        time.sleep(0.1)
    answers = [answer for asker in askers for answer in asker.answers]
    failed = [(method, status) for method, status, _ in answers if status >= 500]
    # A change that was sent to a replica which then died is nobody's to send again.
    if TASK == "replica":
        failed = [answer for answer in failed if answer[0] == "GET"]
    slowest = max(asker.slowest for asker in askers)
    expect(f"{TASK}: no failure in {len(answers)} answers, the slowest after {slowest:.2f} s", failed, [])
    expect(f"{TASK}: no revoked token was believed", sum(asker.believed for asker in askers), 0)
    expect(f"{TASK}: nobody saw an old profile", sum(asker.wrong for asker in askers), 0)
    added, wrong = (sum(counts) for counts in zip(*(asker.jobs_left_over() for asker in askers)))
    expect_that(f"{TASK}: items were added", added > 0)
    expect(f"{TASK}: the jobs of each of {added} items were done once", wrong, 0)
    late = [moment for _, status, moment in answers if status == 200 and moment > until - 1]
    expect_that(f"{TASK}: it goes on at the end", late)
    if TASK != "replica":
        wanted = {"outage": "unhealthy", "redis": "degraded"}[TASK]
        expect_that(f"{TASK}: health told", wanted in told, told)


def afterwards():
    client = session()
    well(client)
    status = requests.get(ADMIN + "/status", timeout=10).json()
    for replica in status["replicas"]:
        with open(f"/proc/{replica['pid']}/status", encoding="ascii") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
        expect_that(f"a replica holds less than 100 MB: {kib} KiB", kib * 1024 < 100_000_000, kib)
    metrics = call(client, "GET", "/metrics").text
    for name in ["auth_success_total", "active_users", "db_query_duration_seconds_count", "db_pool_connections", "queue_depth"]:
        expect_that(f"/metrics has {name}", f"\n{name}" in metrics)


{"routes": routes, "media": media, "afterwards": afterwards}.get(TASK, ask_for_a_while)()
finish()
