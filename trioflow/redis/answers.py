"""What the server's errors mean for the two ends: one table.

`docs/reference/redis.md` says the same to users, with what each end does.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import trio


class Meaning(Enum):
    """What to do about an error that the server answered."""

    WAIT = "It was not carried out, and may be later: try again. The server is in reach, so `patience` does not count."
    GONE = "This server cannot serve us: connect anew and try again, for `patience` seconds."
    LOGIN = "As GONE, in case the password is being changed; but at the opening it is the caller's fault."
    JOIN = "The group does not exist, or is no longer where it was: join it anew and try again."
    LOSS = "Entries are lost."
    FAULT = "The caller asked for something that the server will always refuse."


# By the first word of the error. What is not here is a FAULT: NOPERM, WRONGTYPE, MOVED, and ERR for nearly anything.
MEANINGS: Final = {
    "LOADING": Meaning.WAIT,  # it reads its data after a start
    "BUSY": Meaning.WAIT,  # somebody's script takes long
    "OOM": Meaning.WAIT,  # no memory for a write
    "MISCONF": Meaning.WAIT,  # it could not save its data, and accepts no write until it can
    "NOREPLICAS": Meaning.WAIT,  # fewer replicas than min-replicas-to-write
    "TRYAGAIN": Meaning.WAIT,  # a slot of the cluster is being moved
    "CLUSTERDOWN": Meaning.WAIT,
    "READONLY": Meaning.GONE,  # it was made a replica; its address may soon lead to the new master
    "MASTERDOWN": Meaning.GONE,
    "NOAUTH": Meaning.LOGIN,
    "WRONGPASS": Meaning.LOGIN,
    "NOGROUP": Meaning.JOIN,  # the group or the stream was deleted
    "UNBLOCKED": Meaning.JOIN,  # the stream was deleted, or the server made a replica, during a blocking read
    "LOST": Meaning.LOSS,  # our scripts' own: see `loss` there
}


class StreamLost(trio.BrokenResourceError):
    """The server has lost a stream, and entries that were in it."""
