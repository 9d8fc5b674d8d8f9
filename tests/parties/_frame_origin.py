"""A WebSocket origin for frames of every kind: /echo sends messages back as the protocol of `websockets` has it, /mirror
sends bytes back whatever they are.

What it answers depends on the bytes alone and not on how they come in pieces, for the protocol is given one byte at a time.
It writes its address to descriptor 3 once it listens.
"""

import asyncio
import os

from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

MESSAGE_BYTES_MAX = 1 << 17


class Echo:
    """Messages of one connection: frames are put together, and sent back as one."""

    def __init__(self, protocol):
        self.protocol, self.kind, self.parts = protocol, None, []

    def take(self, frame):
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self.kind, self.parts = frame.opcode, [frame.data]
        elif frame.opcode is Opcode.CONT:
            self.parts.append(frame.data)
        else:
            return
        if frame.fin and self.protocol.state is State.OPEN:
            message = b"".join(self.parts)
            if self.kind is Opcode.BINARY:
                self.protocol.send_binary(message)
            elif is_text(message):
                self.protocol.send_text(message)
            else:
                # The parser leaves this to who puts messages together (RFC 6455 §8.1).
                self.protocol.fail(1007, "invalid UTF-8")


def is_text(message):
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


async def serve(reader, writer):
    try:
        await converse(reader, writer)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def converse(reader, writer):
    protocol = ServerProtocol(max_size=MESSAGE_BYTES_MAX)
    head = await reader.readuntil(b"\r\n\r\n")
    protocol.receive_data(head)
    (request,) = protocol.events_received()
    assert isinstance(request, Request), request
    response = protocol.accept(request)
    protocol.send_response(response)
    await flush(protocol, writer)
    if request.path == "/mirror":
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        return
    echo = Echo(protocol)
    while data := await reader.read(1 << 16):
        for byte in data:
            protocol.receive_data(bytes([byte]))
            for event in protocol.events_received():
                echo.take(event)
        if not await flush(protocol, writer):
            # Reads on, so that nothing that still comes resets what has been sent.
            while await reader.read(1 << 16):
                pass
            return
    protocol.receive_eof()
    await flush(protocol, writer)


async def flush(protocol, writer):
    """Sends what the protocol has to say; false once it has ended its side."""
    goes_on = True
    for data in protocol.data_to_send():
        if data:
            writer.write(data)
        else:
            writer.write_eof()
            goes_on = False
    await writer.drain()
    return goes_on


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with os.fdopen(3, "w") as ready:
        ready.write("%s:%d\n" % server.sockets[0].getsockname()[:2])
    async with server:
        await server.serve_forever()


asyncio.run(main())
