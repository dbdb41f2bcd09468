"""The client of large files: several connections at once, each for the whole file, which the kernel discards.

The first and last 4 KiB of each are compared, and all are counted.
"""

import json
import selectors
import socket
import sys
import time

port, path, source, readers = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
EDGE, PIECE = 4096, 1 << 20
DROP = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0  # Linux: received, and never copied

with open(source, "rb") as file:
    first = file.read(EDGE)
    size = file.seek(0, 2)
    file.seek(max(0, size - EDGE))
    last = file.read()


class Reader:
    def __init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        self.head, self.got, self.tail = b"", -1, b""

    def read(self, buffer: bytearray) -> bool:
        """Receive what has arrived; return whether the body is complete."""
        if self.got < 0:
            return self.read_head()
        left = size - EDGE - self.got
        if left > 0:
            count = self.socket.recv_into(buffer, min(left, PIECE), DROP)
        else:
            count = len(data := self.socket.recv(EDGE))
            self.tail += data
        if not count:
            sys.exit(f"the body ended after {self.got} of {size} bytes")
        self.got += count
        return self.got >= size and self.ends_well()

    def read_head(self) -> bool:
        data = self.socket.recv(EDGE)
        if not data:
            sys.exit("the connection ended within the head")
        self.head += data
        head, found, body = self.head.partition(b"\r\n\r\n")
        if not found or len(body) < len(first):
            return False
        status, *fields = head.lower().split(b"\r\n")
        if b" 200" not in status or b"content-length: %d" % size not in fields:
            sys.exit(f"the head is {head!r}")
        if body[:EDGE] != first:
            sys.exit("the body begins otherwise")
        self.got = len(body)
        self.tail = body[max(0, size - EDGE) :] if self.got > size - EDGE else b""
        return self.got >= size and self.ends_well()

    def ends_well(self) -> bool:
        if self.tail != last[-len(self.tail) :] or not self.tail:
            sys.exit("the body ends otherwise")
        self.socket.close()
        return True


began = time.perf_counter()
buffer = bytearray(PIECE)
with selectors.DefaultSelector() as ready:
    all_readers = [Reader() for _ in range(readers)]
    for reader in all_readers:
        ready.register(reader.socket, selectors.EVENT_READ, reader)
    left = readers
    while left:
        for key, _ in ready.select():
            sock = key.fileobj
            if key.data.read(buffer):
                ready.unregister(sock)
                left -= 1
wall = time.perf_counter() - began
print(json.dumps({"wall": wall, "bytes": sum(reader.got for reader in all_readers)}))
