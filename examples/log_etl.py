"""Extract, transform, load: a gzipped log becomes gzipped JSON lines, a few chunks at a time, with a progress bar.

Node: pipeline(createReadStream(a), createGunzip(), split(), transform, createGzip(), createWriteStream(b)); the bar is a package.
"""

import sys
from datetime import datetime

import trio

import trioflow as tf

LINES = [
    f'10.0.0.{n % 200} - - [{n % 28 + 1:02}/Nov/2026:10:00:00 +0000] "GET /{n % 50}.html HTTP/1.1" '
    f"{503 if n % 1000 == 7 else 200} {n}\n".encode()
    for n in range(100_000)
]


def parse(line: str) -> dict[str, object]:
    client, _, _, date, zone, _, path, _, status, size = line.split()
    when = datetime.strptime(f"{date} {zone}", "[%d/%b/%Y:%H:%M:%S %z]")
    return {"when": when.isoformat(), "client": client, "path": path, "status": int(status), "size": int(size)}


async def main() -> None:
    await tf.from_iterable(LINES).pipe(tf.gzip()).pipe(tf.write_file("access.log.gz"))
    await (
        tf.read_file("access.log.gz")
        .pipe(tf.progress(name="errors", file=sys.stdout))  # on a terminal it is a bar
        .pipe(tf.gunzip())
        .pipe(tf.lines())
        .pipe(tf.filter(lambda line: '" 50' in line))
        .pipe(tf.map(parse))
        .pipe(tf.json_lines())
        .pipe(tf.gzip())
        .pipe(tf.write_file("errors.jsonl.gz"))
    )
    errors = tf.read_file("errors.jsonl.gz").pipe(tf.gunzip()).pipe(tf.parse_json_lines())
    async with errors.open() as records:
        print("The first:", await records.receive())
    print("In all:", await errors.pipe(tf.count()))


trio.run(main)

# Prints:
# errors: ... of ..., 100 %
# The first: {'when': '2026-11-08T10:00:00+00:00', 'client': '10.0.0.7', 'path': '/7.html', 'status': 503, 'size': 7}
# In all: 100
