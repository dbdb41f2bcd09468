"""A TCP proxy that cuts its connections in the middle of data, or holds data back."""

from __future__ import annotations

import random
import socket
import struct
from functools import partial

import trio


class Proxy:
    """Listens on a port of its own, and forwards to another. `await nursery.start(proxy.serve)` starts it."""

    def __init__(self, port: int, dice: random.Random) -> None:
        self.port = 0
        self.cuts = 0
        self._target = port
        self._dice = dice
        self._open: set[_Pair] = set()
        self._flowing = trio.Event()
        self._flowing.set()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._connect, [listener])

    async def _connect(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._target)
        except OSError:
            await client.aclose()
            return
        pair = _Pair(client, server)
        self._open.add(pair)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(self._pump, pair, client, server, nursery.cancel_scope))
                nursery.start_soon(partial(self._pump, pair, server, client, nursery.cancel_scope))
        finally:
            self._open.discard(pair)
            pair.reset()

    async def _pump(
        self, pair: _Pair, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(65536):
                await self._flowing.wait()
                if pair.is_to_cut:
                    self.cuts += 1
                    await target.send_all(data[: self._dice.randrange(len(data))])
                    break
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    def cut(self) -> None:
        """Cut each connection within the next piece of data that it forwards."""
        for pair in self._open:
            pair.is_to_cut = True

    def hold(self) -> None:
        """Forward nothing until `release`."""
        self._flowing = trio.Event()

    def release(self) -> None:
        self._flowing.set()


class _Pair:
    def __init__(self, *ends: trio.SocketStream) -> None:
        self._ends = ends
        self.is_to_cut = False

    def reset(self) -> None:
        for end in self._ends:
            try:
                end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
            end.socket.close()
