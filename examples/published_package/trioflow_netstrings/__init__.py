"""Netstrings: messages of bytes, each sent as its length, a colon, itself and a comma."""

from collections.abc import AsyncIterable, AsyncIterator

import trioflow as tf

__all__ = ["netstrings", "parse_netstrings"]


def netstrings() -> tf.Transform[bytes, bytes]:
    """Make each item a netstring.

    Emits when: an item comes.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: nothing is lost.
    Holds: nothing.
    """
    return tf.map(lambda message: b"%d:%s," % (len(message), message))


@tf.transform
async def parse_netstrings(chunks: AsyncIterable[bytes], *, max_length: int = 65536) -> AsyncIterator[bytes]:
    """Split chunks into the messages that they are netstrings of.

    Emits when: a message is whole.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: an unfinished message is lost.
    Holds: one message and one chunk.

    Args:
        max_length: The longest message to accept, in bytes.

    Raises:
        ValueError: while running, what comes is no netstring, or longer than `max_length`.
        EOFError: while running, the source ends within a message.
    """
    buffer = tf.ByteBuffer()
    length: int | None = None
    async for chunk in chunks:
        buffer.feed(chunk)
        while True:
            if length is None:
                digits = buffer.take_until(b":", max_length=len(str(max_length)))
                if digits is None:
                    break
                if not digits.isdigit() or int(digits) > max_length:
                    raise ValueError(f"parse_netstrings: expected a length of at most {max_length}, got {digits!r}")
                length = int(digits)
            message = buffer.take(length + 1)
            if message is None:
                break
            if not message.endswith(b","):
                raise ValueError(f"parse_netstrings: expected a comma after {length} bytes, got {message[-1:]!r}")
            yield message[:-1]
            length = None
    if length is not None or len(buffer):
        raise EOFError("parse_netstrings: the source ended within a message")
