"""Forms: parts as they arrive, files of any length, and no input that causes more than a 4xx."""

from __future__ import annotations

import email.generator
import email.mime.multipart
import email.mime.text
import email.policy
import io
import math
import urllib.request
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.http.client import connected, exchanged, reset, serving
from trioflow import http
from trioflow.http import Part, Request, RequestError, Response
from trioflow.http.forms.multipart import Multipart, PartHead
from trioflow.http.forms.parameters import content_type

BOUNDARY = "----a b'(c)"
KIND = f'multipart/form-data; boundary="{BOUNDARY}"'


def part(disposition: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FORM = (
    part('name="title"', "Käse".encode())
    + part('name="picture"; filename="ä b.png"', bytes(range(256)) * 300, "Content-Type: image/png", "X-A: \t1")
    + part('name="empty"')
    + part('name="none"; filename=""', b"", "Content-Type: application/octet-stream")
    + END
)


def post(body: bytes, kind: str = KIND, *, chunk: int | None = None) -> list[bytes]:
    """Return a POST in pieces: the head, then the body, whole or in HTTP chunks."""
    framing = f"Content-Length: {len(body)}" if chunk is None else "Transfer-Encoding: chunked"
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{framing}\r\nConnection: close\r\n\r\n"
    if chunk is None:
        return [head.encode(), body]
    pieces = [body[i : i + chunk] for i in range(0, len(body), chunk)]
    return [head.encode(), b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"]


async def posted(
    take: Callable[[Request], Coroutine[Any, Any, Any]], body: bytes, kind: str = KIND, *, chunk: int | None = None
) -> Any:
    """Return the result of `take` for a request, or the status of the response if it failed."""
    got: list[Any] = []

    async def handler(request: Request, response: Response) -> None:
        got.append(await take(request))

    async with serving(handler) as port:
        with trio.fail_after(60):
            answer = await exchanged(port, *post(body, kind, chunk=chunk), half_close=False)
    status = int(answer.split(b" ")[1])
    return got[0] if status == 200 else status


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def all_of(request: Request, **limits: Any) -> list[tuple[str, str | None, bytes]]:
    found = []
    async with http.form(request, **limits).open() as parts:
        async for each in parts:
            found.append((each.name, each.filename, await each.body.pipe(tf.join())))
    return found


WHOLE = [
    ("title", None, "Käse".encode()),
    ("picture", "ä b.png", bytes(range(256)) * 300),
    ("empty", None, b""),
    ("none", "", b""),
]


@pytest.mark.parametrize("chunk", [None, 1000, 7])
async def test_a_form_is_read_part_by_part(chunk: int | None) -> None:
    assert await posted(all_of, FORM, chunk=chunk) == WHOLE


async def test_a_part_has_headers() -> None:
    async def take(request: Request) -> list[Part]:
        return await http.form(request).pipe(tf.collect())

    title, picture, *_ = await posted(take, FORM)

    assert (title.value, title.filename) == ("Käse", None)
    assert dict(picture.headers)["content-type"] == "image/png"
    assert picture.headers["x-a"] == "1"
    assert (repr(title), repr(picture)) == ("<Part 'title'>", "<Part 'picture', file 'ä b.png'>")
    with pytest.raises(TypeError, match="the part 'picture' is a file, so it has no value; read its body"):
        _ = picture.value
    with pytest.raises(RuntimeError, match="read-only"):
        picture.headers["x"] = "y"


async def test_R4_a_field_can_be_read_again_and_a_file_once() -> None:
    async def take(request: Request) -> list[bytes]:
        got = []
        async with http.form(request).open() as parts:
            title = await parts.receive()
            got += [await title.body.pipe(tf.join()) for _ in range(2)]
            picture = await parts.receive()
            got.append(await picture.body.pipe(tf.first()))
            with pytest.raises(trio.ClosedResourceError, match="can only run once"):
                await picture.body.pipe(tf.join())
        with pytest.raises(trio.ClosedResourceError, match="can only run once"):
            await request.body.pipe(tf.join())
        return got

    first, second, start = await posted(take, FORM)

    assert first == second == "Käse".encode()
    assert (bytes(range(256)) * 300).startswith(start)


async def test_a_file_that_is_not_read_is_skipped() -> None:
    async def take(request: Request) -> list[str]:
        parts = await http.form(request).pipe(tf.collect())
        with pytest.raises(trio.ClosedResourceError, match="the file 'picture' was skipped"):
            await parts[1].body.pipe(tf.join())
        return [each.name for each in parts]

    big = part('name="picture"; filename="a"', bytes(1 << 20))

    assert await posted(take, part('name="a"') + big + part('name="b"') + END) == ["a", "picture", "b"]


async def test_the_rest_of_a_file_that_is_left_early_is_skipped() -> None:
    async def take(request: Request) -> list[str]:
        names = []
        async with http.form(request).open() as parts:
            async for each in parts:
                names.append(each.name)
                async with each.body.open() as chunks:
                    await chunks.receive()
        return names

    big = part('name="big"; filename="a"', bytes(1 << 20))

    assert await posted(take, big + big + part('name="b"', b"x") + END) == ["big", "big", "b"]


async def test_R6_a_slow_reader_of_a_file_slows_the_form() -> None:
    """R6, R7: no more of a file is received than its reader has room for."""
    sizes: list[int] = []

    async def take(request: Request) -> int:
        async with http.form(request).open() as parts:
            picture = await parts.receive()
            async with picture.body.open(capacity=1) as chunks:
                await wait_all_tasks_blocked()
                sizes.append(request._exchange._wire.transport.counters.received)
                return sum([len(chunk) async for chunk in chunks])

    size = 1 << 22
    got = await posted(take, part('name="picture"; filename="a"', bytes(size)) + END)

    assert got == size
    assert sizes[0] < 1 << 20


async def test_R8_the_parts_after_a_file_wait_until_it_is_read() -> None:
    async def take(request: Request) -> list[Any]:
        seen: list[Any] = []
        async with http.form(request).open() as parts:
            picture = await parts.receive()
            await wait_all_tasks_blocked()
            seen.append(parts.statistics().used)
            seen.append(await picture.body.pipe(tf.join()))
            seen.append((await parts.receive()).name)
        return seen

    assert await posted(take, part('name="a"; filename="b"', b"12") + part('name="c"') + END) == [0, b"12", "c"]


async def test_files_are_saved_one_after_the_other(tmp_path: Path) -> None:
    async def take(request: Request) -> list[int]:
        async def save(each: Part) -> int:
            return await each.body.pipe(tf.write_file(tmp_path / each.name))

        return await http.form(request).pipe(tf.map(save)).pipe(tf.collect())

    files = [part(f'name="f{n}"; filename="x"', bytes([n]) * 100_000) for n in range(8)]

    assert await posted(take, b"".join(files) + END) == [100_000] * 8
    assert contents(tmp_path) == {f"f{n}": bytes([n]) * 100_000 for n in range(8)}


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"count": 3}, 413),
        ({"count": 4}, 200),
        ({"header_size": 20}, 413),
        ({"field_size": 4}, 413),
        ({"field_size": 5}, 200),
        ({"file_size": 76_799}, 413),
        ({"file_size": 76_800}, 200),
        ({"size": len(FORM) - 1}, 413),
        ({"size": len(FORM)}, 200),
    ],
)
async def test_R6_a_form_over_the_limits_is_answered_with_413(limits: dict[str, float], status: int) -> None:
    got = await posted(partial(all_of, **limits), FORM)

    assert got == (WHOLE if status == 200 else status)


