"""Dead letters: what they hold, and how they are listed, requeued and deleted.

Rule 1: for each failed entry the scripts keep one text: the receiver, the name of the error and its message, separated
    by spaces. Only the message may contain spaces.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from trioflow._core.checks import check_count
from trioflow._core.errors import sole
from trioflow.redis.asking import ask
from trioflow.redis.client import Client
from trioflow.redis.scripts import stream_script

PAGE: Final = 100  # letters per call
MESSAGE_LENGTH: Final = 1000  # characters

# ids of dead letters -> how many of them were put back
# A stream that has ended is reopened: its end is removed, and posted again once these entries are acknowledged.
_REQUEUE: Final = stream_script("""
local lost = loss()
if lost then return lost end
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local count = 0
for _, id in ipairs(ARGV) do
    local letter = redis.call('XRANGE', dead, id, id)[1]
    if letter then
        local options = {}
        for i = 9, #letter[2], 2 do options[letter[2][i]] = letter[2][i + 1] end
        add(letter[2][2], nil, nil, options.key, options.headers)
        redis.call('XDEL', dead, id)
        count = count + 1
    end
end
if count > 0 and redis.call('HDEL', meta, 'ended') == 1 then redis.call('XDEL', stream, first[1]) end
note_length()
return count
""")


class DeadLetter(NamedTuple):
    """An entry that failed on all of its tries.

    Attributes:
        raw: The item, still encoded.
        id: The entry's id, as in `Delivery.id`.
        tries: How often it was delivered.
        receiver: The name of the receiver that had it last.
        error: The class name of the exception that ended the last try; empty if there was none.
        message: The message of that exception, cut after 1,000 characters, or what else happened.
        headers: The entry's headers.
        key: The entry's key, or None.
    """

    raw: bytes
    id: str
    tries: int
    receiver: str
    error: str
    message: str
    headers: dict[str, str]
    key: str | None


def reason_of(error: BaseException | None) -> bytes:
    """Return an exception's class name, a space, and its message; for a group of one, those of its member."""
    if error is None:
        return b" "
    error = sole(error)
    try:
        message = str(error)[:MESSAGE_LENGTH]
    except Exception:  # noqa: BLE001 - a user's class may raise anything in __str__
        message = ""
    return f"{''.join(type(error).__qualname__.split())} {message}".encode(errors="backslashreplace")


async def dead_letters(
    url: str, name: str, *, limit: int = 1000, ssl_context: ssl.SSLContext | None = None
) -> list[DeadLetter]:
    """Return the oldest dead letters of the stream `name`, at most `limit`, without removing them.

    Raises as `status` does.
    """
    check_count("limit", limit, 1)
    found = await ask(
        *(url, name, ssl_context),
        lambda client: client.call("XRANGE", client.keys.dead, "-", "+", "COUNT", limit),
    )
    return [_letter(dict(zip(fields[::2], fields[1::2], strict=True))) for _, fields in found]


def _letter(fields: dict[bytes, bytes]) -> DeadLetter:
    receiver, error, message = fields[b"why"].decode(errors="replace").split(" ", 2)
    key = fields.get(b"key")
    return DeadLetter(
        *(fields[b"v"], fields[b"id"].decode(), int(fields[b"tries"]), receiver, error, message),
        headers=json.loads(fields.get(b"headers", b"{}")),
        key=None if key is None else key.decode(),
    )


async def requeue_dead_letters(
    url: str, name: str, ids: Iterable[str] | None = None, *, ssl_context: ssl.SSLContext | None = None
) -> int:
    """Put dead letters back into the stream `name` as new entries, and return how many.

    They are added whatever the capacity, and get as many tries as other entries. A stream that has ended is reopened,
    and ends again when they are acknowledged. If an answer of the server is lost, the returned number may be too small.
    The arguments that are not listed here are those of `open_sender`.

    Args:
        ids: The ids to put back, as in `DeadLetter.id`; None for all.

    Raises:
        TypeError: `ids` is not an iterable of str.
        StreamLost: the server has lost entries of the stream.
        OSError, trio.BrokenResourceError: as for `status`.
    """
    return await _of_letters(url, name, ids, ssl_context, lambda client, found: client.run(_REQUEUE, *found))


async def drop_dead_letters(
    url: str, name: str, ids: Iterable[str] | None = None, *, ssl_context: ssl.SSLContext | None = None
) -> int:
    """Delete dead letters of the stream `name`, and return how many. The arguments are those of `requeue_dead_letters`.

    Raises as `requeue_dead_letters` does, except for `StreamLost`.
    """
    return await _of_letters(
        *(url, name, ids, ssl_context), lambda client, found: client.call("XDEL", client.keys.dead, *found)
    )


async def trim_dead_letters(url: str, name: str, keep: int, *, ssl_context: ssl.SSLContext | None = None) -> int:
    """Delete all dead letters of the stream `name` except the newest `keep`, and return how many were deleted.

    Raises:
        TypeError, ValueError: `keep` is not an int of 0 or more.
        OSError, trio.BrokenResourceError: as for `status`.
    """
    check_count("keep", keep, 0)
    trimmed: int = await ask(
        url, name, ssl_context, lambda client: client.call("XTRIM", client.keys.dead, "MAXLEN", keep)
    )
    return trimmed


async def _of_letters(
    url: str,
    name: str,
    ids: Iterable[str] | None,
    ssl_context: ssl.SSLContext | None,
    act: Callable[[Client, list[bytes]], Awaitable[int]],
) -> int:
    """Apply `act` to the chosen letters, page by page, and return the sum of its results."""
    wanted = None if ids is None else list(ids)
    if isinstance(ids, str) or not all(isinstance(entry, str) for entry in wanted or ()):
        raise TypeError(f"ids must be an iterable of str, or None for all, got {ids!r}")
    chosen = None if wanted is None else {entry.encode() for entry in wanted}
    count, after = 0, "-"

    async def page_by_page(client: Client) -> None:
        nonlocal count, after
        while page := await client.call("XRANGE", client.keys.dead, after, "+", "COUNT", PAGE):
            found: list[Any] = [letter for letter, fields in page if chosen is None or fields[3] in chosen]
            if found:
                count += await act(client, found)
            after = "(" + page[-1][0].decode()

    await ask(url, name, ssl_context, page_by_page)
    return count
