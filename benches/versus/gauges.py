"""What the kernel says of running processes: CPU time to the nanosecond, memory, children."""

import time
from pathlib import Path

# clock_getcpuclockid(3): a process is named by its inverted id, and this clock counts the time it ran.
CPUCLOCK_SCHED = 2


def family(pid: int) -> list[int]:
    """The process and all that descend from it. What has ended between two looks is left out."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    pids = [pid]
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            pids += family(int(child))
    return pids


def title(pid: int) -> str:
    """What the process calls itself; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def cpu_ns(pids: list[int]) -> int:
    """CPU time of all threads, those that have ended included."""
    return sum(time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) for pid in pids)


def pss_kib(pids: list[int]) -> int:
    """Memory in KiB; a page that several processes share is divided among them."""
    return sum(_field(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids)


def rss_kib(pids: list[int]) -> int:
    """What is resident, in KiB. Pages that processes share count in each of them."""
    return sum(_field(f"/proc/{pid}/status", "VmRSS:") for pid in pids)


def rss_peak_kib(pids: list[int]) -> int:
    """The most that was resident, in KiB. Pages that processes share count in each of them."""
    return sum(_field(f"/proc/{pid}/status", "VmHWM:") for pid in pids)


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ValueError(f"{path} has no {name}")