async def test_fields_are_limited_together() -> None:
    form = b"".join(part(f'name="{n}"', bytes(100)) for n in range(11)) + END

    assert await posted(partial(all_of, field_size=1000), form) == 413


MALFORMED = {
    "no boundary at all": b"a=1",
    "nothing": b"",
    "something before the boundary in its line": b"hello" + FORM.partition(b"\r\n--")[0] + b"\r\n",
    "another boundary": FORM.replace(BOUNDARY.encode(), b"other"),
    "cut in a head": FORM[:60],
    "cut in a body": FORM[:5000],
    "cut before the last boundary": FORM[: -len(END)],
    "cut in the last boundary": FORM[:-4],
    "no disposition": f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\na\r\n".encode() + END,
    "another disposition": FORM.replace(b"form-data", b"attachment", 1),
    "a header without a colon": part("name=a", b"", "nonsense") + END,
    "a header twice": part("name=a", b"", "X-A: 1", "x-a: 2") + END,
    "a disposition twice": part("name=a", b"", "Content-Disposition: form-data; name=b") + END,
    "a control in a header": part("name=a", b"", "X-A: \x00") + END,
    "a line feed in a header": part("name=a", b"", "X-A: 1\nX-B: 2") + END,
    "line feeds alone": FORM.replace(b"\r\n", b"\n"),
    "junk after a boundary": FORM.replace(f"{BOUNDARY}\r\n".encode(), f"{BOUNDARY}junk\r\n".encode()),
    "junk after spaces after a boundary": FORM.replace(f"{BOUNDARY}\r\n".encode(), f"{BOUNDARY} \tx\r\n".encode()),
    "endless spaces after a boundary": FORM.replace(f"{BOUNDARY}\r\n".encode(), f"{BOUNDARY}{' ' * 300}\r\n".encode()),
    "a space before a colon": part("name=a", b"", "X-A : 1") + END,
    "a head that begins with a space": FORM.replace(b"Content-Disp", b" Content-Disp", 1),
    "no head": f"--{BOUNDARY}\r\n\r\na\r\n".encode() + END,
    "a length that is no number": part("name=a", b"", "Content-Length: +0") + END,
    "a length that is not met": part("name=a", b"123", "Content-Length: 4") + END,
    "a length that is exceeded": part("name=a; filename=b", b"123", "Content-Length: 2") + END,
}


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("name", MALFORMED)
async def test_R10_a_malformed_form_is_answered_with_400(
    name: str, chunk: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert await posted(all_of, MALFORMED[name], chunk=chunk and max(chunk, len(MALFORMED[name]) // 50)) == 400
    assert caplog.records == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("multipart/mixed; boundary=a", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ('multipart/form-data; boundary=""', 400),
        ("multipart/form-data; boundary=a; Boundary=b", 400),
        (f"multipart/form-data; boundary={'a' * 71}", 400),
        ('multipart/form-data; boundary="a ', 400),
        ("multipart/form-data; boundary=é", 400),
        ("form", 400),
        ("", 415),
    ],
)
async def test_a_body_that_is_not_a_form_is_refused(kind: str, status: int) -> None:
    assert await posted(all_of, FORM, kind) == status


def test_a_content_type_is_parsed() -> None:
    value = r'Multipart/Form-Data ; x="a;\"b"; ; boundary=----x=/:y;'

    assert content_type(value.replace("=/:", "/:")) == ("multipart/form-data", {"x": 'a;"b', "boundary": "----x/:y"})


@pytest.mark.parametrize("chunk", [None, 100, 2])
@pytest.mark.parametrize(
    "form",
    [
        FORM + b"\r\nepilogue" * 100,
        FORM.removesuffix(b"\r\n"),
        FORM.removesuffix(b"\r\n") + b" \t\r\n",
        b"This is a message in several parts.\r\n" + FORM,
        b"\r\n" * 100 + FORM,
        f"--{BOUNDARY}"[:-1].encode() + b"\r\n\r\r\n\n--" + FORM[:10] + b"\r\n" + FORM,
        FORM.replace(f"{BOUNDARY}\r\n".encode(), f"{BOUNDARY} \t\r\n".encode()),
        FORM.replace(f"{BOUNDARY}\r\n".encode(), f"{BOUNDARY}{' ' * 256}\r\n".encode()),
    ],
    ids=[
        "an epilogue", "no line end at its end", "padding at its end", "a preamble", "a preamble of empty lines",
        "a preamble of half boundaries", "padding", "long padding",
    ],
)  # fmt: skip
async def test_a_preamble_an_epilogue_and_padding_are_ignored(form: bytes, chunk: int | None) -> None:
    """RFC 2046, section 5.1.1."""
    assert await posted(all_of, form, chunk=chunk) == WHOLE


async def test_a_header_may_continue_on_the_next_line() -> None:
    async def take(request: Request) -> list[tuple[str, str]]:
        return [(each.name, each.headers["x-a"]) for each in await http.form(request).pipe(tf.collect())]

    form = part('name="a"', b"", "X-A: 1\r\n\t 2").replace(b'; name="a"', b';\r\n name="a"')

    assert await posted(take, form + END) == [("a", "1 2")]


async def test_an_empty_form_has_no_parts() -> None:
    assert await posted(all_of, END) == []


async def test_R11_the_failure_of_a_form_reaches_the_reader_of_a_file_as_one_failure() -> None:
    failures: list[BaseException] = []

    async def take(request: Request) -> None:
        try:
            async with http.form(request).open() as parts:
                picture = await parts.receive()
                try:
                    await picture.body.pipe(tf.drain())
                except RequestError as exc:
                    failures.append(exc)
                    raise
        except RequestError as exc:
            failures.append(exc)
            raise

    cut = part('name="picture"; filename="a"', bytes(500_000))
    assert await posted(take, cut) == 400
    assert failures[0] is failures[1]

    assert await posted(take, cut, chunk=1000) == 400


async def test_R13_a_file_that_was_cut_off_is_not_written(tmp_path: Path) -> None:
    async def take(request: Request) -> None:
        async def save(each: Part) -> None:
            await each.body.pipe(tf.write_file(tmp_path / "a"))

        await http.form(request).pipe(tf.for_each(save))

    assert await posted(take, part('name="a"; filename="a"', bytes(500_000))) == 400
    assert contents(tmp_path) == {}


async def test_R16_a_client_that_leaves_ends_the_form_and_the_file() -> None:
    ended = trio.Event()

    async def handler(request: Request, response: Response) -> None:
        try:
            async with http.form(request).open() as parts:
                await (await parts.receive()).body.pipe(tf.drain())
        finally:
            ended.set()

    async with serving(handler) as port, connected(port) as stream:
        head, _ = post(FORM)
        await stream.send_all(head + FORM[:5000])
        await wait_all_tasks_blocked()
        reset(stream)
        with trio.fail_after(60):
            await ended.wait()

        assert ended.is_set()


async def test_a_file_read_after_the_form_was_left_fails() -> None:
    async def take(request: Request) -> None:
        async with http.form(request).open() as parts:
            picture = await parts.receive()
        with pytest.raises(trio.BrokenResourceError, match="the form was not read to its end"):
            await picture.body.pipe(tf.drain())

    assert await posted(take, part('name="a"; filename="a"', bytes(500_000)) + END) is None


# Forms without I/O.


def test_an_empty_chunk_is_not_the_end() -> None:
    half = len(SMALL) // 2

    assert events_of([b"", SMALL[:half], b"", SMALL[half:], b""]) == events_of([SMALL])


def events_of(chunks: list[bytes], **limits: float) -> list[Any]:
    """Return the heads and joined bodies of these chunks, and the status with which they are refused."""
    parser = Multipart(BOUNDARY, codec="utf_8", **{"count": 4, "header_size": 200, **limits})
    found: list[Any] = []
    try:
        for chunk in chunks:
            for event in parser.feed(chunk):
                if isinstance(event, PartHead):
                    found.append([event.name, event.filename, dict(event.headers), b""])
                elif event is None:
                    found.append("end")
                else:
                    found[-1][-1] += event
        parser.end()
    except RequestError as exc:
        found.append(exc.status)
    return found


MUTATIONS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"-",
    b":",
    b'"',
    b"\0",
    b"\xff",
    f"--{BOUNDARY}".encode(),
    END,
    b"name=",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\r\n ",
    b"Content-Length: 1\r\n",
]
SMALL = part('name="a"', b"1\r\n--2\r\r\n") + part('name="b"; filename="c"', b"\r\n", "X: y") + END


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    form = draw(st.sampled_from([SMALL, b"\r\n" + SMALL, END, part("name=a", b"x", "Y: " + "z" * 150) + END]))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(form)))
        form = form[:at] + draw(st.sampled_from(MUTATIONS)) + form[at + draw(st.integers(0, 3)) :]
    return form


