"""Asks a Prometheus that scrapes the edge, the app and the exporters for all that rules and dashboards name, after some
traffic: every series must be there, every rule be evaluated, and every panel have something to draw."""

import os
import socket
import subprocess
import sys
import time

import requests
import yaml

import _queries
from _checks import expect, expect_that, finish, part

DEPLOY, HTTP, HTTPS, PROMETHEUS, ALERTMANAGER, REPLICA = sys.argv[1:]
LEFT_OUT = _queries.left_out(os.path.join(os.path.dirname(__file__), "stack_left_out.txt"))
LIMIT_S = 40


def none(name, found):
    """One check that there is nothing of the kind, or one for each."""
    expect_that(name, not found, f"{len(found)} are not so")
    for one in found:
        expect_that(one, False, name)


def ask(path, **parameters):
    answer = requests.get(f"{PROMETHEUS}/api/v1/{path}", params=parameters, timeout=10).json()
    if answer["status"] != "success":
        raise RuntimeError(f"{parameters}: {answer.get('error')}")
    return answer["data"]


def until(found, wanted=lambda value: not value):
    """Asks until what is found is as wanted, or time is over; the last that was found."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            value = found()
            if wanted(value) or time.monotonic() > deadline:
                return value
        except requests.ConnectionError:
            # It has only just been started.
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def traffic(number):
    """One round of what clients do, from an address of its own; the first also does what is limited."""
    client = requests.Session()
    client.verify = False
    client.headers["X-Forwarded-For"] = f"192.0.2.{number + 1}"
    for path in ["/bytes/5000", "/bytes/5000", "/status/500", "/status/404", "/api/v1/products", "/slow", "/health"]:
        client.get(HTTP + path, timeout=30)
    client.get(HTTPS + "/", timeout=30)
    refused(HTTP.removeprefix("http://"))
    client.post(HTTP + "/upload", data=b"x" * (11 << 20), timeout=30)
    account = {"email": f"u{number}@example.com", "user_name": f"user{number}", "display_name": "u", "password": "correct horse"}
    client.post(HTTP + "/api/v1/auth/register", json=account, timeout=30)
    for password in ["wrong horse", "correct horse"]:
        login = client.post(HTTP + "/api/v1/auth/login", json={"login": account["user_name"], "password": password}, timeout=30)
    fields = {"Authorization": f"Bearer {login.json()['access_token']}"}
    client.get(HTTP + "/api/v1/users/me", headers=fields, timeout=30)
    client.post(HTTP + "/api/v1/media", headers=fields, json={"title": "walk", "content_type": "image/jpeg"}, timeout=30)
    for _ in range(120 if number == 0 else 0):
        client.get(HTTP + "/bytes/1", timeout=30)


def refused(address):
    """A request that may be read in two ways."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 10) as edge:
        edge.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        edge.recv(1024)


def named():
    """Everything that is named, with where it is."""
    found = {}
    for rule in _queries.rules(f"{DEPLOY}/prometheus"):
        for selector in _queries.selectors(rule["expr"]):
            found.setdefault(selector, rule.get("alert") or rule["record"])
    for file, dashboard in _queries.dashboards(f"{DEPLOY}/grafana/dashboards").items():
        places = [*_queries.panel_queries(dashboard), *_queries.variable_selectors(dashboard)]
        for place, expression in places:
            for selector in _queries.selectors(expression):
                found.setdefault(selector, f"{file}, {place}")
    return found


def missing(selectors):
    return sorted(selector for selector in selectors if not ask("query", query=f"count(last_over_time({selector}[1m]))")["result"])


def panels():
    for file, dashboard in _queries.dashboards(f"{DEPLOY}/grafana/dashboards").items():
        for title, expression in _queries.panel_queries(dashboard):
            if not any(selector in LEFT_OUT for selector in _queries.selectors(expression)):
                yield f"{file}, {title}", expression


def draw(empty):
    """Takes out those queries that have a result by now; a rate has one while something goes on."""
    for number, (_, expression) in list(empty.items()):
        if ask("query", query=expression)["result"]:
            del empty[number]
    return empty


def of_edge(name, severity, instance="edge:1", **more):
    return {"alertname": name, "severity": severity, "job": "tollgate", "instance": instance, **more}


