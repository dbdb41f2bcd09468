"""What a byte stream does with a second task in one of its directions (R20)."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked


async def check_a_second_task_is_refused(
    stream: trio.abc.HalfCloseableStream, other: trio.abc.ReceiveStream, held: bytes = b""
) -> None:
    """Check that a refused call changes neither the call in progress nor what is refused next.

    Args:
        stream: It has received nothing yet, and it cannot send a megabyte unless `other` reads.
        other: Reads what is sent to `stream`.
        held: What has been sent already.
    """
    data = bytes(range(256)) * 4000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        await wait_all_tasks_blocked()
        for second in [stream.receive_some, partial(stream.receive_some, 1)] * 2:
            with pytest.raises(trio.BusyResourceError):
                await second()
        nursery.cancel_scope.cancel()

    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, data)
        await wait_all_tasks_blocked()
        seconds = [partial(stream.send_all, b"second"), stream.wait_send_all_might_not_block, stream.send_eof]
        for second in seconds * 2:
            with pytest.raises(trio.BusyResourceError):
                await second()
        while len(got) < len(held + data):
            got += await other.receive_some()
    await stream.send_eof()

    assert got == held + data
    assert await other.receive_some() == b""
