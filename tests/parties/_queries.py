"""What rules and dashboards ask Prometheus for: expressions, and the series that they name."""

import glob
import json
import re

import yaml

# What stands for a variable when a dashboard is asked without Grafana.
VARIABLES = {"__rate_interval": "10s", "__interval": "10s"}
# Words of the language that stand where a metric could.
WORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan"}
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
TOKEN = re.compile(r"""
    (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<selector>[A-Za-z_:][\w:]*\s*\{(?:"(?:\\.|[^"\\])*"|[^}"])*\})
  | (?P<range>\[[^\]]*\])
  | (?P<number>\d[\w.]*)
  | (?P<word>[A-Za-z_:][\w:]*)(?P<call>\s*\()?
""", re.VERBOSE)


def rules(folder):
    """All rules below this folder."""
    found = []
    for path in sorted(glob.glob(f"{folder}/rules/*.yml")):
        with open(path, encoding="utf-8") as file:
            found += [rule for group in yaml.safe_load(file)["groups"] for rule in group["rules"]]
    return found


def dashboards(folder):
    """Dashboards by the name of their file."""
    found = {}
    for path in sorted(glob.glob(f"{folder}/*.json")):
        with open(path, encoding="utf-8") as file:
            found[path.rsplit("/", 1)[1]] = json.load(file)
    return found


def panel_queries(dashboard):
    """Panels with each of their expressions, variables replaced."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], replaced(target["expr"])


def variable_selectors(dashboard):
    """Variables with the series whose labels they list."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            listed = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])
            yield variable["name"], replaced(listed.group(1))


def replaced(expression):
    """A choice of all values is any value."""
    return re.sub(r"\$(\w+)", lambda name: VARIABLES.get(name.group(1), ".*"), expression)


def selectors(expression):
    """The series that an expression names, each with its labels."""
    found = []
    for token in TOKEN.finditer(GROUPING.sub(" ", expression)):
        if token["selector"]:
            found.append(token["selector"])
        elif token["word"] and not token["call"] and token["word"].lower() not in WORDS:
            found.append(token["word"])
    return found


def left_out(path):
    """What a file of names names, each with a reason after two spaces at least."""
    with open(path, encoding="utf-8") as file:
        lines = [re.split(r"\s{2,}", line, maxsplit=1) for line in file if line.strip() and not line.startswith("#")]
    return {name: reason.strip() for name, reason in lines}
