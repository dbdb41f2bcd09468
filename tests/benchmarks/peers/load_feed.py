"""The client of a feed: opens many connections, waits until each has got an event, and counts for some seconds.

The server's CPU time is read at the start and the end of these seconds, so the cost of connecting is not measured.
"""

import json
import os
import resource
import selectors
import socket
import sys
import time

port, path, clients, seconds, pid = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]


def cpu_seconds() -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def take(left: float) -> int:
    """Wait for the next data, at most for the given seconds, and return how many events arrived."""
    events = 0
    for key, _ in ready.select(left):
        data = key.fileobj.recv(65536)
        if not data:
            sys.exit("the feed has ended")
        if count := data.count(b"data: tick "):
            waiting.discard(key.fd)
            events += count
    return events


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, clients + 100)), hard))
events = 0
waiting = set()
with selectors.DefaultSelector() as ready:
    for _ in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        ready.register(sock, selectors.EVENT_READ)
        waiting.add(sock.fileno())
    while waiting:
        take(60)
    began, cpu = time.perf_counter(), cpu_seconds()
    while (left := began + seconds - time.perf_counter()) > 0:
        events += take(left)
    wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
print(json.dumps({"wall": wall, "events": events, "cpu": cpu}))
