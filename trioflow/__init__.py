"""Streams for Trio, modelled on those of Node.js: Readable, Writable, Duplex, Transform, `pipe` and `pipeline`."""

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trioflow._core.buffer import ChannelStatistics, Overflow
    from trioflow._core.channel import ReceiveChannel, SendChannel
    from trioflow._core.decorators import readable, transform, writable
    from trioflow._core.open_channel import open_channel
    from trioflow._core.pipeline import pipeline
    from trioflow._core.streams import Duplex, Readable, Transform, Writable
    from trioflow.codecs.bytebuffer import ByteBuffer
    from trioflow.codecs.chunks import Digest, digest, limit_bytes, rechunk
    from trioflow.codecs.csv import CsvFormat, csv_rows, parse_csv
    from trioflow.codecs.framing import delimited, length_prefixed, parse_length_prefixed
    from trioflow.codecs.gzip import deflate, gunzip, gzip, inflate
    from trioflow.codecs.jsonlines import json_lines, parse_json_lines
    from trioflow.codecs.lines import lines, split
    from trioflow.codecs.reading import Buffered, buffered
    from trioflow.codecs.text import decode, encode
    from trioflow.codecs.zstd_brotli import brotli, unbrotli, unzstd, zstd
    from trioflow.io.files import read_file, write_file
    from trioflow.io.processes import process
    from trioflow.io.sockets import connect_tcp, connect_tls, connect_unix, serve_tcp
    from trioflow.io.stdio import stdin, stdout
    from trioflow.operators.arranging import enumerate, flatten, intersperse, passthrough
    from trioflow.operators.buffering import Offered, buffer, queue
    from trioflow.operators.failing import Delivered, Restart, recover, retry
    from trioflow.operators.flattening import flat_map_merge, switch_map
    from trioflow.operators.grouping import batch, pairwise, window
    from trioflow.operators.hub import Hub, hub
    from trioflow.operators.inspecting import Inspector, RunSnapshot, inspect
    from trioflow.operators.item_errors import on_item_error
    from trioflow.operators.items import filter, flat_map, map, scan, starmap, tap
    from trioflow.operators.joining import concat, interleave, merge, merge_sorted, zip, zip_latest
    from trioflow.operators.keyed import group_by
    from trioflow.operators.parallel import map_async, map_in_threads
    from trioflow.operators.parallel_processes import map_in_processes
    from trioflow.operators.progress import progress
    from trioflow.operators.results import collect, count, first, join, last, reduce
    from trioflow.operators.selecting import changes, distinct, drop, drop_while, take, take_until, take_while
    from trioflow.operators.sinks import drain, for_each, to_channel, to_stream
    from trioflow.operators.sources import empty, failed, from_iterable, repeat, unfold
    from trioflow.operators.splitting import Branch, balance, broadcast, partition
    from trioflow.operators.timing import debounce, delay, keep_alive, sample, throttle, ticks, timeout
    from trioflow.operators.tracing import Tracing, trace
    from trioflow.operators.watching import Monitor, Snapshot, StageSnapshot, monitor
    from trioflow.operators.windowing import window_time

__version__ = "0.1.0"

__all__ = [
    "Branch",
    "Buffered",
    "ByteBuffer",
    "ChannelStatistics",
    "CsvFormat",
    "Delivered",
    "Digest",
    "Duplex",
    "Hub",
    "Inspector",
    "Monitor",
    "Offered",
    "Overflow",
    "Readable",
    "ReceiveChannel",
    "Restart",
    "RunSnapshot",
    "SendChannel",
    "Snapshot",
    "StageSnapshot",
    "Tracing",
    "Transform",
    "Writable",
    "balance",
    "batch",
    "broadcast",
    "brotli",
    "buffer",
    "buffered",
    "changes",
    "collect",
    "concat",
    "connect_tcp",
    "connect_tls",
    "connect_unix",
    "count",
    "csv_rows",
    "debounce",
    "decode",
    "deflate",
    "delay",
    "delimited",
    "digest",
    "distinct",
    "drain",
    "drop",
    "drop_while",
    "empty",
    "encode",
    "enumerate",
    "failed",
    "filter",
    "first",
    "flat_map",
    "flat_map_merge",
    "flatten",
    "for_each",
    "from_iterable",
    "group_by",
    "gunzip",
    "gzip",
    "hub",
    "inflate",
    "inspect",
    "interleave",
    "intersperse",
    "join",
    "json_lines",
    "keep_alive",
    "last",
    "length_prefixed",
    "limit_bytes",
    "lines",
    "map",
    "map_async",
    "map_in_processes",
    "map_in_threads",
    "merge",
    "merge_sorted",
    "monitor",
    "on_item_error",
    "open_channel",
    "pairwise",
    "parse_csv",
    "parse_json_lines",
    "parse_length_prefixed",
    "partition",
    "passthrough",
    "pipeline",
    "process",
    "progress",
    "queue",
    "read_file",
    "readable",
    "rechunk",
    "recover",
    "reduce",
    "repeat",
    "retry",
    "sample",
    "scan",
    "serve_tcp",
    "split",
    "starmap",
    "stdin",
    "stdout",
    "switch_map",
    "take",
    "take_until",
    "take_while",
    "tap",
    "throttle",
    "ticks",
    "timeout",
    "to_channel",
    "to_stream",
    "trace",
    "transform",
    "unbrotli",
    "unfold",
    "unzstd",
    "window",
    "window_time",
    "writable",
    "write_file",
    "zip",
    "zip_latest",
    "zstd",
]

