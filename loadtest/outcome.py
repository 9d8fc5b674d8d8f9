"""What a fault under load came to: which requests felt it, when all was well again, which rules held, and how that is told."""

import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from run import cpu_model

# An answer that took longer has felt the fault.
SLOW_MS = 1000
# So long the app waits for its database; what is away for longer fails requests, as it should.
PATIENCE_S = 8
ALL = ("GET", "PUT", "POST")


@dataclass
class Moments:
    """On the clock of the machine, in seconds."""

    begin: float = 0
    # When what failed could work again.
    end: float = 0
    # When health said that all is well; none if it did not.
    well: float | None = None


@dataclass
class Fault:
    name: str
    what: str
    # How long until all must be well again.
    recovery_max_s: float
    # Methods of which no request may fail.
    unharmed: tuple[str, ...] = ALL
    # Whether /health has to say 503 meanwhile, and so does not count.
    is_told: bool = False


@dataclass
class Answer:
    """A request of k6, and the moment in which it was over."""

    at: float
    status: int
    method: str
    endpoint: str
    ms: float

    @property
    def failed(self) -> bool:
        return self.status == 0 or self.status >= 500

    @property
    def begin(self) -> float:
        return self.at - self.ms / 1000


@dataclass
class Outcome:
    fault: Fault
    answers: list[Answer]
    moments: Moments
    # By session: orders that k6 was told of, and those that the database has.
    acknowledged: Counter
    stored: Counter
    given_up: int
    # Rules, and whether they held; none if the fault took longer than they are for.
    verdicts: list[tuple[str, bool | None]] = field(default_factory=list)

    def __post_init__(self):
        unharmed = self.fault.unharmed
        harmed = [each for each in self.answers if each.failed and each.method in unharmed and not self.is_due(each)]
        what = "request" if unharmed == ALL else " or ".join(unharmed)
        limit, took = self.fault.recovery_max_s, self.recovery_s
        unharmed_held = None if self.outage_s > PATIENCE_S else not harmed
        self.verdicts = [
            (f"no {what} failed", unharmed_held),
            (f"well within {limit:g} s", took is not None and took <= limit),
            ("no order lost or made twice", self.acknowledged == self.stored and not self.given_up),
        ]

    def is_due(self, answer: Answer) -> bool:
        return self.fault.is_told and answer.endpoint == "health" and answer.status == 503

    @property
    def recovery_s(self) -> float | None:
        """From the end of the fault until health says well, and the last request that felt it was over."""
        if self.moments.well is None:
            return None
        felt = [each.at for each in self.answers if (each.failed or each.ms > SLOW_MS) and each.at > self.moments.end]
        return round(max([self.moments.well, *felt]) - self.moments.end, 2)

    def during(self) -> list[Answer]:
        """Those that were under way in the fault or until the recovery."""
        over = self.moments.end + (self.recovery_s or self.fault.recovery_max_s)
        return [each for each in self.answers if each.at >= self.moments.begin and each.begin <= over]

    def before(self) -> list[Answer]:
        return [each for each in self.answers if each.at < self.moments.begin]

    @property
    def outage_s(self) -> float:
        return self.moments.end - self.moments.begin

    @property
    def passed(self) -> bool:
        return all(held is not False for _rule, held in self.verdicts)


def report(outcomes: list[Outcome], setting: str) -> str:
    """As Markdown. The setting is what all of them had in common."""
    lines = [
        f"# Failures, {datetime.now():%Y-%m-%d}",
        "",
        f"- CPU: {cpu_model()}, {os.cpu_count()} cores",
        f"- {setting}",
        "- 40 reads and 5 purchases begin each second, whether those before are answered or not. A purchase is sent again under",
        "  its key until it is confirmed.",
        "- Recovery: from the moment in which it could work again until health says well at every replica and the last",
        f"  request that failed or took more than {SLOW_MS} ms is over.",
        "- `/health` says 503 while the database is away, as it should; no rule counts that.",
        "",
        *table_head(),
    ]
    lines += [row(outcome) for outcome in outcomes]
    lines += ["", "| fault | rule | |", "| --- | --- | --- |"]
    for outcome in outcomes:
        for rule, held in outcome.verdicts:
            verdict = {True: "pass", False: "**FAIL**", None: f"not judged: it took more than {PATIENCE_S} s"}[held]
            lines.append(f"| {outcome.fault.name} | {rule} | {verdict} |")
    return "\n".join(lines) + "\n"


def table_head() -> list[str]:
    names = ["fault", "requests", "failed, by status", "fault, s", "recovery, s"]
    names += ["p50 before / during, ms", "p99 before / during, ms", "longest, ms", "orders confirmed / stored"]
    return [f"| {' | '.join(names)} |", "| --- | ---: | --- |" + " ---: |" * (len(names) - 3)]


def row(outcome: Outcome) -> str:
    failed = Counter(f"{each.endpoint} {each.status or 'no answer'}" for each in outcome.answers if each.failed)
    told = ", ".join(f"{count} × {what}" for what, count in sorted(failed.items())) or "none"
    before, during = outcome.before(), outcome.during()
    cells = [
        outcome.fault.what,
        str(len(outcome.answers)),
        told,
        f"{outcome.outage_s:.1f}",
        "never" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}",
        f"{quantile(before, 0.5):.0f} / {quantile(during, 0.5):.0f}",
        f"{quantile(before, 0.99):.0f} / {quantile(during, 0.99):.0f}",
        f"{quantile(during, 1):.0f}",
        f"{outcome.acknowledged.total()} / {outcome.stored.total()}",
    ]
    return f"| {' | '.join(cells)} |"


def quantile(answers: list[Answer], part: float) -> float:
    found = sorted(each.ms for each in answers)
    return found[min(len(found) - 1, int(part * len(found)))] if found else 0.0
