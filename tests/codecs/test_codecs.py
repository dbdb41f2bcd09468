"""deflate, zstd and brotli, compared with their libraries: cut or damaged input and bombs are errors. See test_gzip."""

from __future__ import annotations

import random
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import brotli
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.consumers import Source
from tests.cutting import cut, places
from trioflow.codecs import zstd_brotli
from trioflow.codecs.unpacking import PIECE
from trioflow.codecs.zstd_brotli import BLOCK

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"one two three two one " * 20


class Codec(NamedTuple):
    pack: Callable[..., tf.Transform[bytes, bytes]]
    unpack: Callable[..., tf.Transform[bytes, bytes]]
    judge_packs: Callable[[bytes], bytes]
    judge_unpacks: Callable[[bytes], bytes]
    error: type[Exception]
    what: str  # where the input ends, when it is cut
    header: str


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def checked_zstd(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


CODECS = {
    "deflate": Codec(
        tf.deflate, tf.inflate, zlib.compress, zlib.decompress, zlib.error, "the zlib stream", "zlib header"
    ),
    "raw deflate": Codec(
        lambda **kwargs: tf.deflate(raw=True, **kwargs),
        lambda **kwargs: tf.inflate(raw=True, **kwargs),
        raw_deflate,
        lambda data: zlib.decompress(data, -15),
        zlib.error,
        "the zlib stream",
        "zlib header",
    ),
    "zstd": Codec(tf.zstd, tf.unzstd, checked_zstd, zstd.decompress, zstd.ZstdError, "zstd frame 1", "zstd header"),
    "brotli": Codec(
        tf.brotli,
        tf.unbrotli,
        lambda data: brotli.compress(data, quality=5),
        brotli.decompress,
        brotli.error,
        "the brotli stream",
        "brotli header",
    ),
}
PACKED = {name: codec.judge_packs(TEXT) for name, codec in CODECS.items()}
codecs = pytest.mark.parametrize("name", CODECS)


async def through(chunks: Any, *transforms: tf.Transform[Any, Any], capacity: float = 256) -> bytes:
    got: bytes = await tf.pipeline(Source(chunks).readable, *transforms, tf.join(), capacity=capacity)
    return got


@settings(max_examples=40)
@given(
    name=st.sampled_from([*CODECS]),
    size=st.integers(0, 300_000),
    is_noise=st.booleans(),
    places=places,
    capacity=st.sampled_from([1, 3, 256]),
)
async def test_any_chunking_gives_the_same_result_and_the_reference_library_agrees(
    name: str, size: int, is_noise: bool, places: list[int], capacity: int
) -> None:
    codec = CODECS[name]
    whole = random.Random(size).randbytes(size) if is_noise else (TEXT * (size // len(TEXT) + 1))[:size]

    packed = await through(cut(whole, places), codec.pack(), capacity=capacity)

    assert codec.judge_unpacks(packed) == whole
    assert await through(cut(packed, places), codec.unpack(), capacity=capacity) == whole
    assert await through(cut(codec.judge_packs(whole), places), codec.unpack(), capacity=capacity) == whole


@codecs
async def test_a_higher_level_compresses_better(name: str) -> None:
    data = "".join(f"{n} {n * n % 997}\n" for n in range(20_000)).encode()
    sizes = [len(await through([data], CODECS[name].pack(level=level))) for level in (1, 9)]

    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("module", ["zstd", "brotli"])
async def test_R16_R17_compression_does_not_block_the_event_loop_and_ends_with_a_cancelled_run(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, go_on, done = trio.Event(), threading.Event(), []

    def pack(data: bytes) -> bytes:
        trio.from_thread.run_sync(working.set)
        assert go_on.wait(60)  # only the event loop sets it, so the loop is not blocked
        done.append(len(data))
        return b"packed"

    monkeypatch.setattr(zstd_brotli, "_Packer", lambda *_: SimpleNamespace(pack=pack, finish=bytes))
    source = Source([bytes(BLOCK)], then=None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: source.readable.pipe(getattr(tf, module)()).pipe(tf.drain()))
        await working.wait()
        nursery.cancel_scope.cancel()
        go_on.set()

    assert done == [BLOCK]
    assert source.ended == 1


async def test_a_block_without_output_is_not_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        zstd_brotli, "_Packer", lambda *_: SimpleNamespace(pack=lambda data: b"", finish=lambda: b"end")
    )

    assert await tf.pipeline([bytes(BLOCK)] * 2, tf.zstd(), tf.collect()) == [b"end"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@codecs
async def test_chunks_may_be_of_any_bytes_like_type(name: str, kind: Any) -> None:
    codec, packed = CODECS[name], PACKED[name]

    assert await through([kind(TEXT)], codec.pack(), codec.unpack()) == TEXT
    assert await through([kind(packed[:15]), kind(packed[15:])], codec.unpack()) == TEXT


@codecs
async def test_R10_an_input_cut_off_anywhere_is_an_error(name: str) -> None:
    codec, packed = CODECS[name], PACKED[name]
    for stop in range(1, len(packed)):
        for chunks in ([packed[:stop]], cut(packed[:stop], [*range(0, stop, 3)])):
            with pytest.raises(EOFError, match=f"the input ends inside {codec.what}\n"):
                await through(chunks, codec.unpack())


@codecs
async def test_R10_an_empty_input_counts_as_cut_off(name: str) -> None:
    for chunks in ([], [b"", b""]):
        with pytest.raises(EOFError, match=f"the input is empty, not even a {CODECS[name].header}\n"):
            await through(chunks, CODECS[name].unpack())


NOT_BROTLI = "unbrotli: the input is not brotli, is damaged, or continues after its end"
HELLO = b"hello, this is no compressed input"


@pytest.mark.parametrize("places", [[], [1], [len(PACKED["zstd"])], [*range(200)]])
@pytest.mark.parametrize(
    ("name", "whole", "message"),
    [
        ("deflate", HELLO, "inflate: the input is not zlib"),
        ("deflate", PACKED["deflate"] + b"x", "inflate: garbage after the zlib stream"),
        ("deflate", PACKED["deflate"][:-4] + bytes(4), "inflate: the zlib stream is damaged: incorrect data check"),
        ("raw deflate", b"\xff" * 20, "inflate: the zlib stream is damaged: invalid block type"),
        ("raw deflate", PACKED["raw deflate"] + b"x", "inflate: garbage after the zlib stream"),
        ("zstd", HELLO, "unzstd: the input is not zstd"),
        ("zstd", PACKED["zstd"] * 2 + HELLO, "unzstd: garbage after zstd frame 2"),
        (
            "zstd",
            PACKED["zstd"] + PACKED["zstd"][:-4] + bytes(4),
            "unzstd: zstd frame 2 is damaged: Restored data doesn't match checksum",
        ),
        ("brotli", b"\xff" * 20, NOT_BROTLI),
        ("brotli", PACKED["brotli"] + b"x", NOT_BROTLI),
    ],
)
async def test_R10_invalid_input_is_an_error_at_once_in_any_chunking(
    name: str, whole: bytes, message: str, places: list[int]
) -> None:
    source = Source(cut(whole, places), then=None)

    with pytest.raises(CODECS[name].error, match=f"^{message}\n"):
        await source.readable.pipe(CODECS[name].unpack()).pipe(tf.drain())
    assert source.ended == 1


@settings(max_examples=100)
@given(name=st.sampled_from(["deflate", "zstd"]), at=st.integers(0, 1000), bit=st.integers(0, 7), places=places)
async def test_damaged_input_never_gives_wrong_output(name: str, at: int, bit: int, places: list[int]) -> None:
    # Raw deflate and brotli have no checksum, so damage can give wrong bytes there.
    codec, damaged = CODECS[name], bytearray(PACKED[name])
    damaged[at % len(damaged)] ^= 1 << bit

    try:
        got = await through(cut(bytes(damaged), places), codec.unpack(max_output=10**6))
    except (codec.error, EOFError, ValueError):
        return
    assert got == TEXT


async def test_consecutive_and_skippable_zstd_frames_give_one_output() -> None:
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    whole = PACKED["zstd"] + skippable + zstd.compress(b"") + PACKED["zstd"]

    for chunks in ([whole], cut(whole, [*range(len(whole))])):
        assert await through(chunks, tf.unzstd()) == TEXT * 2


@cache
def bomb(name: str, size: int) -> bytes:
    return CODECS[name].judge_packs(bytes(size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 2**20])
@codecs
async def test_R7_a_decompression_bomb_does_not_fill_the_memory(name: str, size: int) -> None:
    packed = bomb(name, 2**25)
    chunks = [packed[at : at + size] for at in range(0, len(packed), size)]
    tracemalloc.start()
    try:
        async with tf.from_iterable(chunks).pipe(CODECS[name].unpack()).open() as receive:
            await wait_all_tasks_blocked()
            held = receive.statistics().used
            count = 0
            async for piece in receive:
                assert len(piece) <= PIECE
                count += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 2**25
    assert held <= 256
    assert peak < 2**25 / 3


@pytest.mark.parametrize("over", [0, 1])
@codecs
async def test_R7_the_limit_of_output_is_exact_to_the_byte(name: str, over: int) -> None:
    unpack = CODECS[name].unpack(max_output=2**22 - over)
    unpacking = tf.from_iterable(bomb(name, 2**22)).pipe(unpack).pipe(tf.for_each(lambda piece: None))
    if over:
        with pytest.raises(ValueError, match=r"^un|^in.*: the output is longer than max_output, 4194303 bytes\n"):
            await unpacking
    else:
        await unpacking


@pytest.mark.parametrize("name", ["deflate", "inflate", "zstd", "unzstd", "brotli", "unbrotli"])
async def test_R11_a_chunk_that_is_not_bytes_raises_an_error_that_names_the_stage(name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"^{name} expects bytes, got str; pipe through tf\.encode\(\) first\n"
    ) as caught:
        await through(["text"], getattr(tf, name)())
    assert caught.value.__notes__ == [f"in stage 2 of 3: {name}()"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tf.deflate(level=10), ValueError, "level must be at most 9, got 10"),
        (lambda: tf.deflate(raw=1), TypeError, "raw must be a bool, got 1"),
        (lambda: tf.inflate(raw="no"), TypeError, "raw must be a bool, got 'no'"),
        (lambda: tf.inflate(max_output=0), ValueError, "max_output must be at least 1, got 0"),
        (lambda: tf.zstd(level=0), ValueError, "level must be at least 1, got 0"),
        (lambda: tf.zstd(level=23), ValueError, "level must be at most 22, got 23"),
        (lambda: tf.unzstd(max_output=1.5), TypeError, "max_output must be an int or math.inf, got 1.5"),
        (lambda: tf.brotli(level=12), ValueError, "level must be at most 11, got 12"),
        (lambda: tf.unbrotli(max_output=-1), ValueError, "max_output must be at least 1, got -1"),
    ],
)
def test_R1_a_wrong_argument_is_refused_when_the_value_is_built(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("zstd", zstd.__name__, "zstd"), ("unzstd", zstd.__name__, "zstd"), ("brotli", "brotli", "brotli")],
)
def test_the_error_for_a_missing_library_says_how_to_install_it(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ImportError) as caught:
        getattr(tf, name)()
    assert str(caught.value) == f"{name} needs {module}: pip install 'trioflow[{extra}]'"


def test_the_repr_of_a_stage_is_the_call_that_made_it() -> None:
    assert repr(tf.deflate(level=9, raw=True)) == "<Transform deflate(level=9, raw=True)>"
    assert repr(tf.inflate(max_output=10)) == "<Transform inflate(max_output=10)>"
    assert repr(tf.zstd(level=9).pipe(tf.unzstd())) == "<Transform zstd(level=9) | unzstd()>"
    assert repr(tf.brotli().pipe(tf.unbrotli(max_output=9))) == "<Transform brotli() | unbrotli(max_output=9)>"
