"""One peer under one load: what it is asked, that it does what it must, and what that costs."""

import os
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gauges
from asking import Answer, Wrong, ask, ask_until_hit, check, connect, told, upload
from cases import Loaded
from files import Files
from loads import Load, LoadFailed, finished
from peers import Peer

LOG_LIMIT_S = 5
# Peers write a line after 50 ms at the latest; those of cut requests of the round before come late.
LOG_SETTLE_S = 0.25


@dataclass
class Round:
    """One peer under one load."""

    peer: str
    # Of each answer, as it is sent.
    body_bytes: int
    requests: int
    requests_per_s: float
    cpu_us_per_request: float
    p50_us: float | None
    p99_us: float | None
    p999_us: float | None
    unanswered: int
    pss_kib: int
    rss_peak_kib: int


@dataclass
class Question:
    """What one peer is asked, turn by turn. It has been seen to answer it right."""

    # In the results.
    name: str
    case: Loaded
    peer: Peer
    file: str
    # Whether the answer is compressed.
    coded: bool
    content: bytes
    # Of the body as it is sent, and what the log may say of it.
    size: int
    lengths: range


def questions(case: Loaded, peer: Peer, files: Files) -> list[Question]:
    """What is measured in the turns of a case: it itself, and the plain hit that it is compared with."""
    question = verified(case.name, case, peer, case.file, files)
    if not case.plain:
        return [question]
    return [question, verified(case.plain, case, peer, files.of_size(question.size), files)]


def verified(name: str, case: Loaded, peer: Peer, file: str, files: Files) -> Question:
    """The question, once the peer has answered it right, and its log has said so."""
    coded = case.coded and file == case.file
    content = files.content(file) if case.load.payload is None else told(upload(case.load.payload))
    question = Question(name, case, peer, file, coded, content, 0, range(0))
    if case.messages:
        # The generator looks at each message by itself, and a log has a line for the connection alone.
        return question
    empty_log(peer)
    answer = right_answer(question, file)
    question.size = len(answer.body)
    question.lengths = lengths(question)
    await_log(question, answer.requests, answer.requests)
    return question


def lengths(question: Question) -> range:
    """What the log may say of the length of an answer."""
    peer, size = question.peer, question.size
    if question.coded and peer.logs_plain_length:
        size = len(question.content)
    # Where a body is coded while it is sent, the log counts the framing of its chunks, and where the chunks of the
    # origin end can make some bytes of a difference.
    few = size // 50 if question.coded else 0
    return range(size - few, size + few + (64 if question.coded else 1) + peer.log_slack)


def right_answer(question: Question, path: str) -> Answer:
    """The bytes of the file, all of them, in the coding that is asked for and out of the store if the case says so."""
    case, peer = question.case, question.peer
    load = case.load
    try:
        if case.hits:
            answer = ask_until_hit(peer, load.tls, path, load.header)
        else:
            with closing(connect(peer, load.tls)) as connection:
                answer = ask(connection, path, load.header, None if load.payload is None else upload(load.payload))
        check(answer, question.content, question.coded)
    except (Wrong, OSError) as wrong:
        raise Wrong(f"{question.name}: {peer.name}: {wrong}") from None
    return answer


@dataclass(frozen=True)
class Turn:
    """How long a peer is asked, in which round, and by what."""

    number: int
    seconds: float
    load: Load
    generator: Path


def take_turn(question: Question, turn: Turn) -> Round:
    case, peer, origin, seconds = question.case, question.peer, question.peer.origin, turn.seconds
    path = question.file
    if case.hits:
        # A response of the turn's own, so that it is fresh until the end.
        path += f"?turn={turn.number}-{type(turn.load).__name__}"
        right_answer(question, path)
    empty_log(peer)
    pids = peer.pids()
    forget_peaks(pids)
    origin_before = origin.requests()
    cpu_before = gauges.cpu_ns(pids)
    generators = turn.load.start(f"{base(peer, turn.load.tls)}/{path}", seconds, turn.generator)
    time.sleep(seconds * 0.7)
    pss_kib = gauges.pss_kib(pids)
    try:
        load = turn.load.answered(finished(generators, seconds), seconds)
    except LoadFailed as failed:
        raise Wrong(f"{question.name}, {peer.name}: the load generator says\n{failed}") from None
    await_log(question, load.requests, load.requests + turn.load.in_flight)
    if peer.pids() != pids:
        raise Wrong(f"{question.name}: {peer.name} has replaced a process")
    cpu_us = (gauges.cpu_ns(pids) - cpu_before) / 1000
    check_origin(question, load.requests, origin.requests() - origin_before)
    return Round(
        peer=peer.name,
        body_bytes=question.size,
        requests=load.requests,
        requests_per_s=load.requests / load.seconds,
        cpu_us_per_request=cpu_us / load.requests,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        p999_us=load.p999_us,
        unanswered=load.unanswered,
        pss_kib=pss_kib,
        rss_peak_kib=gauges.rss_peak_kib(pids),
    )


def base(peer: Peer, tls: bool) -> str:
    return f"https://127.0.0.1:{peer.https}" if tls else f"http://127.0.0.1:{peer.http}"


def check_origin(question: Question, requests: int, reached_origin: int):
    """No hit reaches the origin, and everything else does."""
    good = reached_origin == 0 if question.case.hits else reached_origin >= requests
    if not good and not question.case.messages:
        raise Wrong(f"{question.name}: of {requests} requests, {question.peer.name} passed {reached_origin} on")


def await_log(question: Question, least: int, most: int):
    """Each answer has a line with its status and length. Those under way at the end may have one too."""
    if not question.peer.logs or question.case.messages:
        return
    least = int(least * (1 - question.peer.log_loss))
    deadline = time.monotonic() + LOG_LIMIT_S
    while True:
        log = question.peer.access_log.read_bytes()
        counts = Counter(question.peer.good_line.findall(log))
        lines, good = log.count(b"\n"), sum(counts[length] for length in counts if int(length) in question.lengths)
        if good >= least and lines <= most:
            return
        if time.monotonic() > deadline:
            raise Wrong(
                f"{question.name}: {question.peer.name} logged {lines} lines for {least} answers, {good} of them good; "
                f"lengths are {dict(counts.most_common(5))}, and must be from {question.lengths[0]} to {question.lengths[-1]}"
            )
        time.sleep(0.02)


def empty_log(peer: Peer):
    time.sleep(LOG_SETTLE_S)
    if peer.logs:
        os.truncate(peer.access_log, 0)


def forget_peaks(pids: list[int]):
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
