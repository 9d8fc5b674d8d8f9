"""Clients of the app on a PostgreSQL with a streaming replica, through the edge at the address given: `paused` while the
replica is there, `gone` once it was killed, `back` when it is there again."""

import os
import subprocess
import sys
import time

import requests

from _checks import expect, expect_that, finish, part

TASK, BASE, ROOT = sys.argv[1:]
PASSWORD = "correct horse"


def psql(url, statement):
    command = ["psql", "-qAt", os.environ[url], "-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def call(method, path, token=None, **more):
    fields = {"Authorization": f"Bearer {token}"} if token else {}
    fields.update(more.pop("fields", {}))
    return requests.request(method, BASE + path, headers=fields, timeout=30, verify=ROOT, **more)


def signed_in(name):
    body = {"email": f"{name}@example.com", "user_name": name, "display_name": name, "password": PASSWORD}
    call("POST", "/api/v1/auth/register", json=body)
    return call("POST", "/api/v1/auth/login", json={"login": name, "password": PASSWORD}).json()["access_token"]


def add_workflow(name):
    psql("DATABASE_URL", f"insert into workflows values ('{name}', '{name}', '', '{name}', 0); "
                         f"insert into workflow_steps values ('{name}', 1, 'one', 'one', false)")


def found(name, limit):
    """How often a workflow is listed. The edge keeps each list, and one of another length is another."""
    answer = call("GET", f"/api/v1/workflows?category={name}&limit={limit}")
    return answer.status_code, len(answer.json().get("items", []))


def catch_up():
    """Waits until the replica has what the primary has."""
    wanted = psql("DATABASE_URL", "select pg_current_wal_lsn()")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if psql("DATABASE_REPLICA_URL", f"select pg_last_wal_replay_lsn() >= '{wanted}'") == "t":
            return
        time.sleep(0.02)
    raise SystemExit("the replica is not level after 10 s")


def stand_still(name):
    """What each of the two knows shows which one was asked."""
    psql("DATABASE_REPLICA_URL", "select pg_wal_replay_pause()")
    try:
        add_workflow(name)
        expect("a list is read from the replica", found(name, 1), (200, 0))
        if TASK == "paused":
            own_changes()
    finally:
        psql("DATABASE_REPLICA_URL", "select pg_wal_replay_resume()")
    catch_up()
    expect("and has what has come there since", found(name, 2), (200, 1))
    expect("as has the thing itself", call("GET", f"/api/v1/workflows/{name}").status_code, 200)


def own_changes():
    token = signed_in("rea")
    changed = call("PATCH", "/api/v1/users/me", token, json={"display_name": "Rea R."})
    expect("a replica that stands still keeps nobody from a change", changed.status_code, 200)
    expect("one's own change is there", call("GET", "/api/v1/users/me", token).json()["display_name"], "Rea R.")
    item = call("POST", "/api/v1/media", token, json={"title": "Rea", "content_type": "image/png"})
    expect("so is an item", call("GET", item.headers["Location"]).json()["title"], "Rea")
    expect("and in a search", len(call("GET", "/api/v1/media/search?q=rea").json()["items"]), 1)
    playlist = call("POST", "/api/v1/playlists", token, json={"name": "Rea"})
    expect("and a playlist", call("GET", playlist.headers["Location"], token).status_code, 200)
    run = call("POST", "/api/v1/workflows/paused/runs", token)
    expect("what is started is there", call("GET", run.headers["Location"], token).json()["done"], 0)
    step = call("POST", f"/api/v1/runs/{run.json()['id']}/steps/1", token, json={})
    expect("and each step of it", (step.status_code, step.json()["done"]), (200, 1))
    out = call("POST", "/api/v1/auth/logout", token)
    expect("signed out", (out.status_code, call("GET", "/api/v1/users/me", token).status_code), (204, 401))


def gone():
    add_workflow("gone")
    answers, slowest = set(), 0.0
    for limit in range(1, 31):
        begin = time.monotonic()
        answers.add(found("gone", limit))
        slowest = max(slowest, time.monotonic() - begin)
    expect("without the replica, the primary answers", answers, {(200, 1)})
    expect_that(f"and soon: the slowest of 30 after {slowest:.2f} s", slowest < 2, slowest)
    expect("search as well", call("GET", "/api/v1/workflows/search?q=gone").status_code, 200)


def back():
    # It is left alone for five seconds after each look in vain, at each of three replicas of the app.
    catch_up()
    psql("DATABASE_REPLICA_URL", "select pg_wal_replay_pause()")
    add_workflow("again")
    deadline, limit = time.monotonic() + 20, 0
    while found("again", limit := limit % 100 + 1) != (200, 0) and time.monotonic() < deadline:
        time.sleep(0.1)
    psql("DATABASE_REPLICA_URL", "select pg_wal_replay_resume()")
    expect_that("the replica is asked again", time.monotonic() < deadline)


with part(f"the replica of PostgreSQL: {TASK}"):
    {"paused": lambda: stand_still("paused"), "gone": gone, "back": back}[TASK]()
finish()
