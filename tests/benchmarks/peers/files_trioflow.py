"""Ours: a log filtered, a file copied, packed and unpacked."""

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


job, source, target = sys.argv[1:]
trio.run(once, {"log": log, "copy": copy, "gzip": gzip, "gunzip": gunzip}[job])
