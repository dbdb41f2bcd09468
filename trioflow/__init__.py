"""Node.js streams for Trio: Readable, Writable, Duplex, Transform, `pipe` and `pipeline`."""

from trioflow._channel import ReceiveChannel, SendChannel, open_channel
from trioflow._decorators import readable, transform, writable
from trioflow._pipeline import pipeline
from trioflow._streams import Duplex, Readable, Transform, Writable
from trioflow.compression import gunzip, gzip
from trioflow.files import read_file, write_file
from trioflow.items import batch, drop, filter, flat_map, map, scan, take, tap
from trioflow.processes import process
from trioflow.sinks import collect, count, drain, first, for_each, join, reduce, to_channel, to_stream
from trioflow.sockets import connect_tcp, connect_unix, serve_tcp
from trioflow.sources import from_iterable
from trioflow.stdio import stdin, stdout
from trioflow.text import decode, encode, lines, split

__all__ = [
    "Duplex",
    "Readable",
    "ReceiveChannel",
    "SendChannel",
    "Transform",
    "Writable",
    "batch",
    "collect",
    "connect_tcp",
    "connect_unix",
    "count",
    "decode",
    "drain",
    "drop",
    "encode",
    "filter",
    "first",
    "flat_map",
    "for_each",
    "from_iterable",
    "gunzip",
    "gzip",
    "join",
    "lines",
    "map",
    "open_channel",
    "pipeline",
    "process",
    "read_file",
    "readable",
    "reduce",
    "scan",
    "serve_tcp",
    "split",
    "stdin",
    "stdout",
    "take",
    "tap",
    "to_channel",
    "to_stream",
    "transform",
    "writable",
    "write_file",
]
