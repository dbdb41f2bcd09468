"""The limits: blocking loops that do the work and nothing else."""

import csv
import importlib
import json
import shutil
import sys
import zlib

from measure import drive, once, waiting

CHUNK = 1 << 16  # the fastest of 16 KiB to 256 KiB, for unpacking too


def log() -> None:
    with open(source, encoding="utf-8", newline="\n") as lines, open(target, "w", encoding="utf-8") as output:
        for line in lines:
            if " 500 " in line:
                output.write(line)


def copy() -> None:
    shutil.copyfile(source, target)


def gzip() -> None:
    packer = zlib.compressobj(level=6, wbits=31)
    with open(source, "rb") as whole, open(target, "wb") as output:
        while chunk := whole.read(CHUNK):
            output.write(packer.compress(chunk))
        output.write(packer.flush())


def gunzip() -> None:
    unpacker = zlib.decompressobj(wbits=31)
    with open(source, "rb") as packed, open(target, "wb") as output:
        while chunk := packed.read(CHUNK):
            output.write(unpacker.decompress(chunk))
        output.write(unpacker.flush())


encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # faster than `dumps` with options


def json_lines() -> None:
    with open(source, encoding="utf-8", newline="\n") as lines, open(target, "w", encoding="utf-8") as output:
        for line in lines:
            record = json.loads(line)
            if record["status"] >= 400:
                output.write(encode(record) + "\n")


def json_msgspec() -> None:
    library = importlib.import_module("msgspec.json")  # it is installed if this is called
    decode, encode = library.Decoder().decode, library.Encoder().encode
    with open(source, "rb") as lines, open(target, "wb") as output:
        for line in lines:
            record = decode(line)
            if record["status"] >= 400:
                output.write(encode(record) + b"\n")


def csv_to_json() -> None:
    with open(source, encoding="utf-8", newline="") as lines, open(target, "w", encoding="utf-8") as output:
        rows = csv.reader(lines)  # a `DictReader` takes three times as long
        columns = next(rows)
        for cells in rows:
            output.write(encode(dict(zip(columns, cells, strict=True))) + "\n")


job, source, target = sys.argv[1:]
JOBS = {
    "log": log,
    "copy": copy,
    "gzip": gzip,
    "gzip-isal": gzip,
    "gunzip": gunzip,
    "gunzip-isal": gunzip,
    "json": json_lines,
    "json-msgspec": json_msgspec,
    "csv": csv_to_json,
}
drive(once, waiting(JOBS[job]))
