"""What can be said of the files in deploy/ without running anything that they are for."""

import glob
import os
import re
import sys

import yaml

import _queries
from _checks import expect, expect_that, finish, part

DEPLOY = sys.argv[1]


def load(path):
    with open(f"{DEPLOY}/{path}", encoding="utf-8") as file:
        return yaml.safe_load(file)


def compose_is_whole():
    compose = load("compose.yaml")
    services = compose["services"]
    with open(f"{DEPLOY}/compose.yaml", encoding="utf-8") as file:
        text = file.read()
    with open(f"{DEPLOY}/.env.example", encoding="utf-8") as file:
        example = dict(line.strip().split("=", 1) for line in file if line.strip() and not line.startswith("#"))
    expect("each secret has its line in .env.example, and no value", example,
           {name: "" for name in set(re.findall(r"\$\{(\w+):\?", text))})
    expect("an image that is not built here has a version", [name for name, service in services.items()
           if "build" not in service and not re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.?\d*(-[a-z]+)?", service["image"])], [])
    # The image of the edge has its own.
    expect("each service has a check of its health", [name for name, service in services.items()
           if "healthcheck" not in service and name != "edge"], [])
    limits = {name: service["deploy"]["resources"]["limits"] for name, service in services.items()}
    expect("each service has limits", [name for name, limit in limits.items() if set(limit) != {"cpus", "memory"}], [])
    expect("each service restarts", {service.get("restart") for service in services.values()}, {"unless-stopped"})
    mounts = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    here = [source for source in mounts if source.startswith(".")]
    expect("what is mounted is there", [path for path in here if not os.path.isdir(f"{DEPLOY}/{path}")], [])
    named = {source for source in mounts if not source.startswith((".", "/"))}
    expect("each volume is declared, and used", named, set(compose["volumes"]))
    ports = [port for service in services.values() for port in service.get("ports", [])]
    expect("nothing is open to other machines", [port for port in ports if not port.startswith("127.0.0.1:")], [])
    expect("replicas, and what each may use", (services["app"]["deploy"]["replicas"], limits["app"]),
           (3, {"cpus": "2.0", "memory": "2G"}))
    to_jaeger = {name: service["environment"].get("OTEL_METRICS_EXPORTER") for name, service in services.items()
                 if "jaeger" in dict(service.get("environment") or {}).get("OTEL_EXPORTER_OTLP_ENDPOINT", "")}
    expect("Jaeger, which takes traces alone, is pushed no metrics", to_jaeger, {"edge": "none", "app": "none"})
    expect_that("Prometheus keeps 15 days", "--storage.tsdb.retention.time=15d" in services["prometheus"]["command"])


def scrapes_are_of_services():
    prometheus, services = load("prometheus/prometheus.yml"), load("compose.yaml")["services"]
    expect("scrapes", {key: prometheus["global"][key] for key in ("scrape_interval", "scrape_timeout")},
           {"scrape_interval": "15s", "scrape_timeout": "10s"})
    named = []
    for job in prometheus["scrape_configs"]:
        for found in job.get("static_configs", []):
            named += [target.split(":")[0] for target in found["targets"]]
        for found in job.get("dns_sd_configs", []):
            named += found["names"]
    expect("each target is a service", set(named) - set(services) - {"localhost", "host.docker.internal"}, set())


def alerts_are_tested():
    alerts = {(rule["alert"], rule["labels"]["severity"]) for rule in _queries.rules(f"{DEPLOY}/prometheus") if "alert" in rule}
    fired, quiet = set(), set()
    for path in glob.glob(f"{DEPLOY}/prometheus/tests/*.test.yml"):
        with open(path, encoding="utf-8") as file:
            tests = yaml.safe_load(file)["tests"]
        for row in [row for test in tests for row in test["alert_rule_test"]]:
            fired |= {(row["alertname"], alert["exp_labels"]["severity"]) for alert in row["exp_alerts"]}
            if not row["exp_alerts"]:
                quiet.add(row["alertname"])
    expect_that(f"15 alerts and more: {len({name for name, _ in alerts})}", len({name for name, _ in alerts}) >= 15)
    expect("each alert has a test that it fires", alerts - fired, set())
    # It has nothing to wait for.
    expect("and one that it does not", {name for name, _ in alerts} - quiet, {"Watchdog"})


def dashboard_is_whole(name, dashboard):
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expect(f"{name}: numbers of panels are their own", len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]))
    cells, twice = set(), []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        mine = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        if mine & cells or any(x > 23 for x, _ in mine):
            twice.append(panel["title"])
        cells |= mine
    expect(f"{name}: each panel has its place", twice, [])
    expect(f"{name}: each panel says what it shows, and its unit", [panel["title"] for panel in panels
           if not panel["description"] or not panel["fieldConfig"]["defaults"]["unit"]], [])
    expect(f"{name}: each query has a legend", [panel["title"] for panel in panels
           for target in panel["targets"] if not target["legendFormat"]], [])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", str(panels) + str(dashboard["templating"])))
    expect(f"{name}: variables", used - {"__rate_interval", "__interval", "__all"}, variables)
    sources = {str(panel["datasource"]) for panel in panels}
    expect(f"{name}: one source", sources, {str({"type": "prometheus", "uid": "${datasource}"})})


def dashboards_are_whole():
    compose = load("compose.yaml")["services"]["grafana"]
    (provider,) = load("grafana/provisioning/dashboards/tollgate.yaml")["providers"]
    expect_that("dashboards are where Grafana looks",
                f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["volumes"])
    found = _queries.dashboards(f"{DEPLOY}/grafana/dashboards")
    expect("dashboards", set(found), {"edge.json", "endpoints.json", "cache.json", "backend.json", "system.json"})
    expect("each has its own name", len({dashboard["uid"] for dashboard in found.values()}), len(found))
    expect_that("the first is there", os.path.basename(compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]) in found)
    for name, dashboard in found.items():
        dashboard_is_whole(name, dashboard)


for check in (compose_is_whole, scrapes_are_of_services, alerts_are_tested, dashboards_are_whole):
    with part(check.__name__.replace("_", " ")):
        check()
finish()