# Where each name is defined. A module is imported when one of its names is first used; importing all of them takes 25 ms.
_HOMES = {
    "_core.buffer": ["ChannelStatistics", "Overflow"],
    "_core.channel": ["ReceiveChannel", "SendChannel"],
    "_core.decorators": ["readable", "transform", "writable"],
    "_core.open_channel": ["open_channel"],
    "_core.pipeline": ["pipeline"],
    "_core.streams": ["Duplex", "Readable", "Transform", "Writable"],
    "codecs.bytebuffer": ["ByteBuffer"],
    "codecs.chunks": ["Digest", "digest", "limit_bytes", "rechunk"],
    "codecs.csv": ["CsvFormat", "csv_rows", "parse_csv"],
    "codecs.framing": ["delimited", "length_prefixed", "parse_length_prefixed"],
    "codecs.gzip": ["deflate", "gunzip", "gzip", "inflate"],
    "codecs.jsonlines": ["json_lines", "parse_json_lines"],
    "codecs.lines": ["lines", "split"],
    "codecs.reading": ["Buffered", "buffered"],
    "codecs.text": ["decode", "encode"],
    "codecs.zstd_brotli": ["brotli", "unbrotli", "unzstd", "zstd"],
    "io.files": ["read_file", "write_file"],
    "io.processes": ["process"],
    "io.sockets": ["connect_tcp", "connect_tls", "connect_unix", "serve_tcp"],
    "io.stdio": ["stdin", "stdout"],
    "operators.arranging": ["enumerate", "flatten", "intersperse", "passthrough"],
    "operators.buffering": ["Offered", "buffer", "queue"],
    "operators.failing": ["Delivered", "Restart", "recover", "retry"],
    "operators.flattening": ["flat_map_merge", "switch_map"],
    "operators.grouping": ["batch", "pairwise", "window"],
    "operators.hub": ["Hub", "hub"],
    "operators.inspecting": ["Inspector", "RunSnapshot", "inspect"],
    "operators.item_errors": ["on_item_error"],
    "operators.items": ["filter", "flat_map", "map", "scan", "starmap", "tap"],
    "operators.joining": ["concat", "interleave", "merge", "merge_sorted", "zip", "zip_latest"],
    "operators.keyed": ["group_by"],
    "operators.parallel": ["map_async", "map_in_threads"],
    "operators.parallel_processes": ["map_in_processes"],
    "operators.progress": ["progress"],
    "operators.results": ["collect", "count", "first", "join", "last", "reduce"],
    "operators.selecting": ["changes", "distinct", "drop", "drop_while", "take", "take_until", "take_while"],
    "operators.sinks": ["drain", "for_each", "to_channel", "to_stream"],
    "operators.sources": ["empty", "failed", "from_iterable", "repeat", "unfold"],
    "operators.splitting": ["Branch", "balance", "broadcast", "partition"],
    "operators.timing": ["debounce", "delay", "keep_alive", "sample", "throttle", "ticks", "timeout"],
    "operators.tracing": ["Tracing", "trace"],
    "operators.watching": ["Monitor", "Snapshot", "StageSnapshot", "monitor"],
    "operators.windowing": ["window_time"],
}

_SUBPACKAGES = ["http", "redis", "testing"]  # not imported with trioflow, which needs neither h11 nor an extra

if not TYPE_CHECKING:  # type checkers use the imports above; with a `__getattr__` they would accept any name

    def __getattr__(name):
        if name in _SUBPACKAGES:
            return importlib.import_module(f"trioflow.{name}")
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(importlib.import_module(f"trioflow.{home}"), name)
                return value
        raise AttributeError(f"module 'trioflow' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBPACKAGES, "__version__"])


if os.environ.get("TRIOFLOW_INSPECT"):  # serve the inspector's page without a change to the program
    importlib.import_module("trioflow.http._inspector_variable").begin(os.environ["TRIOFLOW_INSPECT"])
