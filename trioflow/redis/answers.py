"""What each error answer of the server means for senders and receivers, in one table.

`docs/reference/redis.md` has the same table for users, with what a sender or receiver does at each.
"""

from __future__ import annotations

from typing import Final

import trio


class Later(Exception):
    """The call was not carried out; try again after `pause` seconds. The server answers: `patience` does not count."""

    def __init__(self, reason: str, pause: float = 0.25) -> None:
        super().__init__(reason)
        self.pause = pause


class Lost(Later):
    """No answer came, or one that this server will not change: reconnect. The call may have been carried out."""


class NoLogin(Lost):
    """The user or the password was refused: the caller's mistake at first; later, the password may be changing."""


class MaybeMoved(Later):
    """The call was not carried out, and another server may be the master by now: the next call looks it up."""


class NoGroup(Later):
    """The group does not exist, or no longer on this server: join it again."""


class NoScript(Later):
    """The server does not have the script in its cache: send the source."""


class StreamLost(trio.BrokenResourceError):
    """The server has lost a stream and entries that were in it."""


class Refused(Exception):
    """The server refuses the call and always will."""


# By the first word of the error. All others are `Refused`: NOPERM, WRONGTYPE, and ERR, which covers nearly anything.
ANSWERS: Final[dict[str, type[Later] | type[StreamLost]]] = {
    "LOADING": Later,  # it is reading its data after a start
    "BUSY": Later,  # a slow script is running
    "OOM": Later,  # no memory for a write
    "MISCONF": Later,  # it could not save its data, and refuses writes until it can
    "NOREPLICAS": MaybeMoved,  # fewer replicas than min-replicas-to-write
    "TRYAGAIN": Later,  # the slot is being moved to another node of the cluster
    "ASK": Later,  # the same; the new node would answer TRYAGAIN to our scripts
    "CLUSTERDOWN": MaybeMoved,
    "MOVED": Lost,  # another node, named in the answer, has the slot
    "READONLY": Lost,  # it became a replica; its address may soon lead to the new master
    "MASTERDOWN": Lost,
    "NOAUTH": NoLogin,
    "WRONGPASS": NoLogin,
    "NOSCRIPT": NoScript,
    "NOGROUP": NoGroup,  # the group or the stream was deleted
    "UNBLOCKED": NoGroup,  # during a blocking read, the stream was deleted or the server became a replica
    "LOST": StreamLost,  # from our own scripts: see `loss` in `scripts`
}
