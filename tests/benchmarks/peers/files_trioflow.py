"""Ours: a log filtered, a file copied, compressed and decompressed, records parsed and written.

The second argument is the extra to measure with, if any; other extras are treated as not installed.
"""

import sys
from collections.abc import Awaitable

import trio
from measure import once

import trioflow as tf


def log() -> Awaitable[int]:
    return (
        tf.read_file(source)
        .pipe(tf.lines())
        .pipe(tf.filter(lambda line: " 500 " in line))
        .pipe(tf.encode(end="\n"))
        .pipe(tf.write_file(target))
    )


def copy() -> Awaitable[int]:
    return tf.read_file(source).pipe(tf.write_file(target))


def gzip() -> Awaitable[int]:
    return tf.read_file(source).pipe(tf.gzip(level=6)).pipe(tf.write_file(target))


def gunzip() -> Awaitable[int]:
    return tf.read_file(source).pipe(tf.gunzip()).pipe(tf.write_file(target))


def json() -> Awaitable[int]:
    return (
        tf.read_file(source)
        .pipe(tf.parse_json_lines())
        .pipe(tf.filter(lambda record: record["status"] >= 400))
        .pipe(tf.json_lines())
        .pipe(tf.write_file(target))
    )


def csv() -> Awaitable[int]:
    return tf.read_file(source).pipe(tf.parse_csv()).pipe(tf.json_lines()).pipe(tf.write_file(target))


job, source, target = sys.argv[1:]
name, _, extra = job.partition("-")
for package in ("isal", "msgspec"):
    if package != extra:
        sys.modules[package] = None  # type: ignore[assignment]  # importing it then raises ImportError
for public in tf.__all__:
    getattr(tf, public)  # trioflow imports a module when it is first used, which is not part of the work
trio.run(once, {"log": log, "copy": copy, "gzip": gzip, "gunzip": gunzip, "json": json, "csv": csv}[name])
