"""Streams in Redis: bounded channels between processes and machines, whose entries survive a worker that dies.

Rule 1: each item is stored once and delivered at least once, so a worker may see an item again.
Rule 2: senders wait while `capacity` entries are unread or unacknowledged, whoever sent or holds them.
Rule 3: a stream ends for good when every sender has closed and every entry is acknowledged.
Rule 4: in a chain from `readable` to `writable`, an entry is acknowledged when everything made of it is stored.

`docs/reference/redis.md` lists what happens at each fault.
"""

from __future__ import annotations

from trioflow.redis.answers import StreamLost as StreamLost
from trioflow.redis.delivery import Delivery as Delivery
from trioflow.redis.entry import Entry as Entry
from trioflow.redis.letters import DeadLetter as DeadLetter
from trioflow.redis.letters import dead_letters as dead_letters
from trioflow.redis.letters import drop_dead_letters as drop_dead_letters
from trioflow.redis.letters import requeue_dead_letters as requeue_dead_letters
from trioflow.redis.letters import trim_dead_letters as trim_dead_letters
from trioflow.redis.receiving import open_receiver as open_receiver
from trioflow.redis.sending import RedisSender as RedisSender
from trioflow.redis.sending import open_sender as open_sender
from trioflow.redis.stages import acknowledge as acknowledge
from trioflow.redis.stages import readable as readable
from trioflow.redis.stages import writable as writable
from trioflow.redis.status import Receiver as Receiver
from trioflow.redis.status import Sender as Sender
from trioflow.redis.status import Status as Status
from trioflow.redis.status import drop_sender as drop_sender
from trioflow.redis.status import senders as senders
from trioflow.redis.status import status as status
from trioflow.redis.working import run as run
from trioflow.redis.working import work as work

__all__ = [
    "DeadLetter",
    "Delivery",
    "Entry",
    "Receiver",
    "RedisSender",
    "Sender",
    "Status",
    "StreamLost",
    "acknowledge",
    "dead_letters",
    "drop_dead_letters",
    "drop_sender",
    "open_receiver",
    "open_sender",
    "readable",
    "requeue_dead_letters",
    "run",
    "senders",
    "status",
    "trim_dead_letters",
    "work",
    "writable",
]


def __dir__() -> list[str]:
    return sorted(__all__)
