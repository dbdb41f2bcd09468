"""A receiver's membership in its group: its name, and the calls that it makes under that name."""

from __future__ import annotations

import logging
import math
import secrets
from typing import Any, Final, NoReturn

import trio

from trioflow.redis.answers import Refused
from trioflow.redis.client import ANSWER_TIMEOUT, Client
from trioflow.redis.options import ReceiverOptions, unique_name
from trioflow.redis.receiver_scripts import JOIN
from trioflow.redis.scripts import Script

_log: Final = logging.getLogger("trioflow.redis")


class Membership:
    """A receiver's group, name and token."""

    def __init__(self, options: ReceiverOptions, client: Client) -> None:
        self.group = options.group
        self.name = options.receiver or unique_name()
        self.is_broken = False
        self._client = client
        self._stream = f"the stream {options.name!r}"
        self._identity = (self.group, self.name, secrets.token_hex(8), math.ceil(options.lease * 1000))

    async def join(self, in_hand: str = "") -> None:
        """Create the group if it does not exist, and register this name.

        To join again after the server has lost the group, pass an entry that is in hand, or `"-"`.

        Raises:
            StreamLost: the server has lost entries of the stream.
            trio.BusyResourceError: a live receiver has this name.
            ValueError: another group reads this stream.
        """
        answer = await self.run_until_done(JOIN, in_hand)
        if answer == 0:
            raise trio.BusyResourceError(
                f"a live receiver called {self.name!r} already reads {self._stream}; give this one another name"
            )
        if answer == 2:
            _log.warning(
                "joined %s again: the server did not know this receiver any more; if it was flushed, or has started "
                "without its data, entries may be lost",
                self._stream,
            )
        elif answer != 1:
            raise ValueError(
                f"{self._stream} is read by the group {answer.decode()!r}, and acknowledged entries are deleted; "
                f"for the group {self.group!r}, send to a second stream"
            )

    async def run(
        self, script: Script, *args: str | bytes | int, within: float = ANSWER_TIMEOUT, shield: bool = False
    ) -> Any:
        """Run a script once, as `Client.run` does."""
        return await self._client.run(script, *self._identity, *args, within=within, shield=shield)

    async def run_until_done(self, script: Script, *args: str | bytes | int) -> Any:
        """Run a script again until it is carried out."""
        try:
            return await self._client.run_until_done(script, *self._identity, *args)
        except Refused as exc:
            await self.fail(f"cannot be read: {exc}")

    async def fail(self, complaint: str) -> NoReturn:
        """Raise a BrokenResourceError in the first task that fails; the others sleep until it has cancelled them."""
        if self.is_broken:
            await trio.sleep_forever()
        self.is_broken = True
        raise trio.BrokenResourceError(f"{self._stream} {complaint}") from None
