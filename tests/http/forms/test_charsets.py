"""Text that is not UTF-8 and names that are not ASCII, from real clients and byte by byte."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from typing import Any

import pytest
import trio
from playwright.sync_api import sync_playwright

import trioflow as tf
from tests.http.client import ran, serving
from tests.http.forms.test_forms import END, KIND, URLENCODED, part, posted
from trioflow import http
from trioflow.http import Request, RequestError, Response
from trioflow.http.forms.charsets import codec_of

NAIVE = "naïve €".encode("cp1252")


async def fields_of(request: Request, **options: Any) -> list[tuple[str, str | None, str]]:
    """Return the names and texts of a form; files as Latin-1."""
    found = []
    async with http.form(request, **options).open() as parts:
        async for each in parts:
            text = each.value if each.filename is None else (await each.body.pipe(tf.join())).decode("latin-1")
            found.append((each.name, each.filename, text))
    return found


async def refusal(request: Request, **options: Any) -> str:
    """Return the error with which a form is refused."""
    with pytest.raises(RequestError) as caught:
        await fields_of(request, **options)
    assert caught.value.status == 400
    return str(caught.value)


# The charset of a text.

CHARSET = part('name="_charset_"', b"windows-1252")


@pytest.mark.parametrize(
    ("body", "encoding", "text"),
    [
        (part('name="a"', NAIVE, "Content-Type: text/plain; charset=windows-1252"), "utf-8", "naïve €"),
        (part('name="a"', NAIVE, 'Content-Type: text/plain;charset="WINDOWS-1252"'), "utf-8", "naïve €"),
        (part('name="a"', "日本".encode("shift_jis"), "Content-Type: text/plain; charset=Shift_JIS"), "utf-8", "日本"),
        (CHARSET + part('name="a"', NAIVE), "utf-8", "naïve €"),
        (part('name="a"', NAIVE), "windows-1252", "naïve €"),
        (part('name="a"', "naïve €".encode(), "Content-Type: text/plain; charset=utf-8"), "cp1252", "naïve €"),
        (CHARSET + part('name="a"', "é".encode(), "Content-Type: text/plain; charset=utf-8"), "utf-8", "é"),
        (part('name="_charset_"', b"UTF-8") + part('name="a"', "é".encode()), "windows-1252", "é"),
        (part('name="_charset_"') + part('name="a"', "é".encode()), "utf-8", "é"),
        (part('name="_charset_"; filename="x"', b"koi8-r") + part('name="a"', "é".encode()), "utf-8", "é"),
        (part('name="a"', b"plain", "Content-Type: text/plain"), "utf-8", "plain"),
        # A short text in GBK can also be valid UTF-8, so nothing is guessed.
        (part('name="a"', "模".encode("gbk")), "gbk", "模"),
    ],
)
async def test_text_is_decoded_with_the_charset_of_its_part_the_form_or_the_caller(
    body: bytes, encoding: str, text: str
) -> None:
    got = await posted(partial(fields_of, encoding=encoding), body + END)

    assert got[-1] == ("a", None, text)


async def test_the_charset_of_a_form_applies_to_names_and_later_fields() -> None:
    named = part('name="naïve"', b"1").decode().encode("cp1252")
    file = part('name="b"; filename="naïve.txt"', NAIVE).replace("naïve".encode(), "naïve".encode("cp1252"))
    body = part('name="a"', "é".encode()) + CHARSET + named + file + END

    assert await posted(fields_of, body) == [
        ("a", None, "é"),
        ("_charset_", None, "windows-1252"),
        ("naïve", None, "1"),
        ("b", "naïve.txt", NAIVE.decode("latin-1")),
    ]


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "fields"),
    [
        (b"n%EFve=%80", URLENCODED, "windows-1252", [("nïve", "€")]),
        (b"n\xefve=\x80", URLENCODED, "windows-1252", [("nïve", "€")]),
        (b"a=%80", f"{URLENCODED}; charset=windows-1252", "utf-8", [("a", "€")]),
        (b"_charset_=windows-1252&a=%80", URLENCODED, "utf-8", [("_charset_", "windows-1252"), ("a", "€")]),
        (b"_charset_=&a=%C3%A9", URLENCODED, "utf-8", [("_charset_", ""), ("a", "é")]),
        (b"a=%C3%A9", f"{URLENCODED}; charset=UTF-8", "windows-1252", [("a", "é")]),
    ],
)
async def test_a_urlencoded_form_has_a_charset_too(
    body: bytes, kind: str, encoding: str, fields: list[tuple[str, str]]
) -> None:
    got = await posted(partial(fields_of, encoding=encoding), body, kind)

    assert [(name, text) for name, _, text in got] == fields


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (part('name="title"', b"na\xefve") + END, KIND, "the field 'title' is not utf_8: byte 0xef at position 2; "),
        (b"title=na%EFve", URLENCODED, "the field 'title' is not utf_8: byte 0xef at position 2; "),
        (b"t%EFtle=", URLENCODED, "the name of a field is not utf_8: byte 0xef at position 1; "),
        (
            part('name="?"').replace(b"?", b"t\xef") + END,
            KIND,
            "the name of a part is not utf_8: byte 0xef at position 1; ",
        ),
        (
            part('name="a"; filename="?"').replace(b"?", b"\xef") + END,
            KIND,
            "the filename of a part is not utf_8: byte 0xef",
        ),
        (CHARSET + part('name="a"', b"\x81") + END, KIND, "the field 'a' is not cp1252: byte 0x81 at position 0; "),
        (part('name="_charset_"', b"x-none") + END, KIND, "the form uses the unknown charset 'x-none'"),
        (
            part('name="a"', b"", "Content-Type: text/plain; charset=idna") + END,
            KIND,
            "the unknown charset 'idna'",
        ),
        (part('name="a"', b"", "Content-Type: a; charset") + END, KIND, "malformed content type"),
        (END, KIND + "; charset=rot13", "the unknown charset 'rot13'"),
    ],
)
async def test_the_error_names_the_field_and_the_byte(body: bytes, kind: str, says: str) -> None:
    assert says in await posted(refusal, body, kind)


async def test_a_form_in_another_charset_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert await posted(fields_of, part('name="title"', b"na\xefve") + END) == 400

    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(
        "POST '/' was refused: the field 'title' is not utf_8: byte 0xef at position 2; put <meta charset="
    )


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("UTF-8", "utf_8"),
        (" utf8", "utf_8"),
        ("windows-1252", "cp1252"),
        ("ISO-8859-1", "latin_1"),
        ("iso-8859-15", "iso8859_15"),
        ("us-ascii", "ascii"),
        ("GB18030", "gb18030"),
        ("EUC-JP", "euc_jp"),
        ("KOI8-R", "koi8_r"),
        ("big5", "big5"),
        ("ISO-2022-JP", "iso2022_jp"),
        ("macintosh", "mac_roman"),
        ("Shift_JIS", "shift_jis"),
        ("utf-16", None),
        ("utf-7", None),
        ("idna", None),
        ("punycode", None),
        ("unicode_escape", None),
        ("base64", None),
        ("x" * 9000, None),
        ("", None),
        ("é", None),
    ],
)
def test_only_charsets_that_browsers_send_are_accepted(charset: str, codec: str | None) -> None:
    assert codec_of(charset) == codec
    if codec is not None:
        assert "plain".encode(codec) == b"plain"


async def test_R1_a_wrong_encoding_is_refused_at_once() -> None:
    async def take(request: Request) -> str:
        with pytest.raises(ValueError, match=r"form: encoding must be a charset such as .* got 'rot13'"):
            http.form(request, encoding="rot13")
        wrong: Any = None
        with pytest.raises(TypeError, match="form: encoding must be a str, got None"):
            http.form(request, encoding=wrong)
        return "seen"

    assert await posted(take, END) == "seen"


# Names.


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        ("name*=utf-8''na%C3%AFve", "naïve", None),
        ("name*=UTF-8'en'na%C3%AFve", "naïve", None),
        ("name*=iso-8859-1''na%EFve", "naïve", None),
        ("name=a; filename*=utf-8''%E2%82%AC.txt", "a", "€.txt"),
        ('name="a"; filename="x.txt"; filename*=utf-8\'\'%E2%82%AC.txt', "a", "€.txt"),
        ('name="a"; filename*=""', None, None),
        ("name*=utf-8''a; name=b", "a", None),
        ("filename*=utf-8''x", None, None),
        ("filename=x", None, None),
        ("", None, None),
        ('name=""', "", None),
        ('name=""; filename="x"', "", "x"),
        ("name*=na%C3%AFve", None, None),
        ("name*=utf-8''na%C3%AFv%", None, None),
        ("name*=utf-8''na%EFve", None, None),
        ("name*=x-none''a", None, None),
        ("name*0=a; name*1=b", None, None),
        ("name=a; filename*0=b", None, None),
        ("name=a; filename*0*=utf-8''b", None, None),
        ("name=a; name=b", None, None),
        ("name=a; NAME=b", None, None),
        ('name="a', None, None),
        ("name=a b", None, None),
        ('name="a"b"', None, None),
        ('name="a%22%0D%0Ab"', 'a"\r\nb', None),
        ('name="a\\"b"; filename="c\\\\\\"d"', 'a"b', 'c\\"d'),
        ('name="back\\"; filename="x"', "back\\", "x"),
        ('filename="x%22"; name=a', "a", 'x"'),
        ("name=a;;", "a", None),
        ("\tname=a", "a", None),
    ],
)
async def test_a_part_without_a_valid_name_is_refused(disposition: str, name: str | None, filename: str | None) -> None:
    async def take(request: Request) -> list[tuple[str, str | None]]:
        return [(each.name, each.filename) for each in await http.form(request).pipe(tf.collect())]

    assert await posted(take, part(disposition) + END) == (400 if name is None else [(name, filename)])


# Real clients.

AIOHTTP = """
import asyncio, sys
import aiohttp

