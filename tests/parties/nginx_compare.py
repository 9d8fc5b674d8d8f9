"""Sends the same bytes to nginx and to the edge, and compares what comes back and what arrived at the origin.

Usage: nginx_compare.py NGINX EDGE DIFFERENCES. A line of the table of differences is
`request | what | nginx | edge | reason`; request and values are patterns as of a shell, `-` stands for nothing, and what
is `status`, `connection` (kept after the answer, closed as announced, or cut without a word), `content`, a field of the response `<name` or a field as it
came to the origin `>name`, also `>path`. Where one of the two refuses, each has a page of its own, and only status and
connection are compared.
"""

import email.utils
import fnmatch
import http.client
import json
import re
import socket
import sys
import time
from collections import defaultdict

from _checks import expect, expect_that, finish

LIMIT_S = 20


def request(line, *fields, host="localhost", body=b""):
    """A request as bytes. Each gets `X-Party`, so that what arrived is known to be ours."""
    lines = [line.encode()]
    if host is not None:
        lines.append(b"Host: " + host.encode())
    lines += [field if isinstance(field, bytes) else field.encode() for field in fields]
    if body and not any(b":" in field and field.lower().startswith((b"content-length", b"transfer-encoding")) for field in lines[1:]):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks, extension=b"", trailers=b""):
    return b"".join(b"%x%s\r\n%s\r\n" % (len(c), extension, c) for c in chunks) + b"0\r\n" + trailers + b"\r\n"


MIB = 1 << 20
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")

