"""The client of compressed texts: receives one, and decompresses it after the measured time."""

import hashlib
import http.client
import json
import sys
import time
import zlib

port, path = int(sys.argv[1]), sys.argv[2]
began = time.perf_counter()
connection = http.client.HTTPConnection("127.0.0.1", port)
connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
response = connection.getresponse()
body = response.read()
wall = time.perf_counter() - began
if response.status != 200 or response.headers["Content-Encoding"] != "gzip":
    sys.exit(f"the answer is {response.status} {response.headers}")
digest = hashlib.blake2b(zlib.decompress(body, wbits=31)).hexdigest()
print(json.dumps({"wall": wall, "bytes": len(body), "digest": digest}))
