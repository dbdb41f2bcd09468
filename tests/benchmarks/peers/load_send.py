"""The client of uploads: sends a file as a body with sendfile, and waits for the response."""

import json
import os
import socket
import sys
import time

port, path, source = int(sys.argv[1]), sys.argv[2], sys.argv[3]
size = os.path.getsize(source)
head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
with socket.create_connection(("127.0.0.1", port)) as sock, open(source, "rb") as file:
    began = time.perf_counter()
    sock.sendall(head.encode())
    sent = 0
    while sent < size:
        sent += os.sendfile(sock.fileno(), file.fileno(), sent, size - sent)
    answer = b""
    while data := sock.recv(65536):
        answer += data
    wall = time.perf_counter() - began
fields, _, body = answer.partition(b"\r\n\r\n")
if b" 200" not in fields.split(b"\r\n")[0]:
    sys.exit(f"the answer is {answer[:100]!r}")
if b"chunked" in fields.lower():
    body = body.split(b"\r\n")[1]
print(json.dumps({"wall": wall, "answer": body.decode()}))
