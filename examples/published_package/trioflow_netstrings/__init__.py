"""Netstrings: messages of bytes, each sent as its length, a colon, the message and a comma."""

from collections.abc import AsyncIterable, AsyncIterator

import trioflow as tf

__all__ = ["netstrings", "parse_netstrings"]


def netstrings() -> tf.Transform[bytes, bytes]:
    """Encode each item as a netstring.

    Emits when: an item arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: nothing is lost.
    Holds: nothing.
    """
    return tf.map(lambda message: b"%d:%s," % (len(message), message))


@tf.transform
async def parse_netstrings(chunks: AsyncIterable[bytes], *, max_length: int = 65536) -> AsyncIterator[bytes]:
    """Decode chunks of netstrings into messages.

    Emits when: a message is complete.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: an unfinished message is lost.
    Holds: at most one message and one chunk.

    Args:
        max_length: The longest message to accept, in bytes.

    Raises:
        ValueError: while running, the input is not a netstring, or a message is longer than `max_length`.
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