@settings(max_examples=300)
@given(mutated(), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_any_chunking_of_a_form_gives_the_same_parts(form: bytes, cuts: list[int], by_bytes: bool) -> None:
    at = sorted({0, len(form), *(min(cut, len(form)) for cut in cuts)})
    pieces = [form[a:b] for a, b in pairwise(at)]
    if by_bytes:
        pieces = [form[i : i + 1] for i in range(len(form))]

    whole, parts = events_of([form]), events_of(pieces)

    # If it fails, it does not matter how much of the last body has arrived, or which of two faults is reported.
    if whole[-1:] in ([400], [413]) and parts[-1:] in ([400], [413]):
        whole, parts = whole[:-2], parts[: len(whole[:-2])]
    assert parts == whole


@pytest.mark.parametrize("length", range(72, 88))
def test_the_limit_of_a_head_is_the_same_for_any_chunking(length: int) -> None:
    form = part("name=a", b"", "X: " + "y" * length) + END
    whole = events_of([form], header_size=120)

    assert whole[-1] == (413 if length > 79 else "end")
    assert events_of([form[i : i + 1] for i in range(len(form))], header_size=120) == whole


# Urlencoded forms.

URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"a=1&b=%C3%A4+%26&a=2", [("a", "1"), ("b", "ä &"), ("a", "2")]),
        (b"", []),
        (b"a&b=&=c", [("a", ""), ("b", ""), ("", "c")]),
        (b"a=%zz&b=1;c=2", [("a", "%zz"), ("b", "1;c=2")]),
        ("ä=ö".encode(), [("ä", "ö")]),
        (b"a=\xff", 400),
        (b"a=%FF", 400),
        (b"a=" + b"1" * 101, 413),
        (b"a&" * 11, 413),
    ],
)
async def test_a_urlencoded_form_has_fields(body: bytes, fields: Any, chunk: int | None) -> None:
    async def take(request: Request) -> list[tuple[str, str]]:
        parts = await http.form(request, count=10, field_size=101).pipe(tf.collect())
        assert all(each.filename is None and not each.headers for each in parts)
        return [(each.name, each.value) for each in parts]

    assert await posted(take, body, f"{URLENCODED}; charset=UTF-8", chunk=chunk) == fields


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=5))
async def test_a_urlencoded_form_is_decoded(fields: list[tuple[str, str]]) -> None:
    async def take(request: Request) -> list[tuple[str, str]]:
        return [(each.name, each.value) for each in await http.form(request).pipe(tf.collect())]

    body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields).encode()

    assert await posted(take, body, URLENCODED) == fields


