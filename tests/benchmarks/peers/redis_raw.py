"""redis-py, as fast as possible: pipelines of XADD, then reading in a group, acknowledging, deleting in pipelines."""

import sys

import redis
from redis_halves import MESSAGE, Sender, begin, run

port, batch, count = map(int, sys.argv[1:4])


def send() -> None:
    with redis.Redis(port=port) as client:
        client.ping()
        begin()
        for _ in range(count // batch):
            with client.pipeline(transaction=False) as pipe:
                for _ in range(batch):
                    pipe.xadd("bench", {"v": MESSAGE})
                pipe.execute()


def receive() -> None:
    got = 0
    with redis.Redis(port=port) as client:
        client.xgroup_create("bench", "g", "0", mkstream=True)
        sender = Sender()
        sender.go()
        while got < count:
            for _, entries in client.xreadgroup("g", "c", {"bench": ">"}, count=batch, block=1000):
                ids = []
                for entry, fields in entries:
                    assert len(fields[b"v"]) == len(MESSAGE)
                    ids.append(entry)
                with client.pipeline(transaction=False) as pipe:
                    pipe.xack("bench", "g", *ids)
                    pipe.xdel("bench", *ids)
                    pipe.execute()
                got += len(ids)
        sender.tell(got)


run(send, receive)
