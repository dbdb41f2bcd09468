"""What the server's errors mean for the two ends: one table.

`docs/reference/redis.md` says the same to users, with what each end does.
"""

from __future__ import annotations

from typing import Final

import trio


class Later(Exception):
    """The call was not carried out, and may be `pause` seconds later. The server is in reach: `patience` does not count."""

    def __init__(self, reason: str, pause: float = 0.25) -> None:
        super().__init__(reason)
        self.pause = pause


class Lost(Later):
    """There was no answer, or none that this server will change: connect anew. The call may have been carried out."""


class NoLogin(Lost):
    """The user or the password was refused: the caller's fault at the opening; later, the password may be changing."""


class MaybeMoved(Later):
    """The call was not carried out, and another server may be the master by now: the next call asks where it is."""


class NoGroup(Later):
    """The group does not exist, or is no longer where it was: join it anew."""


class NoScript(Later):
    """The server does not have the script, or no longer: send its source."""


class StreamLost(trio.BrokenResourceError):
    """The server has lost a stream, and entries that were in it."""


class Refused(Exception):
    """The caller asked for something that the server will always refuse."""


# By the first word of the error. What is not here is `Refused`: NOPERM, WRONGTYPE, and ERR for nearly anything.
ANSWERS: Final[dict[str, type[Later] | type[StreamLost]]] = {
    "LOADING": Later,  # it reads its data after a start
    "BUSY": Later,  # somebody's script takes long
    "OOM": Later,  # no memory for a write
    "MISCONF": Later,  # it could not save its data, and accepts no write until it can
    "NOREPLICAS": MaybeMoved,  # fewer replicas than min-replicas-to-write
    "TRYAGAIN": Later,  # the slot is being moved to another node of the cluster
    "ASK": Later,  # the same; where it is moved to, our scripts would be told to try again
    "CLUSTERDOWN": MaybeMoved,
    "MOVED": Lost,  # another node has the slot: the answer says which
    "READONLY": Lost,  # it was made a replica; its address may soon lead to the new master
    "MASTERDOWN": Lost,
    "NOAUTH": NoLogin,
    "WRONGPASS": NoLogin,
    "NOSCRIPT": NoScript,
    "NOGROUP": NoGroup,  # the group or the stream was deleted
    "UNBLOCKED": NoGroup,  # the stream was deleted, or the server made a replica, during a blocking read
    "LOST": StreamLost,  # our scripts' own: see `loss` there
}