async def test_a_field_that_is_not_utf_8_is_answered_with_400() -> None:
    async def take(request: Request) -> str:
        [field] = await http.form(request).pipe(tf.collect())
        return field.value

    assert await posted(take, part('name="a"', b"\xff") + END) == 400


@pytest.mark.parametrize("name", ["count", "header_size", "field_size", "file_size", "size"])
async def test_R1_a_wrong_limit_is_refused_at_once(name: str) -> None:
    async def take(request: Request) -> str:
        wrong: list[Any] = [0, 1.5, "5", math.nan]
        for value in wrong:
            with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
                http.form(request, **{name: value})
        form: Any = http.form
        with pytest.raises(TypeError, match="form: request must be a Request, got None"):
            form(None)
        return "seen"

    assert await posted(take, FORM) == "seen"


@pytest.mark.needs("curl")
async def test_curl_sends_a_form_with_a_file(tmp_path: Path) -> None:
    (tmp_path / 'a"b.txt').write_bytes(bytes(300_000))
    got: list[Any] = []

    async def handler(request: Request, response: Response) -> None:
        got.extend(await all_of(request))
        await response.send(b"thanks")

    async with serving(handler) as port:
        fields = ["-F", "a=1", "-F", f'f=@{tmp_path}/a"b.txt;type=text/x-a', "-F", "b=é"]
        fields[3] = f'f=@"{tmp_path}/a\\"b.txt";type=text/x-a'
        done = await trio.run_process(
            ["curl", "-sS", "-m", "60", *fields, f"http://127.0.0.1:{port}/"], capture_stdout=True
        )

    assert done.stdout == b"thanks"
    assert got == [("a", None, b"1"), ("f", 'a"b.txt', bytes(300_000)), ("b", None, "é".encode())]


