"""Node.js streams for Trio: Readable, Writable, Duplex, Transform, `pipe` and `pipeline`."""

from trioflow._bytebuffer import ByteBuffer
from trioflow._channel import ReceiveChannel, SendChannel, open_channel
from trioflow._decorators import readable, transform, writable
from trioflow._pipeline import pipeline
from trioflow._streams import Duplex, Readable, Transform, Writable
from trioflow.arranging import enumerate, flatten, intersperse, passthrough
from trioflow.buffering import buffer, queue
from trioflow.chunks import digest, limit_bytes, rechunk
from trioflow.compression import deflate, gunzip, gzip, inflate
from trioflow.failing import recover, retry
from trioflow.files import read_file, write_file
from trioflow.flattening import flat_map_merge, switch_map
from trioflow.framing import delimited, length_prefixed, parse_length_prefixed
from trioflow.grouping import batch, pairwise, window
from trioflow.item_errors import on_item_error
from trioflow.items import filter, flat_map, map, scan, tap
from trioflow.joining import concat, interleave, merge, zip, zip_latest
from trioflow.jsonlines import json_lines, parse_json_lines
from trioflow.keyed import group_by
from trioflow.lines import lines, split
from trioflow.parallel import map_async, map_in_threads
from trioflow.parallel_processes import map_in_processes
from trioflow.processes import process
from trioflow.progress import progress
from trioflow.reading import buffered
from trioflow.results import collect, count, first, join, last, reduce
from trioflow.selecting import changes, distinct, drop, drop_while, take, take_while
from trioflow.sinks import drain, for_each, to_channel, to_stream
from trioflow.sockets import connect_tcp, connect_tls, connect_unix, serve_tcp
from trioflow.sources import empty, failed, from_iterable, repeat, unfold
from trioflow.splitting import balance, broadcast, partition
from trioflow.stdio import stdin, stdout
from trioflow.text import decode, encode
from trioflow.timing import debounce, delay, keep_alive, sample, throttle, ticks, timeout
from trioflow.watching import monitor
from trioflow.zstd_brotli import brotli, unbrotli, unzstd, zstd

__all__ = [
    "ByteBuffer",
    "Duplex",
    "Readable",
    "ReceiveChannel",
    "SendChannel",
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
    "inflate",
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
    "monitor",
    "on_item_error",
    "open_channel",
    "pairwise",
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
    "stdin",
    "stdout",
    "switch_map",
    "take",
    "take_while",
    "tap",
    "throttle",
    "ticks",
    "timeout",
    "to_channel",
    "to_stream",
    "transform",
    "unbrotli",
    "unfold",
    "unzstd",
    "window",
    "writable",
    "write_file",
    "zip",
    "zip_latest",
    "zstd",
]