async def main(url):
    form = aiohttp.FormData(charset="utf-8")
    form.add_field("naïve", "ü")
    form.add_field("picture", b"\\x00", filename="b.png", content_type="image/png")
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=form) as response:
            print(await response.text())

asyncio.run(main(*sys.argv[1:]))
"""


async def told(request: Request, response: Response) -> None:
    await response.send(json.dumps(await fields_of(request)).encode())


async def test_aiohttp_sends_names_that_are_not_ascii() -> None:
    async with serving(told) as port:
        # Without -O, an assertion of aiohttp itself fails on `name*=`.
        got = json.loads(await ran(sys.executable, "-O", "-c", AIOHTTP, f"http://127.0.0.1:{port}"))

    assert got == [["naïve", None, "ü"], ["picture", "b.png", "\0"]]


def submit_in_chromium(url: str) -> list[str]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        try:
            page = browser.new_page()
            shown = []
            for kind in ("multipart/form-data", URLENCODED):
                for charset in ("", "_charset_", "encoding"):
                    page.goto(f"{url}/?kind={kind}&charset={charset}")
                    page.fill("#text", "naïve")
                    page.click("button")
                    shown.append(page.inner_text("body"))
            return shown
        finally:
            browser.close()


@pytest.mark.slow
@pytest.mark.needs("chromium")
async def test_chromium_sends_a_form_of_a_page_without_a_charset(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request, response: Response) -> None:
        response.headers["content-type"] = "text/html"
        if request.method == "GET":
            asked = dict(pair.split("=") for pair in request.query.split("&")) if request.query else {}
            kind, charset = asked.get("kind", ""), asked.get("charset", "")
            hidden = "<input type=hidden name=_charset_>" if charset == "_charset_" else ""
            form = f'<form method=post action="/{charset}" enctype="{kind}">{hidden}<input name=text id=text><button>Send</button></form>'
            await response.send(form.encode())
            return
        options = {"encoding": "windows-1252"} if request.path == "/encoding" else {}
        try:
            *_, (_, _, text) = await fields_of(request, **options)
        except RequestError as exc:
            response.status, text = exc.status, str(exc).replace("<", "&lt;")
        await response.send(text.encode("cp1252"))

    async with serving(handler) as port:
        shown = await trio.to_thread.run_sync(submit_in_chromium, f"http://127.0.0.1:{port}")

    assert [text.partition(";")[0] for text in shown] == [
        "the field 'text' is not utf_8: byte 0xef at position 2", "naïve", "naïve",
    ] * 2  # fmt: skip
    assert caplog.records == []  # the handler has handled the error
