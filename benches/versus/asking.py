"""Single requests, by which a peer is seen to answer right before anything is measured."""

import gzip
import ssl
import time
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from peers import Peer

# A response is in the store after its first request, its coded variant perhaps a moment later.
HIT_LIMIT_S = 2


class Wrong(Exception):
    """A peer did not do what was asked; its figures would mean nothing."""


@dataclass
class Answer:
    fields: Message
    body: bytes
    # How many requests it took until this one came.
    requests: int = 1


def connect(peer: Peer, tls: bool) -> HTTPConnection:
    if not tls:
        connection = HTTPConnection("127.0.0.1", peer.http, timeout=10)
    else:
        # The certificate is of our own making.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection("127.0.0.1", peer.https, timeout=10, context=context)
    connection.connect()
    return connection


def ask(connection: HTTPConnection, path: str, field: str | None = None, body: bytes | None = None) -> Answer:
    """A request as the load generators make it: `Host` names the address, since stores keep hosts apart."""
    connection.putrequest("GET" if body is None else "POST", f"/{path}", skip_accept_encoding=True)
    if field:
        connection.putheader(*field.split(": "))
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    try:
        answer = connection.getresponse()
        body = answer.read()
    except HTTPException as broken:
        raise Wrong(f"/{path} was answered with {broken!r}") from None
    if answer.status != 200:
        raise Wrong(f"/{path} was answered with {answer.status}\n{answer.headers}{body[:1000]!r}")
    return Answer(answer.headers, body)


def ask_until_hit(peer: Peer, tls: bool, path: str, field: str | None) -> Answer:
    """The first answer that comes out of the peer's store."""
    deadline = time.monotonic() + HIT_LIMIT_S
    requests = 0
    while time.monotonic() < deadline:
        with_answer = connect(peer, tls)
        answer = ask(with_answer, path, field)
        with_answer.close()
        requests += 1
        if peer.hit(answer.fields):
            answer.requests = requests
            return answer
        time.sleep(0.02)
    raise Wrong(f"{peer.name} does not answer /{path} out of its store after {requests} requests:\n{answer.fields}")


def check(answer: Answer, content: bytes, coded: bool):
    """The bytes of the file arrive, all of them, in the coding that is asked for."""
    coding = answer.fields["Content-Encoding"]
    if coding != ("gzip" if coded else None):
        raise Wrong(f"the body has the coding {coding}, in an answer with\n{answer.fields}")
    if (gzip.decompress(answer.body) if coded else answer.body) != content:
        raise Wrong(f"the body of {len(answer.body)} bytes is not the origin's, in an answer with\n{answer.fields}")


def upload(size: int) -> bytes:
    """The bytes that the generator of load posts."""
    return bytes((at * 31 ^ at >> 8) & 0xFF for at in range(size))


def told(body: bytes) -> bytes:
    """What the program behind the peers says of an upload: its length, and a sum of its bytes and their order."""
    total = 0
    for at in range(0, len(body), 8):
        total = (total * 0x0100_0000_01B3 + int.from_bytes(body[at : at + 8], "little")) & 0xFFFF_FFFF_FFFF_FFFF
    return f"{len(body)} {total:016x}".encode()
