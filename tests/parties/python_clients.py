"""requests, httpx and websockets against the edge at the two addresses given."""

import asyncio
import hashlib
import json
import ssl
import sys
import time

import httpx
import requests
import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from _checks import expect, expect_that, finish, part

HTTP, HTTPS, ROOT = sys.argv[1:4]
CODINGS = ["gzip", "br", "zstd"]
TEXT = b"".join(b"line %d of a text\n" % n for n in range(5000))
LINE = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n"


def tls():
    """A context of its own for each client: httpx writes its ALPN into the one it gets."""
    return ssl.create_default_context(cafile=ROOT)


def digest_of_bytes(length):
    return hashlib.sha256((LINE * (length // 64 + 1))[:length]).hexdigest()


def pieces(count, size=10_000):
    for _ in range(count):
        yield b"p" * size


async def pieces_with_pauses(count):
    for _ in range(count):
        yield b"p" * 1000
        await asyncio.sleep(0.01)


def with_requests():
    with requests.Session() as session:
        session.verify = ROOT
        with part("requests: a session"):
            sockets = set()
            for n in range(50):
                response = session.get(f"{HTTPS}/echo?n={n}", stream=True)
                sockets.add(response.raw._connection.sock.getsockname())
                expect_once("requests: query of each answer", json.loads(response.content)["query"], f"n={n}")
            expect("requests: 50 requests over one connection", len(sockets), 1)
        with part("requests: methods"):
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                expect(f"requests: {method}", session.request(method, f"{HTTPS}/echo").json()["method"], method)
            head = session.head(f"{HTTPS}/bytes/1000")
            expect("requests: HEAD has the length and no content", (head.headers["content-length"], head.content), ("1000", b""))
        with part("requests: bodies"):
            sent = session.post(f"{HTTPS}/upload", data=pieces(1000))
            expect("requests: an upload by a generator goes in chunks", sent.json()["bytes"], 10_000_000)
            sent = session.post(f"{HTTPS}/upload", data=b"x" * 3_000_000)
            expect("requests: an upload of known length", sent.json()["bytes"], 3_000_000)
            sent = session.post(f"{HTTPS}/upload", files={"file": ("a.bin", b"y" * 500_000)})
            expect_that("requests: a form with a file", sent.json()["bytes"] > 500_000)
            sent = session.post(f"{HTTPS}/echo", json={"a": [1, "ü"]})
            expect("requests: JSON", json.loads(sent.json()["body"]["content"]), {"a": [1, "ü"]})
            with session.get(f"{HTTPS}/bytes/5000000?chunked=1", stream=True) as response:
                received = hashlib.sha256()
                for piece in response.iter_content(4096):
                    received.update(piece)
            expect("requests: a download in chunks", received.hexdigest(), digest_of_bytes(5_000_000))
        with part("requests: statuses"):
            for status in (200, 201, 204, 304, 400, 404, 418, 500, 503):
                expect(f"requests: {status}", session.get(f"{HTTPS}/status/{status}").status_code, status)
        with part("requests: compression"):
            # Its zstd needs a package that httpx does not use.
            for coding in ("gzip", "br"):
                response = session.get(f"{HTTPS}/text", headers={"Accept-Encoding": coding})
                expect(f"requests: a text in {coding}", response.headers.get("content-encoding"), coding)
                expect(f"requests: what a text in {coding} says", response.content, TEXT)
        with part("requests: an answer given up"):
            session.get(f"{HTTPS}/bytes/100000000", stream=True).close()
            expect("requests: after an answer given up", session.get(f"{HTTPS}/health").status_code, 200)


_seen_once = set()


def expect_once(name, actual, wanted):
    """A check in a loop: printed the first time and whenever it fails."""
    if actual != wanted or name not in _seen_once:
        _seen_once.add(name)
        expect(name, actual, wanted)


async def with_httpx(name, base, **options):
    async with httpx.AsyncClient(base_url=base, verify=tls(), timeout=20, **options) as client:
        version = "HTTP/2" if options.get("http2") else "HTTP/1.1"
        with part(f"{name}: many at once"):
            answers = await asyncio.gather(*(client.get(f"/echo?n={n}") for n in range(100)))
            expect(f"{name}: protocol", {answer.http_version for answer in answers}, {version})
            queries = [answer.json()["query"] for answer in answers]
            expect(f"{name}: 100 at once, each its own answer", queries, [f"n={n}" for n in range(100)])
            ids = {dict(answer.json()["fields"])["x-request-id"] for answer in answers}
            expect(f"{name}: each request has an id of its own", len(ids), 100)
        with part(f"{name}: slow and fast together"):
            slow = asyncio.create_task(client.get("/slow?ms=1500"))
            begin = time.monotonic()
            # One after the other: of many at once httpx lets one that has its answer wait for who reads the connection,
            # which is the slow one.
            for _ in range(20):
                await client.get("/health")
            expect_that(f"{name}: a slow answer holds no other up", not slow.done(), time.monotonic() - begin)
            expect(f"{name}: the slow answer", (await slow).json()["waited_ms"], 1500)
        with part(f"{name}: bodies"):
            answers = await asyncio.gather(*(client.post("/upload", content=pieces_with_pauses(30)) for _ in range(10)))
            expect(f"{name}: ten streamed uploads", [answer.json()["bytes"] for answer in answers], [30_000] * 10)
            answers = await asyncio.gather(*(client.get("/bytes/700000") for _ in range(10)))
            wanted = {digest_of_bytes(700_000)}
            expect(f"{name}: ten downloads", {hashlib.sha256(answer.content).hexdigest() for answer in answers}, wanted)
        with part(f"{name}: compression"):
            answers = await asyncio.gather(*(client.get("/text", headers={"accept-encoding": c}) for c in CODINGS * 10))
            expect(f"{name}: each coding", [a.headers.get("content-encoding") for a in answers], CODINGS * 10)
            expect(f"{name}: the text in each coding", {a.content for a in answers}, {TEXT})
        with part(f"{name}: too large"):
            answer = await client.post("/upload", content=b"", headers={"content-length": "0"})
            expect(f"{name}: an empty body", answer.json()["bytes"], 0)
            # Over HTTP/2 httpx waits for ever if its stream is reset while it sends, so the edge must take that much.
            for length in (200_000,) if options.get("http2") else (200_000, 68_000_000):
                answer = await client.put("/small", content=b"z" * length)
                expect(f"{name}: {length} bytes over the limit", answer.status_code, 413)
        with part(f"{name}: cancelled"):
            for _ in range(5):
                try:
                    await client.get("/slow?ms=5000", timeout=0.05)
                except httpx.TimeoutException:
                    pass
            expect(f"{name}: after five that gave up", (await client.get("/health")).status_code, 200)
        for coding in ["identity", *CODINGS]:
            with part(f"{name}: events in {coding}"):
                await events(f"{name}: {coding}", client, coding)


async def events(name, client, coding):
    """Events must come one by one, not all at the end."""
    times, data = [], []
    begin = time.monotonic()
    async with client.stream("GET", "/events?count=5&interval_ms=150", headers={"accept-encoding": coding}) as response:
        expect(f"{name}: events have their coding", response.headers.get("content-encoding", "identity"), coding)
        expect(f"{name}: events have their type", response.headers["content-type"], "text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                times.append(time.monotonic() - begin)
                data.append(json.loads(line[5:])["n"])
    expect(f"{name}: events in order", data, [0, 1, 2, 3, 4])
    gaps = [after - before for before, after in zip(times, times[1:])]
    expect_that(f"{name}: events one at a time", min(gaps) > 0.05, gaps)


async def with_websockets(name, base, **options):
    url = base.replace("http", "ws", 1)
    with part(f"{name}: echo"):
        async with connect(f"{url}/ws", max_size=4 << 20, compression=None, **options) as socket:
            for message in ("text", "ü" * 1000, b"\x00\xff" * 100, "", "m" * (1 << 20)):
                await socket.send(message)
                received = await asyncio.wait_for(socket.recv(), 10)
                expect(f"{name}: {type(message).__name__} of {len(message)} comes back", received == message, True)
            latency = await asyncio.wait_for(await socket.ping(), 10)
            expect_that(f"{name}: ping and pong", latency >= 0)
            for n in range(200):
                await socket.send(str(n))
            received = [await asyncio.wait_for(socket.recv(), 10) for _ in range(200)]
            expect(f"{name}: 200 messages in order", received, [str(n) for n in range(200)])
    with part(f"{name}: many"):

        async def one(n):
            async with connect(f"{url}/ws", **options) as socket:
                await socket.send(f"socket {n}")
                return await asyncio.wait_for(socket.recv(), 10)

        echoes = await asyncio.gather(*(one(n) for n in range(30)))
        expect(f"{name}: 30 sockets at once", echoes, [f"socket {n}" for n in range(30)])
    with part(f"{name}: subprotocol and close"):
        async with connect(f"{url}/chat", subprotocols=["other", "chat"], **options) as socket:
            expect(f"{name}: subprotocol", socket.subprotocol, "chat")
            expect_that(f"{name}: permessage-deflate is agreed end to end", socket.protocol.extensions)
            await socket.send("compressed " * 1000)
            expect(f"{name}: a compressed message", await socket.recv(), "compressed " * 1000)
            await socket.close(4001, "client says so")
        async with connect(f"{url}/chat", subprotocols=["chat"], **options) as socket:
            expect(f"{name}: the client's close code arrives", await close_seen(socket), "4001 client says so")
            await socket.send("close 4002")
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                expect(f"{name}: the server's close code arrives", (closed.rcvd.code, closed.rcvd.reason), (4002, "as asked"))
    with part(f"{name}: refused"):
        try:
            async with connect(f"{url}/nowhere", **options):
                expect(f"{name}: an upgrade that the app refuses", "101", "404")
        except websockets.InvalidStatus as refused:
            expect(f"{name}: an upgrade that the app refuses", refused.response.status_code, 404)


async def close_seen(socket):
    """The origin hears of the close after the client is done, so it may have to be asked again."""
    for _ in range(100):
        await socket.send("last close")
        seen = await asyncio.wait_for(socket.recv(), 10)
        if seen != "none":
            break
        await asyncio.sleep(0.02)
    return seen


async def main():
    with_requests()
    await with_httpx("httpx h1", HTTP)
    await with_httpx("httpx h1 over TLS", HTTPS)
    await with_httpx("httpx h2", HTTPS, http2=True)
    await with_websockets("ws", HTTP)
    await with_websockets("wss", HTTPS, ssl=tls())
    finish()


asyncio.run(main())