INHIBITION = [
    (of_edge("TollgateErrorRatio", "critical"), "active"),
    (of_edge("TollgateErrorRatio", "warning"), "suppressed"),
    (of_edge("TollgateErrorRatio", "warning", "edge:2"), "active"),
    (of_edge("TollgateCertificateExpires", "critical", host="a"), "active"),
    (of_edge("TollgateCertificateExpires", "warning", host="b"), "active"),
    (of_edge("TollgateEndpointFull", "critical", upstream="api", endpoint="10.0.0.5:3000"), "active"),
    (of_edge("TollgateEndpointFull", "warning", upstream="api", endpoint="10.0.0.5:3000"), "suppressed"),
    (of_edge("TollgateEndpointFull", "warning", upstream="api", endpoint="10.0.0.6:3000"), "active"),
    (of_edge("TollgateUpstreamDown", "critical", upstream="app"), "active"),
    (of_edge("TollgateEndpointDown", "warning", upstream="app", endpoint="10.0.0.2:3000"), "suppressed"),
    (of_edge("TollgateEndpointDown", "warning", upstream="api", endpoint="10.0.0.3:3000"), "active"),
    (of_edge("TollgateUpstreamFailing", "critical", upstream="shop"), "active"),
    (of_edge("TollgateEndpointDown", "warning", upstream="shop", endpoint="10.0.0.4:3000"), "suppressed"),
    (of_edge("TollgateRouteErrorRatio", "warning", route="/"), "suppressed"),
    ({"alertname": "PostgresDown", "severity": "critical", "job": "postgres"}, "active"),
    ({"alertname": "AppDatabasePool", "severity": "critical", "job": "app"}, "suppressed"),
]


def key(labels):
    return tuple(sorted(labels.items()))


def states():
    """Alerts that the Alertmanager has, and whether another one keeps them quiet."""
    alerts = requests.get(f"{ALERTMANAGER}/api/v2/alerts", timeout=10).json()
    return {key(alert["labels"]): alert["status"]["state"] for alert in alerts}


def main():
    with part("scrapes"):
        targets = until(lambda: ask("targets")["activeTargets"], lambda targets: targets and all(target["health"] == "up" for target in targets))
        none("every target is up", [f"{target['labels']}: {target['lastError']}" for target in targets if target["health"] != "up"])
        jobs = {target["labels"]["job"] for target in targets}
        with open(f"{DEPLOY}/prometheus/prometheus.yml", encoding="utf-8") as file:
            shipped = {job["job_name"] for job in yaml.safe_load(file)["scrape_configs"]}
        expect("jobs that do not run here", {f"job:{name}" for name in shipped - jobs},
               {name for name in LEFT_OUT if name.startswith("job:")})
        expect("each replica", len([1 for target in targets if target["labels"]["job"] == "app"]), 3)

    with part("traffic"):
        for number in range(3):
            traffic(number)

    with part("series"):
        places = named()
        wanted = [selector for selector in places if selector not in LEFT_OUT]
        gone = until(lambda: missing(wanted))
        none(f"{len(wanted)} selections of series that rules and dashboards name", [f"{selector} ({places[selector]})" for selector in gone])
        stale = [name for name in LEFT_OUT if not name.startswith("job:") and (name not in places or not missing([name]))]
        expect("what is left out is named, and is not there", stale, [])

    with part("panels"):
        traffic(3)
        drawn = list(panels())
        empty = dict(enumerate(drawn))
        until(lambda: draw(empty))
        none(f"{len(drawn)} queries of panels have something to draw", [place for place, _ in empty.values()])

    with part("rules"):
        rules = until(lambda: [rule for group in ask("rules")["groups"] for rule in group["rules"]],
                      lambda rules: all(rule["health"] != "unknown" for rule in rules))
        none(f"{len(rules)} rules are evaluated", [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] != "ok"])
        expect("all that are shipped", len(rules), len(_queries.rules(f"{DEPLOY}/prometheus")))

    with part("alerts"):
        there = until(lambda: [alert["labels"]["alertname"] for alert in requests.get(f"{ALERTMANAGER}/api/v2/alerts", timeout=10).json()],
                      lambda names: "Watchdog" in names)
        expect_that("the alert that fires always is at the Alertmanager", "Watchdog" in there, there)

    with part("inhibition"):
        posted = [{"labels": labels} for labels, _ in INHIBITION]
        requests.post(f"{ALERTMANAGER}/api/v2/alerts", json=posted, timeout=10).raise_for_status()
        seen = until(states, lambda seen: all(seen.get(key(labels)) for labels, _ in INHIBITION))
        for labels, wanted in INHIBITION:
            expect(f"{' '.join(labels.values())} is {wanted}", seen.get(key(labels)), wanted)

    with part("health checks"):
        with open(f"{DEPLOY}/compose.yaml", encoding="utf-8") as file:
            command = yaml.safe_load(file)["services"]["app"]["healthcheck"]["test"][1:]
        for port, well in [(REPLICA.rpartition(":")[2], True), ("1", False)]:
            words = [word.replace("$$", "$").replace("/3000", f"/{port}") for word in command]
            expect(f"that of the app, well: {well}", subprocess.run(words, capture_output=True, timeout=10, check=False).returncode == 0, well)


requests.packages.urllib3.disable_warnings()
main()
finish()
