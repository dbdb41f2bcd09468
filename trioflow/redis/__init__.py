"""Streams in Redis: bounded channels between processes and machines, whose entries survive a worker that dies.

Rule 1: each item is stored once and delivered at least once, so a worker may see an item again.
Rule 2: senders wait while `capacity` entries are unread or unacknowledged, whoever sent or holds them.
Rule 3: a stream ends for good when every sender has closed and every entry is acknowledged.
Rule 4: in a chain from `readable` to `writable`, an entry is acknowledged when everything made of it is stored.

`docs/reference/redis.md` lists what happens at each fault.
"""

from __future__ import annotations

from trioflow.redis.answers import StreamLost
from trioflow.redis.entry import Entry
from trioflow.redis.hand import Delivery
from trioflow.redis.letters import DeadLetter, dead_letters, drop_dead_letters, requeue_dead_letters, trim_dead_letters
from trioflow.redis.receiving import open_receiver
from trioflow.redis.sending import RedisSender, open_sender
from trioflow.redis.stages import acknowledge, readable, writable
from trioflow.redis.status import Receiver, Sender, Status, drop_sender, senders, status
from trioflow.redis.working import run, work

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
