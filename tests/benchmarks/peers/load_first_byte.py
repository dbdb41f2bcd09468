"""The client that leaves early: repeatedly connects, sends a request, waits for the first bytes of the body, leaves."""

import json
import socket
import statistics
import sys
import time

port, path, source, times = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
with open(source, "rb") as file:
    first = file.read(64)


def ask() -> float:
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < 80:  # 64, and a chunk's size before them
            data = sock.recv(4096)
            if not data:
                sys.exit(f"the connection ended after {answer[:100]!r}")
            answer += data
        took = time.perf_counter() - began
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200" not in head.split(b"\r\n")[0] or first not in body[:80]:
        sys.exit(f"the answer is {answer[:200]!r}")
    return took


began = time.perf_counter()
taken = [ask() for _ in range(times)]
print(json.dumps({"wall": time.perf_counter() - began, "median": statistics.median(taken)}))
