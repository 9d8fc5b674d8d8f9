"""Frames of WebSocket, right and wrong, through the edge and direct: what is answered is the same, byte for byte.

Arguments: the origin, the edge in cleartext and with TLS (HOST:PORT each), and the root of its certificate. SEED and CASES
in the environment choose what is drawn.
"""

import os
import random
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from select import select

from _checks import expect, expect_that, finish
from _frames import conversation

LIMIT_S = 10
CASES = int(os.environ.get("CASES", 500))
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

origin, cleartext, over_tls = (address.rpartition(":")[::2] for address in sys.argv[1:4])
tls = ssl.create_default_context(cafile=sys.argv[4])


def connect(way):
    host, port = {"direct": origin, "cleartext": cleartext, "TLS": over_tls}[way]
    stream = socket.create_connection((host, int(port)), LIMIT_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(stream, server_hostname=host) if way == "TLS" else stream


class Case:
    """What is sent, in which pieces, and how it ends; the same whichever way it goes."""

    def __init__(self, number):
        drawn = random.Random(f"{SEED} {number}")
        self.path = "/mirror" if drawn.random() < 0.2 else "/echo"
        self.frames = conversation(drawn)
        data = b"".join(self.frames)
        # Along the frames, all at once, in a few pieces, or byte by byte.
        how = drawn.randrange(4)
        if how == 0:
            self.pieces = self.frames
        elif how == 1 or len(data) < 2:
            self.pieces = [data]
        elif how == 2 or len(data) > 2000:
            cuts = sorted(drawn.randrange(1, len(data)) for _ in range(drawn.randrange(1, 8)))
            self.pieces = [data[begin:end] for begin, end in zip([0] + cuts, cuts + [len(data)])]
        else:
            self.pieces = [bytes([byte]) for byte in data]
        # A client that does not wait for the 101 sends its first piece along with the head.
        self.is_early = bool(self.pieces) and drawn.random() < 0.1

    def run(self, way, wanted=None):
        """The fields of the answer that are about WebSocket, and the bytes behind it: all, or as many as are wanted."""
        pieces = list(self.pieces)
        with connect(way) as stream:
            head = (
                f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
            )
            stream.sendall(head.encode() + (pieces.pop(0) if self.is_early else b""))
            answer = b""
            while b"\r\n\r\n" not in answer:
                data = stream.recv(1 << 16)
                if not data:
                    return [answer], b""
                answer += data
            head, _, rest = answer.partition(b"\r\n\r\n")
            rest += exchange(stream, pieces, None if wanted is None else wanted - len(rest))
        lines = head.split(b"\r\n")
        about = (b"http/", b"sec-websocket", b"upgrade", b"connection")
        return sorted(line.lower() for line in lines if line.lower().startswith(about)), rest


def exchange(stream, pieces, wanted):
    """Sends and reads at the same time, for answers may be longer than what sockets hold. Then it ends its side and reads to
    the end; or it reads as much as is wanted."""
    stream.setblocking(False)
    left, read, has_ended = [piece for piece in pieces if piece], b"", False
    if not left and wanted is None:
        stream.shutdown(socket.SHUT_WR)
    while left or not (has_ended if wanted is None else has_ended or len(read) >= wanted):
        waits = True
        if left:
            try:
                left[0] = left[0][stream.send(left[0]) :]
                waits = False
            except WAITS:
                pass
            if not left[0]:
                left.pop(0)
                if not left and wanted is None:
                    stream.shutdown(socket.SHUT_WR)
        if not has_ended:
            try:
                data = stream.recv(1 << 16)
                read, has_ended, waits = read + data, not data, False
            except WAITS:
                pass
        if waits and select([stream], [stream] if left else [], [], LIMIT_S) == ([], [], []):
            raise TimeoutError(f"nothing for {LIMIT_S} s after {len(read)} bytes")
    return read


def differs(number):
    """What is wrong with a case; nothing if all ways bring the same."""
    case = Case(number)
    try:
        direct = case.run("direct")
    except OSError as error:
        return case, f"direct: {error!r}"
    for way in ("cleartext", "TLS"):
        try:
            # Python cannot end its side of TLS and go on reading, so there the end is not waited for.
            found = case.run(way, wanted=len(direct[1]) if way == "TLS" else None)
        except OSError as error:
            return case, f"{way}: {error!r}"
        if found != direct:
            return case, f"{way}: {shown(found)}, and direct {shown(direct)}"
    return case, None


def shown(answer):
    fields, data = answer
    return f"{fields} and {len(data)} bytes ending in {data[-40:].hex()}"


begun = time.monotonic()
print(f"seed {SEED}, {CASES} cases")
with ThreadPoolExecutor(4) as pool:
    results = list(pool.map(differs, range(CASES)))
wrong = [(number, case, why) for number, (case, why) in enumerate(results) if why]
for number, case, why in wrong[:5]:
    print(f"case {number}: {case.path}, early {case.is_early}, {[len(piece) for piece in case.pieces][:20]}: {why}")
expect(f"frames: {CASES} conversations differ in none, SEED={SEED}", [number for number, _, _ in wrong], [])

# That the conversations say anything at all.
answers = [case.run("direct") for case, _ in results[:60] if case.path == "/echo"]
accepted = f"sec-websocket-accept: {ACCEPT}".lower().encode()
expect_that("frames: each is let in", all(accepted in fields for fields, _ in answers), answers[:1])
closes = {data[-2 - length :][2:4].hex() for _, data in answers for length in range(2, 126) if data[-2 - length : -length] == bytes([0x88, length])}
expect_that("frames: ends of several kinds", len(closes) >= 3, closes)
expect_that("frames: within a minute", time.monotonic() - begun < 60, f"{time.monotonic() - begun:.1f} s")
finish()
