"""A WebSocket origin: chooses the subprotocol `chat`, echoes, and closes with the code that it is asked for.

It writes its address to descriptor 3 once it listens, and what it saw of each connection is told to the next one.
"""

import asyncio
import os

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

last_close = "none"


async def chat(socket):
    global last_close
    try:
        async for message in socket:
            if message == "last close":
                await socket.send(last_close)
            elif isinstance(message, str) and message.startswith("close "):
                await socket.close(int(message.split()[1]), "as asked")
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass
    last_close = f"{socket.close_code} {socket.close_reason}"


async def main():
    async with serve(chat, "127.0.0.1", 0, subprotocols=["chat"], max_size=8 << 20) as server:
        with os.fdopen(3, "w") as ready:
            ready.write("%s:%d\n" % server.sockets[0].getsockname()[:2])
        await server.serve_forever()


asyncio.run(main())
