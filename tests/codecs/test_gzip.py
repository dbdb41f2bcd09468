"""gzip, compared with Python's own module and the `gzip` command: cut-off and damaged input and bombs are errors."""

from __future__ import annotations

import gzip as python_gzip
import os
import random
import subprocess
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from gzip import BadGzipFile
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Source
from tests.cutting import cut, in_twos, places
from trioflow.codecs import gzip as gzip_codec
from trioflow.codecs import parallel_deflate
from trioflow.codecs.parallel_deflate import BLOCK, Deflater
from trioflow.codecs.unpacking import PIECE, PORTION


@pytest.fixture(params=["zlib", "isal"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with only Python's zlib, and with the extra."""
    name: str = request.param
    if name == "zlib":
        for module in (gzip_codec, parallel_deflate):
            monkeypatch.setattr(module, "isal", lambda: None)
    else:
        pytest.importorskip("isal")
    return name


WITH_EITHER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # the library is the same for all examples

TEXT = b"one two three two one " * 20
MEMBER = python_gzip.compress(TEXT, mtime=0)


def packed(data: bytes, level: int = 6) -> bytes:
    """Return what `gzip` must make of `data`: a member whose header has no time."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


@cache
def bomb() -> bytes:
    """Return 64 KiB that inflate to 64 MiB."""
    return packed(bytes(2**26), level=9)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def in_parts(whole: bytes, size: int) -> list[bytes]:
    return [whole[i : i + size] for i in range(0, len(whole), size)]


async def command(*argv: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(60):
        return await trio.run_process(argv, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)


contents = st.one_of(st.binary(max_size=200), st.integers(0, 3 * PIECE).map(bytes), st.integers(0, 40_000).map(noise))


async def through(chunks: Iterable[Any], transform: tf.Transform[Any, bytes]) -> bytes:
    got: bytes = await tf.pipeline(chunks, transform, tf.join())
    return got


@settings(max_examples=50, suppress_health_check=WITH_EITHER)
@given(
    members=st.lists(st.tuples(contents, st.sampled_from([0, 1, 6, 9])), min_size=1, max_size=4),
    padding=st.integers(0, 50),
    places=places,
)
async def test_any_chunking_decompresses_to_the_same_bytes(
    members: list[tuple[bytes, int]], padding: int, places: list[int], library: str
) -> None:
    whole = b"".join(packed(data, level) for data, level in members) + bytes(padding)

    got = await tf.pipeline(cut(whole, places), tf.gunzip(), tf.collect())

    assert b"".join(got) == b"".join(data for data, _ in members) == python_gzip.decompress(whole)
    assert all(0 < len(piece) <= PIECE for piece in got)


@settings(max_examples=50)
@given(data=contents, places=places, level=st.integers(0, 9))
async def test_what_any_chunking_compresses_decompresses_to_the_same_bytes(
    data: bytes, places: list[int], level: int
) -> None:
    chunks = cut(data, places)

    whole = await through(chunks, tf.gzip(level=level))

    assert python_gzip.decompress(whole) == data
    assert await tf.from_iterable(chunks).pipe(tf.gzip(level=level)).pipe(tf.gunzip()).pipe(tf.join()) == data
    assert not any(whole[4:8])  # no time in the header, so the same chunks always give the same bytes
    assert whole == await through(chunks, tf.gzip(level=level))


@settings(max_examples=20, suppress_health_check=WITH_EITHER)
@given(
    size=st.integers(0, 6 * BLOCK),
    places=st.lists(st.integers(0, 6 * BLOCK), max_size=8),
    threads=st.integers(1, 5),
    kind=st.sampled_from([(tf.gzip, 31), (tf.deflate, 15), (lambda: tf.deflate(raw=True), -15)]),
)
async def test_blocks_compressed_in_parallel_are_one_stream_for_any_threads_and_chunks(
    size: int, places: list[int], threads: int, kind: tuple[Callable[[], tf.Transform[bytes, bytes]], int], library: str
) -> None:
    make, window = kind
    data = (TEXT + noise(100) + TEXT[::-1]) * (size // 900 + 1)
    data = data[:size]
    parallel_deflate._limiter.set(trio.CapacityLimiter(threads))

    whole = await through(cut(data, places), make())

    assert zlib.decompress(whole, window) == data
    assert whole == await through([data] if data else [], make())
    assert len(whole) <= len(packed(data)) * (1.05 if library == "zlib" else 1.3) + 20


@pytest.mark.parametrize("blocks", [1, 3])
async def test_R16_R17_compression_does_not_block_the_event_loop_and_ends_with_a_cancelled_run(
    blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, working, go_on = Deflater._deflate, trio.Event(), threading.Event()
    calls: list[str] = []

    def slow(self: Deflater, block: bytes, before: bytes, how: int) -> bytes:
        calls.append("begun")
        trio.from_thread.run_sync(working.set)
        assert go_on.wait(60)  # only the event loop sets it, so the loop is not blocked
        calls.append("over")
        return real(self, block, before, how)

    monkeypatch.setattr(Deflater, "_deflate", slow)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(through, [noise(blocks * BLOCK)], tf.gzip())
            await working.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                go_on.set()

    assert calls.count("begun") == calls.count("over") >= 1


async def test_a_higher_level_compresses_better(library: str) -> None:
    log = b"".join(b"%d GET /page/%d\n" % (n * n, n % 7) for n in range(3000))

    sizes = [len(await through([log], tf.gzip(level=level))) for level in (0, 1, 6, 9)]

    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    assert await through([log], tf.gzip()) == await through([log], tf.gzip(level=6))


@pytest.mark.needs("gzip")
@pytest.mark.parametrize("data", [b"", TEXT, noise(300_000), bytes(300_000)], ids=["nothing", "text", "noise", "zeros"])
async def test_the_gzip_command_and_trioflow_read_each_others_output(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(data)

    await tf.pipeline(tf.read_file(tmp_path / "in", chunk_size=70_000), tf.gzip(), tf.write_file(tmp_path / "ours.gz"))
    theirs = await command("gzip", "-c", stdin=data)
    (tmp_path / "theirs.gz").write_bytes(theirs.stdout)
    await tf.pipeline(tf.read_file(tmp_path / "theirs.gz"), tf.gunzip(), tf.write_file(tmp_path / "out"))

    read = await command("gzip", "-dc", stdin=(tmp_path / "ours.gz").read_bytes())
    assert read.stdout == data
    assert (tmp_path / "out").read_bytes() == data


@pytest.mark.needs("gzip")
@pytest.mark.parametrize(
    ("whole", "is_whole"),
    [
        (MEMBER, True),
        (MEMBER + MEMBER, True),
        (MEMBER + bytes(1000), True),
        (b"", False),
        (MEMBER[:-1], False),
        (MEMBER + MEMBER[:30], False),
        (MEMBER + b"garbage", False),
        (b"garbage", False),
        (bytes(100), False),
        (MEMBER[:-8] + b"damaged!", False),
    ],
    ids=["one", "two", "padded", "nothing", "cut", "cut behind one", "garbage behind", "garbage", "zeros", "damaged"],
)  # fmt: skip
async def test_trioflow_accepts_as_complete_what_the_gzip_command_accepts(
    whole: bytes, is_whole: bool, library: str
) -> None:
    theirs = await command("gzip", "-dc", stdin=whole)

    assert (theirs.returncode == 0) is is_whole
    if is_whole:
        assert await through([whole], tf.gunzip()) == theirs.stdout
    else:
        with pytest.raises((EOFError, BadGzipFile)):
            await through([whole], tf.gunzip())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_chunks_may_be_of_any_bytes_like_type(kind: Callable[[bytes], Any]) -> None:
    assert await through([kind(TEXT)], tf.gzip(library="zlib")) == packed(TEXT)
    assert await through([kind(MEMBER[:40]), kind(MEMBER[40:])], tf.gunzip()) == TEXT


async def test_R10_a_member_cut_off_anywhere_is_an_error(library: str) -> None:
    for stop in range(len(MEMBER)):
        with pytest.raises(EOFError) as alone:
            await through([MEMBER[:stop]], tf.gunzip())
        assert alone.value.__notes__ == ["in stage 2 of 3: gunzip()"], stop

        if stop:
            with pytest.raises(EOFError, match=r"^gunzip: the input ends inside gzip member 2\n"):
                await through([MEMBER + MEMBER[:stop]], tf.gunzip())


async def test_R10_an_empty_input_counts_as_a_cut_off_member() -> None:
    with pytest.raises(EOFError, match=r"^gunzip: the input is empty, not even a gzip header\n"):
        await through([], tf.gunzip())
    with pytest.raises(EOFError, match="is empty"):
        await through([b"", b""], tf.gunzip())


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (b"hello", "gunzip: the input is not gzip"),
        (bytes(20), "gunzip: the input is not gzip"),
        (b"\x1f\x8a" + MEMBER[2:], "gunzip: the input is not gzip"),
        (zlib.compress(TEXT), "gunzip: the input is not gzip"),
        (MEMBER + b"x", "gunzip: garbage after gzip member 1"),
        (MEMBER + MEMBER + b"\x1fx", "gunzip: garbage after gzip member 2"),
        (MEMBER + bytes(30) + b"x", "gunzip: garbage after gzip member 1"),
        (MEMBER[:-8] + bytes(8), "gunzip: gzip member 1 is damaged: incorrect data check"),
        (MEMBER + MEMBER[:-4] + bytes(4), "gunzip: gzip member 2 is damaged: incorrect length check"),
        (MEMBER[:2] + b"\t" + MEMBER[3:], "gunzip: gzip member 1 is damaged: unknown compression method"),
        (MEMBER[:3] + b"\xe0" + MEMBER[4:], "gunzip: gzip member 1 is damaged: unknown header flags set"),
        (MEMBER[:10] + b"\xff" + MEMBER[11:], "gunzip: gzip member 1 is damaged: invalid block type"),
    ],
)
async def test_R10_input_that_is_not_gzip_is_an_error_at_once(
    whole: bytes, message: str, size: int, library: str
) -> None:
    if library == "isal":  # zlib-ng has one error for both
        message = message.replace("incorrect length check", "incorrect data check")
    source = Source(in_parts(whole, size), then=None)

    with pytest.raises(BadGzipFile, match=f"^{message}\n") as caught, trio.fail_after(60):
        await source.readable.pipe(tf.gunzip()).pipe(tf.drain())

    assert caught.value.__notes__ == ["in stage 2 of 3: gunzip()"]
    assert source.ended == 1


@settings(max_examples=100, suppress_health_check=WITH_EITHER)
@given(at=st.integers(0, len(MEMBER) - 1), bit=st.integers(0, 7), places=places)
async def test_damaged_input_never_gives_wrong_output(at: int, bit: int, places: list[int], library: str) -> None:
    damaged = bytearray(MEMBER)
    damaged[at] ^= 1 << bit

    try:
        got = await through(cut(bytes(damaged), places), tf.gunzip())
    except (BadGzipFile, EOFError):
        return
    assert got == TEXT  # damage to the header, such as its time, may leave the data intact


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, PORTION, 2**20])
async def test_R7_a_decompression_bomb_does_not_fill_the_memory(size: int, library: str) -> None:
    chunks = in_parts(bomb(), size)
    tracemalloc.start()
    try:
        async with tf.from_iterable(chunks).pipe(tf.gunzip()).open() as receive:
            piece = await receive.receive()
            await wait_all_tasks_blocked()
            held = receive.statistics().used
            count = len(piece)
            async for piece in receive:
                assert len(piece) <= PIECE
                count += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 2**26
    assert held <= 256
    assert peak < 2**26 / 3  # as documented: 256 pieces in the stage's hand, and what the channel holds


async def test_R9_a_decompression_bomb_is_inflated_only_as_far_as_it_is_read() -> None:
    given: list[int] = []

    first = await (
        tf.from_iterable(bomb()).pipe(tf.gunzip()).pipe(tf.tap(lambda piece: given.append(len(piece)))).pipe(tf.first())
    )

    assert first == bytes(len(first))
    assert sum(given) <= 2**24 < 2**26


@pytest.mark.parametrize("size", [100, 2**20])
async def test_R7_output_over_its_limit_is_refused(size: int, library: str) -> None:
    chunks = in_parts(bomb(), size)

    with pytest.raises(ValueError, match=r"^gunzip: the output is longer than max_output, 1000000 bytes\n") as caught:
        await tf.from_iterable(chunks).pipe(tf.gunzip(max_output=10**6)).pipe(tf.drain())

    assert caught.value.__notes__ == ["in stage 2 of 3: gunzip(max_output=1000000)"]


@settings(max_examples=30)
@given(size=st.integers(0, 3 * PIECE), over=st.sampled_from([0, 1]), places=places)
async def test_the_limit_of_output_is_exact_to_the_byte_across_members(size: int, over: int, places: list[int]) -> None:
    whole = packed(bytes(size)) + packed(b"ab")
    limited = tf.gunzip(max_output=size + 2 - over)

    if over:
        with pytest.raises(ValueError, match="longer than max_output"):
            await through(cut(whole, places), limited)
    else:
        assert await through(cut(whole, places), limited) == bytes(size) + b"ab"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.gzip(level=-1), ValueError, "level must be at least 0, got -1"),
        (lambda: tf.gzip(level=10), ValueError, "level must be at most 9, got 10"),
        (lambda: tf.gzip(level=True), TypeError, "level must be an int, got True"),
        (lambda: tf.gzip(library="isal"), ValueError, "gzip: library must be 'fastest' or 'zlib', got 'isal'"),
        (lambda: tf.deflate(library=None), ValueError, "deflate: library must be 'fastest' or 'zlib', got None"),
        (lambda: tf.gzip(level="6"), TypeError, "level must be an int, got '6'"),
        (lambda: tf.gunzip(max_output=0), ValueError, "max_output must be at least 1, got 0"),
        (lambda: tf.gunzip(max_output=-1), ValueError, "max_output must be at least 1, got -1"),
        (lambda: tf.gunzip(max_output=1.5), TypeError, "max_output must be an int or math.inf, got 1.5"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("name", ["gzip", "gunzip"])
@pytest.mark.parametrize(("wrong", "kind"), [("text", "str"), (None, "NoneType"), ([1], "list")])
async def test_R11_a_chunk_that_is_not_bytes_raises_an_error_that_names_the_stage(
    name: str, wrong: Any, kind: str
) -> None:
    source = Source([wrong], then=None)

    with (
        pytest.raises(
            TypeError, match=rf"^{name} expects bytes, got {kind}(; pipe through tf\.encode\(\) first)?\n"
        ) as caught,
        trio.fail_after(60),
    ):
        await source.readable.pipe(getattr(tf, name)()).pipe(tf.drain())

    assert caught.value.__notes__ == [f"in stage 2 of 3: {name}()"]
    assert source.ended == 1


@pytest.mark.parametrize("level", range(10))
async def test_zlib_can_be_chosen_for_reproducible_bytes(level: int) -> None:
    assert await through([TEXT], tf.gzip(level=level, library="zlib")) == packed(TEXT, level)
    assert await through([TEXT], tf.deflate(level=level, library="zlib")) == zlib.compress(TEXT, level)


async def test_R13_a_cut_off_member_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(EOFError):
        await tf.pipeline([packed(noise(300_000))[:-1]], tf.gunzip(), tf.write_file(tmp_path / "out"))

    assert os.listdir(tmp_path) == []


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.gzip()) == "<Transform gzip()>"
    assert repr(tf.gzip(level=9)) == "<Transform gzip(level=9)>"
    assert repr(tf.gunzip()) == "<Transform gunzip()>"
    assert repr(tf.gunzip(max_output=10)) == "<Transform gunzip(max_output=10)>"


THREE = zlib.compress(b"abc", wbits=31)


@pytest.mark.parametrize("data", [THREE + bytes(9) + THREE + bytes(600), THREE + bytes(9) + THREE])
async def test_zeros_between_members_are_skipped_as_pythons_gzip_does(data: bytes) -> None:
    for chunks in ([data], in_twos(data)):
        assert (
            await tf.from_iterable(chunks).pipe(tf.gunzip()).pipe(tf.join())
            == python_gzip.decompress(data)
            == b"abcabc"
        )


@pytest.mark.parametrize("garbage", [b"\0x", b"x"])
async def test_garbage_after_zeros_is_refused(garbage: bytes) -> None:
    with pytest.raises(BadGzipFile, match="garbage after gzip member 1"):
        await tf.from_iterable([THREE, bytes(9), garbage]).pipe(tf.gunzip()).pipe(tf.join())


async def test_a_preset_dictionary_can_be_given_and_its_absence_is_an_error() -> None:
    packer = zlib.compressobj(zdict=b"hello world")
    data = packer.compress(b"hello world, hello") + packer.flush()

    def inflated(**options: Any) -> Any:
        return tf.from_iterable(in_twos(data)).pipe(tf.inflate(**options)).pipe(tf.join())

    assert await inflated(dictionary=b"hello world") == b"hello world, hello"
    with pytest.raises(zlib.error, match="needs a preset dictionary; pass it as dictionary="):
        await inflated()
    with pytest.raises(zlib.error, match="made with a different dictionary"):
        await inflated(dictionary=b"other")
    with pytest.raises(TypeError, match="inflate: dictionary must be bytes, got str"):
        tf.inflate(dictionary="hello")  # type: ignore[arg-type]


async def test_a_live_stream_can_be_read_up_to_what_has_arrived(library: str) -> None:
    send, receive = tf.open_channel[bytes]()
    reader = zlib.decompressobj(wbits=31)
    async with tf.from_iterable(receive).pipe(tf.gzip(flush=True)).open() as packed:
        for text in (b"one\n", b"two\n", b"three\n"):
            await send.send(text)
            assert reader.decompress(await packed.receive()) == text
        send.close()
        assert reader.decompress(b"".join([chunk async for chunk in packed])) == b""
    assert reader.eof


@given(chunks=st.lists(st.binary(max_size=300_000), max_size=5))
@settings(max_examples=20)
def test_flushed_chunks_are_one_member_with_everything(chunks: list[bytes]) -> None:
    async def main() -> bytes:
        joined: bytes = await tf.from_iterable(chunks).pipe(tf.gzip(flush=True)).pipe(tf.join())
        return joined

    assert python_gzip.decompress(trio.run(main)) == b"".join(chunks)
