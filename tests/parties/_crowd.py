"""Crowds beside good requests that arrive in an open loop: at a fixed rate, whether or not those before are answered.

usage: _crowd.py idle|cache HTTP-PORT HTTPS-PORT ADMIN EDGE-PID COUNT
"""

import concurrent.futures
import http.client
import json
import re
import socket
import ssl
import sys
import threading
import time
import urllib.request

from _checks import expect, expect_that, finish

EVERY_S = 0.01
ANSWER_LIMIT_S = 20
WAITING_MAX = 200
HOLD_S = 3
OBJECT_EVERY_S = 0.1
WORD = re.compile(r"VmRSS:\s+(\d+) kB")


class Load:
    """GETs of a known body. Everything but 200 with that body, whole, is a failure."""

    def __init__(self, port):
        self.port, self.answered, self.failures = port, 0, []
        self.body = self.get("/bytes/1000?first")
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.arrive)
        self.thread.start()

    def get(self, target):
        connection = http.client.HTTPConnection("127.0.0.2", self.port, timeout=ANSWER_LIMIT_S)
        try:
            connection.request("GET", target, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"{response.status} {response.headers.get('x-tollgate-reason')}")
        return body

    def arrive(self):
        with concurrent.futures.ThreadPoolExecutor(WAITING_MAX) as asking:
            begin, number = time.monotonic(), 0
            while not self.over.is_set():
                asking.submit(self.ask, number)
                number += 1
                time.sleep(max(0.0, begin + number * EVERY_S - time.monotonic()))

    def ask(self, number):
        try:
            if self.get(f"/bytes/1000?arrival={number}") != self.body:
                raise OSError("another body")
            self.answered += 1
        except (OSError, http.client.HTTPException) as failure:
            self.failures.append(f"{number}: {failure!r}")

    def end(self):
        self.over.set()
        self.thread.join()
        print(f"      {self.answered} good requests, {len(self.failures)} failed")
        expect("no good request failed", self.failures[:5], [])
        expect_that("there was a load", self.answered > 100)


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(WORD.search(status.read())[1])


def open_connections(admin):
    with urllib.request.urlopen(f"{admin}/status", timeout=ANSWER_LIMIT_S) as status:
        return json.load(status)["connections"]["open"]


def idle(https_port, admin, pid, count):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    before = rss_kib(pid)

    def connect(number):
        # From many addresses, as a crowd is.
        source = (f"127.2.{number // 250}.{number % 250 + 1}", 0)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", https_port), ANSWER_LIMIT_S, source))

    with concurrent.futures.ThreadPoolExecutor(8) as connecting:
        crowd = list(connecting.map(connect, range(count)))
    time.sleep(HOLD_S)
    print(f"      {(rss_kib(pid) - before) / count:.1f} KiB of memory each")
    expect_that("all of them are open", open_connections(admin) >= count)
    for connection in crowd:
        connection.close()
    deadline = time.monotonic() + ANSWER_LIMIT_S
    while open_connections(admin) > count / 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    expect_that("they are gone", open_connections(admin) < count / 10)


def cache(load, pid, count):
    most = 0
    for number in range(count):
        body = load.get(f"/bytes/1048576?object={number}")
        if len(body) != 1 << 20:
            raise OSError(f"{len(body)} bytes")
        most = max(most, rss_kib(pid))
        # Memory is looked at once in a while: what fills up faster than that meets the hard limit, and is refused.
        time.sleep(OBJECT_EVERY_S)
    print(f"      {count} MiB through the cache, {most} KiB resident at most")
    expect_that("it stays below the limit of its group", most < 128 << 10)


def main():
    what, http_port, https_port, admin, pid, count = sys.argv[1:]
    load = Load(int(http_port))
    try:
        if what == "idle":
            idle(int(https_port), admin, pid, int(count))
        else:
            cache(load, pid, int(count))
    finally:
        load.end()
    finish()


main()
