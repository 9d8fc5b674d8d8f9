"""What the processes of a run take, looked at every second: CPU time and memory by role, and how many requests the edge has
answered. What the machine does besides is told too: it takes from all of them."""

import os
import sys
import threading
import time
from pathlib import Path

from stack import Stack

# Of the comparison with other proxies: the same looks into the kernel.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benches" / "versus"))
from gauges import cpu_ns, family  # noqa: E402

INTERVAL_S = 1.0


class Watch(threading.Thread):
    """Looks until it is told to stop. Roles are edge, replica-1 and on, the generator (k6), postgres, redis, and
    others for the rest of the machine."""

    def __init__(self, stack: Stack, generator_pid: int, generator: str = "k6"):
        super().__init__(daemon=True)
        self.stack, self.generator_pid, self.generator = stack, generator_pid, generator
        self.begin = time.monotonic()
        self.over = threading.Event()
        # By process: what it had used before, and its role.
        self.first_ns: dict[int, int] = {}
        self.last_ns: dict[int, int] = {}
        self.roles: dict[int, str] = {}
        self.peak_kib: dict[str, int] = {}
        self.samples: list[dict] = []
        self.machine_first_s = machine_busy_s()
        for pid, role in self.processes():
            self.roles[pid] = role
            self.first_ns[pid] = self.last_ns[pid] = used_ns(pid)

    def processes(self) -> list[tuple[int, str]]:
        found = [(self.stack.edge.pid, "edge")] if self.stack.edge else []
        found += [(pid, f"replica-{number}") for number, pid in self.stack.replicas().items()]
        found += [(pid, self.generator) for pid in family(self.generator_pid)]
        for store in self.stack.stores:
            found += [(pid, store.name) for pid in family(store.process.pid)] if store.process else []
        return found

    def run(self):
        while not self.over.wait(INTERVAL_S):
            self.look()

    def look(self):
        sample = {"at_s": round(time.monotonic() - self.begin, 2)}
        try:
            processes, metrics = self.processes(), self.stack.metrics()
        except OSError:
            return
        memory: dict[str, int] = {}
        for pid, role in processes:
            self.roles[pid] = role
            # One that began during the run has used all its time within it.
            self.first_ns.setdefault(pid, 0)
            self.last_ns[pid] = used_ns(pid) or self.last_ns.get(pid, 0)
            kib, peak = memory_kib(pid)
            memory[role] = memory.get(role, 0) + kib
            self.peak_kib[role] = max(self.peak_kib.get(role, 0), peak)
        sample["cpu_s"] = self.cpu_s()
        sample["memory_kib"] = memory
        sample["requests"] = total(metrics, "http_requests_total")
        sample["failed"] = total(metrics, "http_requests_total", 'status="5')
        self.samples.append(sample)

    def cpu_s(self) -> dict[str, float]:
        """CPU time by role since the begin, of processes that have ended too."""
        used: dict[str, float] = {}
        for pid, role in self.roles.items():
            used[role] = used.get(role, 0) + (self.last_ns[pid] - self.first_ns[pid]) / 1e9
        others = machine_busy_s() - self.machine_first_s - sum(used.values())
        return {role: round(seconds, 3) for role, seconds in sorted(used.items())} | {"others": round(max(0.0, others), 3)}

    def end(self):
        self.over.set()
        self.join()


def machine_busy_s() -> float:
    """CPU time of everything on the machine."""
    user, nice, system, _idle, _waiting, hard, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + hard + soft) / os.sysconf("SC_CLK_TCK")


def used_ns(pid: int) -> int:
    """Zero if it has ended."""
    try:
        return cpu_ns([pid])
    except OSError:
        return 0


def memory_kib(pid: int) -> tuple[int, int]:
    """What is resident, and the most that was."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return found.get("VmRSS", 0), found.get("VmHWM", 0)


def total(metrics: str, name: str, label: str = "") -> float:
    """The sum of all series of this name, or of those with this label."""
    lines = (line for line in metrics.splitlines() if line.startswith(name + "{") and label in line)
    return sum(float(line.rpartition(" ")[2]) for line in lines)
