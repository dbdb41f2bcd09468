"""WebSocket on an upgraded connection: `wsproto` speaks the protocol, and the connection is an ordinary Duplex.

Node: server.on("upgrade", fn), and the package ws.
"""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
from functools import partial

import trio
from wsproto import WSConnection
from wsproto.connection import Connection, ConnectionType
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Request, TextMessage
from wsproto.utilities import generate_accept_token

import trioflow as tf
from trioflow import http


@tf.transform
async def answers(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Answer each text that arrives over the connection with the same text in capitals."""
    socket = Connection(ConnectionType.SERVER)
    async for chunk in chunks:
        socket.receive_data(chunk)
        for event in socket.events():
            if isinstance(event, TextMessage):  # of a long text only a part, so that nobody has to hold all of it
                yield socket.send(replace(event, data=event.data.upper()))
            elif isinstance(event, Ping):  # many clients hang up if nothing answers these
                yield socket.send(event.response())
            elif isinstance(event, CloseConnection):
                yield socket.send(event.response())
                return


async def handler(request: http.Request, response: http.Response) -> None:
    key = request.headers.get("sec-websocket-key", "")
    response.headers["sec-websocket-accept"] = generate_accept_token(key.encode()).decode()
    connection = await response.upgrade("websocket")
    await connection.readable.pipe(answers()).pipe(connection.writable)


async def talk(port: int) -> None:
    """Act as the client, which could also be a browser."""
    client = WSConnection(ConnectionType.CLIENT)

    async def next_event(stream: trio.abc.Stream) -> Event:
        while True:
            for event in client.events():
                return event
            client.receive_data(bytes(await stream.receive_some()))

    async with tf.connect_tcp("127.0.0.1", port).open() as stream:
        await stream.send_all(client.send(Request(host="127.0.0.1", target="/")))
        assert isinstance(await next_event(stream), AcceptConnection)
        hello, good, bye = TextMessage("hello"), TextMessage("good", message_finished=False), TextMessage("bye")
        for event in (hello, Ping(b"still there?"), good, bye, CloseConnection(1000)):
            await stream.send_all(client.send(event))
            print(await next_event(stream))


async def main() -> None:
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(http.serve, handler, port=0))
        await talk(int(url.rpartition(":")[2]))
        nursery.cancel_scope.cancel()


trio.run(main)

# Prints:
# TextMessage(data='HELLO', frame_finished=True, message_finished=True)
# Pong(payload=b'still there?')
# TextMessage(data='GOOD', frame_finished=True, message_finished=False)
# TextMessage(data='BYE', frame_finished=True, message_finished=True)
# CloseConnection(code=<CloseReason.NORMAL_CLOSURE: 1000>, reason='')
