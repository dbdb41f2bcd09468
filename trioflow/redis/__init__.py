"""A channel between machines: streams of Redis (or Valkey), bounded, shared by many, and survived by their entries.

Rule 1: what was sent is stored once, and delivered at least once: whoever works on entries may see one again.
Rule 2: senders wait while `capacity` entries are unread or unacknowledged, whoever has sent or holds them.
Rule 3: a stream ends when every sender has closed and every entry is acknowledged; for good.
Rule 4: in a chain from `readable` to `writable` an entry is acknowledged when all that comes of it is stored.

`docs/reference/redis.md` tells what happens at which fault.
"""

from __future__ import annotations

from trioflow.redis.ends import open_receiver as open_receiver
from trioflow.redis.ends import open_sender as open_sender
from trioflow.redis.receiving import Delivery as Delivery
from trioflow.redis.sending import RedisSender as RedisSender
from trioflow.redis.stages import acknowledge as acknowledge
from trioflow.redis.stages import readable as readable
from trioflow.redis.stages import writable as writable
from trioflow.redis.status import DeadLetter as DeadLetter
from trioflow.redis.status import Status as Status
from trioflow.redis.status import dead_letters as dead_letters
from trioflow.redis.status import status as status

__all__ = [
    "DeadLetter",
    "Delivery",
    "RedisSender",
    "Status",
    "acknowledge",
    "dead_letters",
    "open_receiver",
    "open_sender",
    "readable",
    "status",
    "writable",
]
