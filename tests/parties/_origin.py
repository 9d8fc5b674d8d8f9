"""An origin with what the backend app does not do: ranges, redirects, trailers, a text with a tag, a gzip body and slow bytes.

It writes its address to descriptor 3 once it listens.
"""

import gzip
import os
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 4096
TEXT = b"".join(b"line %d of a text\n" % n for n in range(5000))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        action = {
            "/range": self.range,
            "/redirect": self.redirect,
            "/trailers": self.trailers,
            "/gzip": self.gzip,
            "/text": self.text,
            "/drip": self.drip,
        }.get(path)
        if action:
            action()
        else:
            self.reply(404, b"nothing here\n")

    do_HEAD = do_GET

    def reply(self, status, body, fields=()):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def range(self):
        fields = [("Accept-Ranges", "bytes"), ("ETag", '"content"'), ("Content-Type", "application/octet-stream")]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.reply(200, CONTENT, fields)
        first, last = int(asked[1]), int(asked[2] or len(CONTENT) - 1)
        if first >= len(CONTENT):
            return self.reply(416, b"", [("Content-Range", f"bytes */{len(CONTENT)}")])
        last = min(last, len(CONTENT) - 1)
        fields.append(("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}"))
        return self.reply(206, CONTENT[first : last + 1], fields)

    def redirect(self):
        self.reply(302, b"", [("Location", "/range?after=redirect")])

    def text(self):
        fields = [("Content-Type", "text/plain"), ("ETag", '"text"')]
        if '"text"' in self.headers.get("If-None-Match", ""):
            self.send_response(304)
            self.send_header("ETag", '"text"')
            return self.end_headers()
        self.reply(200, TEXT, fields)

    def gzip(self):
        self.reply(200, gzip.compress(b"plain text\n" * 1000), [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")])

    def chunked(self, fields=()):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def trailers(self):
        self.chunked([("Trailer", "X-Checksum")])
        self.chunk(b"content before trailers\n")
        self.wfile.write(b"0\r\nX-Checksum: 12345\r\n\r\n")

    def drip(self):
        self.chunked([("Content-Type", "text/plain")])
        for n in range(10):
            self.chunk(b"%d\n" % n)
            time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with os.fdopen(3, "w") as ready:
        ready.write("%s:%d\n" % server.server_address)
    server.serve_forever()
