"""The page for Node users has every name of Node's streams, and only names of ours that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trioflow as tf
from trioflow import http

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "port-a-node-pipeline.md").read_text(encoding="utf-8")
TABLES = PAGE[PAGE.index("## Every name") :]

# The public names of Node 20 and later versions, without those of every event emitter.
NODE = {
    "stream": """
        Readable Writable Duplex Transform PassThrough Stream pipeline finished compose duplexPair addAbortSignal
        getDefaultHighWaterMark setDefaultHighWaterMark isErrored isReadable isWritable isDisturbed isDestroyed destroy
        text buffer arrayBuffer bytes json blob signal""",
    "Readable": """
        from fromWeb toWeb wrap read push unshift setEncoding pause resume isPaused pipe unpipe destroy iterator
        destroyOnReturn asyncIterator asyncDispose compose map filter forEach toArray some find every flatMap drop take
        reduce asIndexedPairs concurrency readable readableAborted readableDidRead readableEncoding readableEnded
        readableFlowing readableHighWaterMark readableLength readableObjectMode destroyed closed errored close data end
        error _read _destroy construct highWaterMark objectMode emitClose autoDestroy""",
    "Writable": """
        write end cork uncork setDefaultEncoding destroy writable writableAborted writableEnded writableFinished
        writableHighWaterMark writableLength writableObjectMode writableCorked writableNeedDrain drain finish pipe unpipe
        _construct _write _writev _final decodeStrings defaultEncoding writev final""",
    "Duplex": """
        allowHalfOpen readableObjectMode writableObjectMode readableHighWaterMark writableHighWaterMark _transform _flush
        transform flush""",
    "fs": """
        createReadStream createWriteStream ReadStream WriteStream start encoding fd flags mode autoClose bytesRead
        bytesWritten path pending open ready readLines createInterface line crlfDelay stdin stdout stderr""",
    "zlib": """
        createGzip createGunzip createDeflate createInflate createDeflateRaw createInflateRaw createUnzip
        createBrotliCompress createBrotliDecompress createZstdCompress createZstdDecompress Gzip Gunzip level windowBits
        memLevel strategy dictionary params chunkSize maxOutputLength reset""",
    "http": """
        createServer Server IncomingMessage ServerResponse OutgoingMessage ClientRequest Agent request get headers
        headersDistinct rawHeaders trailers trailersDistinct complete aborted setTimeout statusCode statusMessage writeHead
        setHeader setHeaders appendHeader getHeader getHeaders getHeaderNames hasHeader removeHeader headersSent
        flushHeaders addTrailers writeContinue writeEarlyHints writeProcessing writeHeader closeAllConnections
        closeIdleConnections requestTimeout headersTimeout keepAliveTimeout maxHeadersCount maxRequestsPerSocket
        maxConnections maxHeaderSize METHODS STATUS_CODES globalAgent""",
}


def left_and_right() -> tuple[str, str]:
    rows = [line.split("|") for line in TABLES.splitlines() if line.startswith("| ") and line.count("|") == 3]
    return " ".join(row[1] for row in rows), " ".join(row[2] for row in rows)


@pytest.mark.parametrize("module", NODE)
def test_every_name_of_node_has_a_row(module: str) -> None:
    left, _ = left_and_right()

    assert [name for name in NODE[module].split() if not re.search(rf"(?<!\w){name}(?!\w)", left)] == []


def test_every_row_has_a_spelling_or_a_reason() -> None:
    rows = [line.split("|") for line in TABLES.splitlines() if line.startswith("| ") and "| --" not in line]

    assert len(rows) > 120
    assert [row for row in rows if len(row) != 4 or not row[1].strip() or not row[2].strip()] == []


def test_every_name_of_ours_on_the_page_exists() -> None:
    code = "".join(re.findall(r"```python[^\n]*\n(.*?)```", PAGE, re.DOTALL))
    _, right = left_and_right()

    assert set(re.findall(r"\btf\.(\w+)", PAGE)) - set(tf.__all__) == set()
    assert set(re.findall(r"\bhttp\.(?!md)(\w+)", code + right)) - set(http.__all__) == {"HTTPMethod", "HTTPStatus"}