async def test_a_form_with_a_preamble_written_by_pythons_email_package_is_read() -> None:
    message = email.mime.multipart.MIMEMultipart("form-data")
    message.preamble = "This is a message in several parts.\n"
    message.epilogue = "That was all.\n"
    for name, text in (("title", "Käse"), ("size", "12")):
        field = email.mime.text.MIMEText(text, "plain", "utf-8")
        field.replace_header("Content-Transfer-Encoding", "8bit")
        field.set_payload(text.encode().decode("ascii", "surrogateescape"))
        field.add_header("Content-Disposition", "form-data", name=name)
        message.attach(field)
    written = io.BytesIO()
    email.generator.BytesGenerator(written, policy=email.policy.HTTP).flatten(message)
    body = written.getvalue().partition(b"\r\n\r\n")[2]
    got: list[Any] = []

    async def handler(request: Request, response: Response) -> None:
        got.extend(await all_of(request))
        await response.send(b"thanks")

    def post(port: int) -> bytes:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}", body, {"Content-Type": message["Content-Type"]})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=60) as response:
            return bytes(response.read())

    async with serving(handler) as port:
        assert await trio.to_thread.run_sync(post, port) == b"thanks"

    assert body.startswith(b"This is a message")
    assert got == [("title", None, "Käse".encode()), ("size", None, b"12")]
