"""Many slow readers: each takes 16 KiB twice a second, all at once, for the given seconds."""

import json
import resource
import socket
import sys
import time

port, path, source = int(sys.argv[1]), sys.argv[2], sys.argv[3]
readers, seconds = int(sys.argv[4]), float(sys.argv[5])
PIECE, PAUSE = 16384, 0.5

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, readers + 100)), hard))
with open(source, "rb") as file:
    first = file.read(1024)

began = time.perf_counter()
socks = []
for _ in range(readers):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE)
    sock.settimeout(60)
    sock.connect(("127.0.0.1", port))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    socks.append(sock)

for sock in socks:
    start = b""
    while b"\r\n\r\n" not in start or len(start.partition(b"\r\n\r\n")[2]) < len(first):
        data = sock.recv(PIECE)
        if not data:
            sys.exit(f"a connection ended after {start[:100]!r}")
        start += data
    if b" 200" not in start[:20] or not start.partition(b"\r\n\r\n")[2].startswith(first):
        sys.exit(f"an answer is {start[:100]!r}")

served = len(socks)
over = time.monotonic() + seconds
while time.monotonic() < over:
    round_began = time.monotonic()
    served = sum(bool(sock.recv(PIECE)) for sock in socks)
    time.sleep(max(0.0, PAUSE - (time.monotonic() - round_began)))
print(json.dumps({"wall": time.perf_counter() - began, "served": served}))
