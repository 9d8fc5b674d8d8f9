"""A gRPC service of bytes: every kind of call, statuses, metadata, and a memory of calls that were cancelled.

It writes its address to descriptor 3 once it listens.
"""

import os
import threading
from concurrent import futures

import grpc

SIZE_MAX = 16 << 20

ended = {}
ended_changed = threading.Condition()


def echo(request, context):
    metadata = dict(context.invocation_metadata())
    if "x-sent" in metadata:
        context.send_initial_metadata([("x-initial", metadata["x-sent"])])
        context.set_trailing_metadata([("x-trailing", metadata["x-sent"]), ("x-binary-bin", b"\x00\xff\x01")])
    return request


def fail(request, context):
    context.set_trailing_metadata([("x-detail", "in the trailers")])
    context.abort(grpc.StatusCode[request.decode()], "no such thing: ü %")


def count(request, context):
    for n in range(int(request)):
        yield b"%d" % n


def join(requests, context):
    return b",".join(requests)


def talk(requests, context):
    for request in requests:
        yield b"heard " + request


def wait(request, context):
    """Runs until the call ends, and remembers that it did."""
    over = threading.Event()
    context.add_callback(over.set)
    context.send_initial_metadata([("x-waiting", "yes")])
    over.wait(30)
    with ended_changed:
        ended[request] = True
        ended_changed.notify_all()
    return b"over"


def has_ended(request, context):
    """Waits until the call of `wait` with the same request is over, and says whether it is."""
    with ended_changed:
        return b"yes" if ended_changed.wait_for(lambda: request in ended, timeout=10) else b"no"


def method_of(name):
    return {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "HasEnded": grpc.unary_unary_rpc_method_handler(has_ended),
    }[name]


if __name__ == "__main__":
    server = grpc.server(
        futures.ThreadPoolExecutor(32),
        options=[("grpc.max_receive_message_length", SIZE_MAX), ("grpc.max_send_message_length", SIZE_MAX)],
    )
    names = ["Echo", "Fail", "Count", "Join", "Talk", "Wait", "HasEnded"]
    handlers = {name: method_of(name) for name in names}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("party.Service", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with os.fdopen(3, "w") as ready:
        ready.write(f"127.0.0.1:{port}\n")
    server.wait_for_termination()
