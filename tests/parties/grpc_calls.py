"""A gRPC client that calls through the edge, over TLS and in the clear."""

import sys
import time
from concurrent import futures

import grpc

from _checks import expect, expect_that, finish, part

TLS, CLEAR, ROOT = sys.argv[1:4]
SIZE_MAX = 16 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", SIZE_MAX),
    ("grpc.max_send_message_length", SIZE_MAX),
    ("grpc.enable_http_proxy", 0),
]
LIMIT_S = 20


class Service:
    def __init__(self, channel):
        path = "/party.Service/"
        self.echo = channel.unary_unary(path + "Echo")
        self.fail = channel.unary_unary(path + "Fail")
        self.count = channel.unary_stream(path + "Count")
        self.join = channel.stream_unary(path + "Join")
        self.talk = channel.stream_stream(path + "Talk")
        self.wait = channel.unary_unary(path + "Wait")
        self.has_ended = channel.unary_unary(path + "HasEnded")
        self.missing = channel.unary_unary(path + "Missing")
        self.no_route = channel.unary_unary("/other.Service/Echo")


def calls(name, channel):
    service = Service(channel)
    with part(f"{name}: unary"):
        expect(f"{name}: unary", service.echo(b"hello", timeout=LIMIT_S), b"hello")
        expect(f"{name}: an empty message", service.echo(b"", timeout=LIMIT_S), b"")
        large = b"\x00\xffgRPC" * ((4 << 20) // 6)
        expect(f"{name}: a message of 4 MiB", service.echo(large, timeout=LIMIT_S) == large, True)
        with futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: service.echo(b"%d" % n, timeout=LIMIT_S), range(300)))
        expect(f"{name}: 300 calls by 16 threads", answers, [b"%d" % n for n in range(300)])
    with part(f"{name}: streams"):
        expect(f"{name}: server stream", [int(n) for n in service.count(b"1000", timeout=LIMIT_S)], list(range(1000)))
        expect(f"{name}: an empty server stream", list(service.count(b"0", timeout=LIMIT_S)), [])
        sent = [b"%d" % n for n in range(500)]
        expect(f"{name}: client stream", service.join(iter(sent), timeout=LIMIT_S), b",".join(sent))
        expect(f"{name}: an empty client stream", service.join(iter([]), timeout=LIMIT_S), b"")
        expect(f"{name}: each message is answered before the next is sent", interleaved(service, 50), True)
        expect(f"{name}: a pause between two messages", interleaved(service, 3, pause_s=1.2), True)
    with part(f"{name}: statuses"):
        for status in ("NOT_FOUND", "PERMISSION_DENIED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DATA_LOSS"):
            error = error_of(service.fail, status.encode())
            expect(f"{name}: {status}", (error.code(), error.details()), (grpc.StatusCode[status], "no such thing: ü %"))
            expect(f"{name}: trailing metadata of {status}", dict(error.trailing_metadata())["x-detail"], "in the trailers")
        expect(f"{name}: an unknown method", error_of(service.missing, b"").code(), grpc.StatusCode.UNIMPLEMENTED)
        expect(f"{name}: no route", error_of(service.no_route, b"").code(), grpc.StatusCode.UNIMPLEMENTED)
    with part(f"{name}: metadata"):
        answer, call = service.echo.with_call(b"", metadata=[("x-sent", "value")], timeout=LIMIT_S)
        expect(f"{name}: initial metadata", dict(call.initial_metadata())["x-initial"], "value")
        expect(f"{name}: trailing metadata", dict(call.trailing_metadata())["x-trailing"], "value")
        expect(f"{name}: binary metadata", dict(call.trailing_metadata())["x-binary-bin"], b"\x00\xff\x01")
    with part(f"{name}: calls that end early"):
        begin = time.monotonic()
        error = error_of(service.wait, f"{name} deadline".encode(), timeout=0.3)
        expect(f"{name}: deadline", error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        expect_that(f"{name}: the deadline is the client's own", time.monotonic() - begin < 2)
        expect(f"{name}: the deadline ends the call at the service", service.has_ended(f"{name} deadline".encode(), timeout=LIMIT_S), b"yes")
        key = f"{name} cancelled".encode()
        call = service.wait.future(key, timeout=LIMIT_S)
        # The service sends its metadata at once, so the call is running there.
        expect(f"{name}: metadata comes before the answer", dict(call.initial_metadata())["x-waiting"], "yes")
        call.cancel()
        expect(f"{name}: cancelling ends the call at the service", service.has_ended(key, timeout=LIMIT_S), b"yes")
        stream = service.count(b"100000000", timeout=LIMIT_S)
        next(stream)
        stream.cancel()
        expect(f"{name}: after a stream given up", service.echo(b"still here", timeout=LIMIT_S), b"still here")


def interleaved(service, count, pause_s=0.0):
    """Sends the next message only when the last one was answered; true if each got its own answer."""
    answers = []

    def requests():
        for n in range(count):
            deadline = time.monotonic() + LIMIT_S
            while len(answers) < n and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(pause_s)
            yield b"%d" % n

    for answer in service.talk(requests(), timeout=LIMIT_S):
        answers.append(answer)
    return answers == [b"heard %d" % n for n in range(count)]


def error_of(method, request, timeout=LIMIT_S):
    try:
        method(request, timeout=timeout)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


with open(ROOT, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
with grpc.secure_channel(TLS, credentials, OPTIONS) as channel:
    calls("TLS", channel)
with grpc.insecure_channel(CLEAR, OPTIONS) as channel:
    calls("h2c", channel)
finish()
