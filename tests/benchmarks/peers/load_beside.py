"""A fast client: how long its requests take when it is alone, and how long with many slow clients.

The slow clients, in their own process: readers that take 16 KiB of a large file once a second, and connections that
send their head a byte a second.
"""

import json
import os
import resource
import signal
import socket
import statistics
import sys
import time

port, large, small = int(sys.argv[1]), sys.argv[2], sys.argv[3]
readers, tricklers, seconds = int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
PIECE, PAUSE = 16384, 1.0
HEAD = f"GET {large} HTTP/1.1\r\nHost: localhost\r\nX-Padding: ".encode() + b"x" * 1000

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, readers + tricklers + 100)), hard))


def connected() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE)
    sock.settimeout(60)
    sock.connect(("127.0.0.1", port))
    return sock


def crowd(ready: int) -> None:
    reading = [connected() for _ in range(readers)]
    for sock in reading:
        sock.sendall(HEAD[: HEAD.index(b"X-")] + b"\r\n")
    for sock in reading:
        if b" 200" not in sock.recv(20):
            sys.exit("a reader got no answer")
    trickling = [connected() for _ in range(tricklers)]
    os.write(ready, b"x")
    for at in range(len(HEAD)):
        began = time.monotonic()
        for sock in trickling:
            sock.send(HEAD[at : at + 1])
        for sock in reading:
            if not sock.recv(PIECE):
                sys.exit("a reader was left alone")
        time.sleep(max(0.0, PAUSE - (time.monotonic() - began)))


def asked(sock: socket.socket) -> float:
    """Send a request, and return how long the whole response took."""
    began = time.perf_counter()
    sock.sendall(f"GET {small} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"the end"):
        data = sock.recv(65536)
        if not data:
            sys.exit(f"the connection ended after {answer[:100]!r}")
        answer += data
    return time.perf_counter() - began


def in_a_hurry() -> list[float]:
    """Send requests, each after a pause as long as the response took, and return how long each took."""
    taken: list[float] = []
    over = time.perf_counter() + seconds
    while time.perf_counter() < over:
        with connected() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(500):  # as many as every server allows on one connection
                taken.append(asked(sock))
                time.sleep(taken[-1])
    return taken


began = time.perf_counter()
in_a_hurry()
alone = in_a_hurry()
told, ready = os.pipe()
child = os.fork()
if child == 0:
    os.close(told)
    crowd(ready)
    os._exit(1)
os.close(ready)
try:
    if os.read(told, 1) != b"x":
        sys.exit("the crowd could not gather")
    beside = in_a_hurry()
    if os.waitpid(child, os.WNOHANG) != (0, 0):
        sys.exit("the crowd has gone")
finally:
    os.kill(child, signal.SIGKILL)
median = statistics.median
print(json.dumps({"wall": time.perf_counter() - began, "alone": median(alone), "beside": median(beside)}))
