"""The report for people, with its plots, and the JSON beside it for tools."""

import os
import platform
import re
from datetime import date
from pathlib import Path

import plots
import tables
from cases import NAMES
from loads import HERE
from peers import PEERS
from peers.server import WORKERS, output_of
from results import Results

PLOTS = {
    "cpu": ("CPU time a request", plots.cpu),
    "latency": ("Latency", plots.latency),
    "growth": ("Growth", plots.growth),
    "memory": ("Memory", plots.memory),
}


def save(results: Results, folder: Path, add: bool) -> Path:
    """Writes a report of the day and its plots; or puts the results into the one of the day, if there is one."""
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", cpu_model().lower())).strip("-")
    path = folder / f"{date.today().isoformat()}-{slug}.json"
    return write(merged(path, results) if add and path.exists() else results, path)


def merged(path: Path, results: Results) -> Results:
    """What was saved there before, with these in place of the same cases."""
    whole = Results.read(path)
    whole.add(results, [*NAMES, *PEERS])
    return whole


def write(results: Results, path: Path) -> Path:
    """The JSON, its plots, and the report that shows them."""
    results.write(path, machine())
    drawn = {}
    for name, (title, draw) in PLOTS.items():
        if drawing := draw(results):
            drawn[title] = path.with_name(f"{path.stem}-{name}.svg")
            drawn[title].write_text(drawing)
    path.with_suffix(".md").write_text(markdown(results, {title: plot.name for title, plot in drawn.items()}))
    return path.with_suffix(".md")


def markdown(results: Results, drawn: dict[str, str] | None = None) -> str:
    sections = [
        ("The bars", tables.bars(results)),
        ("CPU time a request", tables.cpu(results)),
        ("Compressed hits", tables.plain(results)),
        ("Size of compressed bodies", tables.sizes(results)),
        ("Requests a second", tables.rates(results)),
        ("Latency", tables.latency(results)),
        ("Reloads", tables.reloads(results)),
        ("Growth", tables.growth(results)),
        ("Memory", tables.memory(results)),
        ("Memory under load", tables.under_load(results)),
    ]
    parts = [heading(results)]
    for title, text in sections:
        if text:
            plot = (drawn or {}).get(title)
            parts.append(f"## {title}\n\n" + (f"![{title}]({plot})\n\n" if plot else "") + text)
    return "\n\n".join(parts) + "\n"


def heading(results: Results) -> str:
    tools = [output_of(["wrk", "-v"]).partition(" Copyright")[0], output_of(["h2load", "--version"])]
    tools.append(output_of(["openssl", "version"]).partition(" (")[0])
    lines = [f"# versus, {date.today().isoformat()}", ""]
    lines += [f"- machine: {', '.join(machine().values())}; {WORKERS} workers in each peer"]
    lines += [f"- {name}: {version}" for name, version in results.peers.items()]
    lines += [f"- load: {', '.join(tools)}, and `load/` of this bench; turns of {results.seconds} s"]
    lines += ["- peers, origin and load share the cores"]
    lines += [f"- {note}" for note in results.notes]
    lines += [f"- `{command}`" for command in together(results.commands)]
    return "\n".join(lines)


def together(commands: list[str]) -> list[str]:
    """As few commands as do the same: what differs in its cases alone is one."""
    cases: dict[str, list[str]] = {}
    for command in commands:
        rest, *its = command.split(" --case ")
        cases.setdefault(rest, []).extend(case for case in its if case not in cases.get(rest, []))
    return [" --case ".join([rest, *its]) for rest, its in cases.items()]


def machine() -> dict[str, str]:
    return {"cpu": cpu_model(), "cores": f"{os.cpu_count()} cores", "kernel": f"Linux {platform.release().split('-')[0]}"}


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else os.uname().machine


if __name__ == "__main__":
    # Makes tables and plots of the newest results anew, out of their JSON.
    kept = max((HERE / "results").glob("*.json"))
    print(write(Results.read(kept), kept))