REQUESTS = {
    # What every client does.
    "get": request("GET / HTTP/1.1"),
    "get-gzip": request("GET / HTTP/1.1", "Accept-Encoding: gzip"),
    "head": request("HEAD / HTTP/1.1"),
    "health": request("GET /health HTTP/1.1"),
    "health-below": request("GET /health/x HTTP/1.1"),
    "echo": request("GET /echo HTTP/1.1", "Accept: */*", "Cookie: a=1", "X-Own: 1", "User-Agent: party"),
    "query": request("GET /echo/a%20b?x=%2F&y HTTP/1.1"),
    "post": request("POST /echo HTTP/1.1", "Content-Type: text/plain", body=b"content"),
    "put": request("PUT /echo HTTP/1.1", body=b"content"),
    "patch": request("PATCH /echo HTTP/1.1", body=b"content"),
    "delete": request("DELETE /echo HTTP/1.1"),
    "options": request("OPTIONS /echo HTTP/1.1"),
    "unknown-method": request("FOO /echo HTTP/1.1"),
    "not-found": request("GET /nowhere HTTP/1.1"),
    "status-204": request("GET /status/204 HTTP/1.1"),
    "status-304": request("GET /status/304 HTTP/1.1"),
    "status-500": request("GET /status/500 HTTP/1.1"),
    "stub-status": request("GET /nginx_status HTTP/1.1"),
    "bytes": request("GET /bytes/100000 HTTP/1.1"),
    "bytes-chunked": request("GET /bytes/100000?chunked=1 HTTP/1.1"),
    "http-1.0": request("GET /echo HTTP/1.0"),
    "http-1.0-keep-alive": request("GET /echo HTTP/1.0", "Connection: keep-alive"),
    "connection-close": request("GET /echo HTTP/1.1", "Connection: close"),
    "host-with-port": request("GET /echo HTTP/1.1", host="localhost:8080"),
    "host-upper-case": request("GET /echo HTTP/1.1", host="LOCALHOST"),
    "other-host": request("GET /echo HTTP/1.1", host="other.example"),
    # Bodies.
    "body-9MiB": request("POST /upload HTTP/1.1", body=b"b" * 9 * MIB),
    "body-11MiB": request("POST /upload HTTP/1.1", body=b"b" * 11 * MIB),
    "chunked": request("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(b"con", b"tent")),
    "chunked-11MiB": request("POST /upload HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(*[b"c" * MIB] * 11)),
    "chunk-extension": request("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(b"content", extension=b";a=b")),
    "trailers": request(
        "POST /echo HTTP/1.1", "Transfer-Encoding: chunked", "Trailer: x-sum", body=chunked(b"content", trailers=b"X-Sum: 1\r\n")
    ),
    "expect-continue": request("POST /echo HTTP/1.1", "Expect: 100-continue", body=b"content"),
    "expect-other": request("POST /echo HTTP/1.1", "Expect: the-unexpected", body=b"content"),
    # Fields that a proxy sets, drops or forwards.
    "forwarded": request("GET /echo HTTP/1.1", "X-Forwarded-For: 192.0.2.7", "X-Real-IP: 192.0.2.8", "X-Forwarded-Proto: gopher"),
    "underscore": request("GET /echo HTTP/1.1", "X_Under: 1"),
    "hop-by-hop": request("GET /echo HTTP/1.1", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "TE: gzip", "Proxy-Connection: close"),
    "method-override": request("POST /echo HTTP/1.1", "X-HTTP-Method-Override: DELETE", body=b"content"),
    "proxy-field": request("GET /echo HTTP/1.1", "Proxy: http://evil.example"),
    "range": request("GET /bytes/1000 HTTP/1.1", "Range: bytes=0-9"),
    "websocket": request("GET /ws HTTP/1.1", *UPGRADE),
    "websocket-refused": request("GET /nowhere HTTP/1.1", *UPGRADE),
    "h2c-upgrade": request("GET /echo HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
    # Paths.
    "dot-segments": request("GET /x/../echo/./a HTTP/1.1"),
    "encoded-dot-segments": request("GET /x/%2e%2e/echo/a HTTP/1.1"),
    "encoded-letter": request("GET /ech%6F/%7ea HTTP/1.1"),
    "encoded-slash": request("GET /echo/a%2fb HTTP/1.1"),
    "double-slash": request("GET /echo//a HTTP/1.1"),
    "absolute-form": request("GET http://localhost/echo/a?b HTTP/1.1"),
    "above-the-root": request("GET /../echo HTTP/1.1"),
    "encoded-nul": request("GET /echo/%00 HTTP/1.1"),
    "bad-percent": request("GET /echo/%zz HTTP/1.1"),
    "fragment": request("GET /echo/a#b HTTP/1.1"),
    # What no client should send.
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "no-version": b"GET /echo\r\n\r\n",
    "http-2.0": request("GET /echo HTTP/2.0"),
    "http-1.2": request("GET /echo HTTP/1.2"),
    "no-host": request("GET /echo HTTP/1.1", host=None),
    "two-hosts": request("GET /echo HTTP/1.1", "Host: other.example"),
    "bad-host": request("GET /echo HTTP/1.1", host="a/b"),
    "connect": request("CONNECT localhost:80 HTTP/1.1"),
    "trace": request("TRACE /echo HTTP/1.1"),
    "lower-case-method": request("get /echo HTTP/1.1"),
    "two-lengths": request("POST /echo HTTP/1.1", "Content-Length: 7", "Content-Length: 7", body=b"content"),
    "length-and-chunked": request("POST /echo HTTP/1.1", "Content-Length: 7", "Transfer-Encoding: chunked", body=chunked(b"content")),
    "bad-length": request("POST /echo HTTP/1.1", "Content-Length: +7", body=b"content"),
    "unknown-coding": request("POST /echo HTTP/1.1", "Transfer-Encoding: gzip, chunked", body=chunked(b"content")),
    "bad-chunk-size": request("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=b"0x7\r\ncontent\r\n0\r\n\r\n"),
    "space-before-colon": request("GET /echo HTTP/1.1", "X-Own : 1"),
    "folded-field": request("GET /echo HTTP/1.1", "X-Own: 1\r\n 2"),
    "bare-lf": b"GET /echo HTTP/1.1\nHost: localhost\n\n",
    "nul-in-field": request("GET /echo HTTP/1.1", b"X-Own: a\x00b"),
    "long-target": request("GET /echo/" + "a" * 9000 + " HTTP/1.1"),
    "large-head": request("GET /echo HTTP/1.1", *[f"X-{n}: " + "a" * 4000 for n in range(10)]),
    "many-fields": request("GET /echo HTTP/1.1", *[f"X-{n}: 1" for n in range(200)]),
}


def exchange(address, name, sent):
    """Everything that is compared: a dict from what to its value."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), LIMIT_S) as connection:
        connection.settimeout(LIMIT_S)
        try:
            connection.sendall(sent)
        except OSError:
            pass  # Refused before all of it was taken: the answer is still to be read.
        response = http.client.HTTPResponse(connection, method=sent.split(b" ", 1)[0].decode("latin-1"))
        try:
            response.begin()
            content = response.read() if response.status != 101 else b""
        except (http.client.HTTPException, OSError) as error:
            return {"status": type(error).__name__}
        seen = {"status": str(response.status), "connection": afterwards(connection, response)}
        fields = defaultdict(list)
        for field, value in response.getheaders():
            fields[field.lower()].append(value)
        seen |= {f"<{field}": ", ".join(values) for field, values in fields.items()}
        if is_now(seen.get("<date")):
            seen["<date"] = "now"  # The two are asked one after the other, a second may end in between.
        arrived = as_json(content)
        if isinstance(arrived, dict) and "replica" in arrived and "fields" in arrived:
            seen |= {f">{field}": value for field, value in arrived["fields"]}
            seen |= {f">{key}": str(arrived[key]) for key in ("method", "path", "query", "version", "trailers")}
            seen[">content"] = arrived["body"]["content"]
            del seen["<content-length"]  # of a list of fields that differ
        else:
            seen["content"] = normal(content)
            if seen["content"] != content.decode("latin-1"):
                seen.pop("<content-length", None)  # of text with numbers that change
        return seen


def afterwards(connection, response):
    """Whether the connection takes another request, and if not, whether the client was told so."""
    if response.status == 101:
        return "kept"
    try:
        connection.sendall(request("GET /health HTTP/1.1"))
        again = http.client.HTTPResponse(connection)
        again.begin()
        return "kept" if again.status == 200 else "broken"
    except (http.client.HTTPException, OSError):
        return "closed" if response.will_close else "cut"


def is_now(date):
    try:
        return abs(time.time() - email.utils.parsedate_to_datetime(date).timestamp()) < LIMIT_S
    except (TypeError, ValueError):
        return False


def as_json(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def normal(content):
    """Text with numbers that change left out, as for the status page and the health report."""
    text = re.sub(r"\d+(\.\d+)?", "N", content.decode("latin-1"))
    return text if len(text) < 3000 else content.decode("latin-1")


def read_table(path):
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.startswith("#"):
                continue
            columns = [column.strip() for column in line.split("|")]
            if len(columns) != 5 or not columns[4]:
                sys.exit(f"{path}:{number}: not `request | what | nginx | edge | reason`")
            rows.append((number, *columns[:4]))
    return rows


def matches(pattern, value):
    return value is None if pattern == "-" else value is not None and fnmatch.fnmatchcase(value, pattern)


def main():
    nginx, edge, table = sys.argv[1:4]
    rows, used = read_table(table), set()
    for name, sent in REQUESTS.items():
        by_nginx, by_edge = exchange(nginx, name, sent), exchange(edge, name, sent)
        if by_nginx["status"] != by_edge["status"] or "<x-tollgate-reason" in by_edge:
            by_nginx, by_edge = ({what: seen.get(what) for what in ("status", "connection")} for seen in (by_nginx, by_edge))
        unexplained = []
        for what in sorted(by_nginx.keys() | by_edge.keys()):
            one, other = by_nginx.get(what), by_edge.get(what)
            if one == other:
                continue
            explained = [
                row[0]
                for row in rows
                if fnmatch.fnmatchcase(name, row[1])
                and fnmatch.fnmatchcase(what, row[2])
                and matches(row[3], one)
                and matches(row[4], other)
            ]
            used.update(explained)
            if not explained:
                unexplained.append(f"{name} | {what} | {shown(one)} | {shown(other)}")
        expect_that(f"{name} ({by_nginx['status']}, {by_edge['status']})", not unexplained, "; ".join(unexplained))
    for row in rows:
        if row[0] not in used:
            expect(f"line {row[0]} of {table} still holds", "no difference", f"{row[1]} {row[2]}")
    finish()


def shown(value):
    return "-" if value is None else value[:80]


main()
