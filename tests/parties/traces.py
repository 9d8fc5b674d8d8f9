"""One request by way of the edge, and what the collector's log and the access log say of it, with the stores that the app
asks for it."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request

from _checks import expect, expect_that, finish, part

PROTOCOL, HTTP, COLLECTED, ACCESS, *STORES = sys.argv[1:]
PATIENCE_S = 30


def ask(method, path, body=None, token=None):
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(HTTP + path, data, headers, method=method), timeout=20)


def until(what, look):
    """Looks again until there is something."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"waited in vain for {what}")


def collected():
    """The spans of the log: their fields, the service, and attributes as text."""
    spans, service, resource = [], "", False
    with open(COLLECTED, encoding="utf-8", errors="replace") as log:
        for line in log:
            line = line.rstrip("\n")
            attribute = re.match(r" +-> ([^:]+): \w+\((.*)\)$", line)
            field = re.match(r" {4}(Trace ID|Parent ID|ID|Name|Kind|Status code) *: (.*)$", line)
            if line.startswith("Resource attributes"):
                resource = True
            elif line.startswith("Span #"):
                resource = False
                spans.append({"service": service})
            elif field and spans:
                spans[-1][field[1]] = field[2]
            elif attribute and resource:
                service = attribute[2] if attribute[1] == "service.name" else service
            elif attribute and spans:
                spans[-1][attribute[1]] = attribute[2]
    return spans


def stores_of(spans):
    return [span for span in spans if "db.system.name" in span]


def check_stores(spans, app):
    stores = stores_of(spans)
    expect("each store that is asked has spans", {s["db.system.name"] for s in stores}, set(STORES))
    below = {s["db.system.name"] for s in stores if s.get("Parent ID") == app["ID"]}
    expect("each store is asked below the app", below, set(STORES))
    above = {by["Kind"] for by in spans for s in stores if s.get("Parent ID") == by["ID"]}
    expect("none is below anything but the app and its jobs", above, {"SPAN_KIND_SERVER", "SPAN_KIND_CONSUMER"})
    kinds = {(s["service"], s["Kind"]) for s in stores}
    expect("they are spans of a client", kinds, {("tollgate-backend", "SPAN_KIND_CLIENT")})
    named = all(s["Name"] and s["Name"] == s.get("db.operation.name") for s in stores)
    expect_that("they are named by their operation", named, stores)
    fields = {field for s in stores for field in s if "." in field}
    expect("they hold no statement, no value and no fault", fields, {"db.system.name", "db.operation.name"})
    if "redis" in STORES:
        operations = {s["Name"] for s in stores if s["db.system.name"] == "redis"}
        expect_that("whether the token is revoked is asked of Redis", "GET" in operations, operations)


with part(f"a trace by {PROTOCOL}"):
    name = f"ada-{PROTOCOL.replace('/', '-')}"
    account = {"email": f"{name}@example.com", "user_name": name, "display_name": name, "password": "correct horse"}
    ask("POST", "/api/v1/auth/register", account)
    grant = json.load(ask("POST", "/api/v1/auth/login", {"login": name, "password": "correct horse"}))
    added = ask("POST", "/api/v1/media", {"title": "Song", "content_type": "audio/ogg"}, grant["access_token"])
    trace, span = added.headers["x-trace-id"], added.headers["x-span-id"]

    def of_trace():
        spans = [span for span in collected() if span.get("Trace ID") == trace]
        kinds = {span.get("Kind") for span in spans}
        whole = {"SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_CONSUMER"} <= kinds
        servers = [span for span in spans if span.get("Kind") == "SPAN_KIND_SERVER"]
        # What was asked comes before who asked.
        known, stores = {span.get("ID") for span in spans}, stores_of(spans)
        whole = whole and all(span.get("Parent ID") in known for span in stores)
        asked = {span["db.system.name"] for span in stores}
        return spans if whole and len(servers) == 2 and asked >= set(STORES) else None

    spans = until("edge, app and job in the collector", of_trace)
    by_id = {span["ID"]: span for span in spans}
    edge = by_id.get(span, {})
    expect("the response names the span of the edge", (edge.get("service"), edge.get("Kind")), ("tollgate", "SPAN_KIND_SERVER"))
    app = next(s for s in spans if s["Kind"] == "SPAN_KIND_SERVER" and s["service"] == "tollgate-backend")
    attempt = by_id.get(app.get("Parent ID"), {})
    expect("the app is below the attempt of the edge", (attempt.get("Kind"), attempt.get("Parent ID")), ("SPAN_KIND_CLIENT", span))
    expect("the app knows its user", bool(app.get("user.id")), True)
    expect("routes are named", (edge.get("http.route"), app.get("http.route")), ("/", "/api/v1/media"))
    job = next(s for s in spans if s["Kind"] == "SPAN_KIND_CONSUMER")
    check_stores(spans, app)
    expect("the job is below the request that left it", job.get("Parent ID"), app["ID"])

    def logged():
        lines = (json.loads(line) for line in open(ACCESS, encoding="utf-8"))
        return [line for line in lines if line.get("trace_id") == trace]

    line = until("the line of the log", logged)[0]
    expect("the log names the same", line["span_id"], span)

if "redis" in STORES:
    with part("Redis is gone"):
        subprocess.run(["redis-cli", "-u", os.environ["REDIS_URL"], "shutdown", "nosave"], check=True)
        asked = urllib.request.Request(HTTP + "/api/v1/users/me", headers={"authorization": f"Bearer {grant['access_token']}"})
        profile = urllib.request.urlopen(asked, timeout=20)
        expect("the app goes on without it", (profile.status, json.load(profile)["user_name"]), (200, name))
        trace = profile.headers["x-trace-id"]

        def failed():
            spans = [span for span in collected() if span.get("Trace ID") == trace]
            app = [s for s in spans if (s["service"], s.get("Kind")) == ("tollgate-backend", "SPAN_KIND_SERVER")]
            return (app[0], stores_of(spans)) if app else None

        app, stores = until("the app's span", failed)
        faults = {s["db.system.name"] for s in stores if s.get("error.type") and s.get("Parent ID") == app["ID"]}
        expect("the call that failed says so, and nothing else", faults, {"redis"})
        expect("the request did not fail", "error.type" in app, False)

finish()
