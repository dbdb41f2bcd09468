"""Serves a directory's files over HTTP.

Rule 1: a path is split into names, which are looked up beneath the root. Nothing leads out of it, not even a link,
    unless an option allows it.
Rule 2: a file is opened once. Its size, date, type and bytes are those of the open file.
Rule 3: files that are not regular get 404. So do names that begin with a dot, unless an option allows them; only
    `.well-known` at the top is always served.
Rule 4: the event loop never waits for the disk: what the kernel has not cached is opened in a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import trio

from trioflow.codecs.gzip import gzip
from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http._service import Handler
from trioflow.http.file_server.cache import LARGEST, FileCache, Key, is_at_rest
from trioflow.http.file_server.cors import checked_origins
from trioflow.http.file_server.encodings import SUFFIXES, accepted
from trioflow.http.file_server.listing import POLICY, View, read_entries, render, sort_entries
from trioflow.http.file_server.lookup import OpenFile, RootDirectory
from trioflow.http.file_server.respond import (
    LEVEL,
    File,
    add_cors_fields,
    describe,
    redirect,
    refuse,
    respond,
    send_missing_page,
    status_of,
)
from trioflow.http.file_server.types import (
    BEGINNING,
    TEXT,
    begins_as_text,
    content_type,
    is_compressible,
    is_text,
    may_be_text,
    type_table,
)
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.response_writer import accepts_html
from trioflow.io.page_cache import read_cached
from trioflow.operators.sources import from_iterable

_METHODS: Final = ("GET", "HEAD")
_WELL_KNOWN: Final = ".well-known"  # certificates, security.txt, app links: always meant to be public (RFC 8615)
_WORTH_COMPRESSING: Final = 1024  # bytes: a smaller file fits in one packet anyway


def files(
    root: str | os.PathLike[str],
    *,
    prefix: str = "/",
    index: str = "index.html",
    listing: bool = False,
    hidden: bool = False,
    follow_symlinks: bool = False,
    precompressed: Iterable[str] = ("br", "zstd", "gzip"),
    cache_control: str | None = None,
    cors: str | Iterable[str] | None = None,
    compress: bool = False,
    not_found: str | None = None,
    clean_urls: bool = False,
    spa: bool = False,
) -> Handler:
    """Return a handler that serves a directory's files. Pass it to `serve`, or call it from a handler of your own.

    It serves GET and HEAD, with ranges and conditional requests (RFC 9110). A directory is redirected to its path with
    a slash at the end, where its `index` is served. Four things get 404: names that begin with a dot, except
    `.well-known` at the top; anything that is neither a file nor a directory; symbolic links that lead out of `root`;
    and paths with an encoded slash. Headers that the response already has, such as Cache-Control, are kept.

    A file of up to 64 KiB that has not changed for two seconds is cached for 0.1 seconds, so a change is visible after
    that time. Everything else is looked up for each request.

    Waits when: the client does not read; a thread waits for the disk.
    On cancel: the file is closed, and the connection reset.
    Holds: a cache of 4 MiB of small files, one descriptor for each response, and nothing of a file over 64 KiB.

    Args:
        root: The directory. If it is a symbolic link, it is resolved for each request.
        prefix: The path at which the directory is served, such as `"/static/"`; paths outside it get 404.
        index: The name of the file that is served for a directory.
        listing: For a directory without an `index`, serve a list of its contents, which can be sorted by name, size and
            date and filtered by name.
        hidden: Also serve names that begin with a dot.
        follow_symlinks: Also follow symbolic links that lead out of `root`.
        precompressed: The codings of precompressed variants to look for, in order of preference. `a.css.br`,
            `a.css.zst` or `a.css.gz` is sent for `a.css` to a client that accepts it, if it is not older than `a.css`.
        cache_control: The value of Cache-Control for every file.
        compress: Compress text files of 1 KiB or more with gzip while sending, for clients that accept it, if there is
            no precompressed variant. Their entity tag is then weak; a request for a range gets the file uncompressed.
        cors: The origins whose pages may read the files, such as `"https://example.org"`; `"*"` for all.
        not_found: The path of a file beneath `root`, such as `"404.html"`, that is sent with status 404. If it is not
            given or does not exist, a short page or line of the server's own is sent.
        clean_urls: For a path that is not found, serve the file with `.html` appended: `/about` serves `about.html`. A
            directory `about` takes precedence.
        spa: For a path that is not found, serve the `index` of `root` to clients that ask for HTML, as browsers do for
            a page, so that a single-page application can use the path. Missing scripts and images still get 404.

    Raises:
        OSError: `root` is not a directory, or cannot be read.
        TypeError: an origin in `cors` is not a `str`.
        ValueError: `prefix` does not begin with a slash, `index` is not a file name, `precompressed` has an unknown
            coding, `cors` has an invalid origin, `not_found` is not the path of a file, or `cache_control` is not a
            valid header value.
    """
    top = os.path.abspath(os.fspath(root))
    # Not `top`: for an empty path, such as that of an unset variable, it is the current directory.
    os.close(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    type_table()  # read it from disk now, not later in the event loop
    if not prefix.startswith("/"):
        raise ValueError(f"prefix must begin with a slash, got {prefix!r}")
    if index in ("", ".", "..") or "/" in index or "\0" in index:
        raise ValueError(f"index must be a file name, got {index!r}")
    if not_found is not None and not {"", ".", ".."}.isdisjoint(not_found.split("/")):
        raise ValueError(
            f"not_found must be the path of a file beneath the root, such as '404.html', got {not_found!r}"
        )
    codings = (precompressed,) if isinstance(precompressed, str) else tuple(precompressed)
    for coding in codings:
        if coding not in SUFFIXES:
            raise ValueError(f"precompressed must be one or more of {', '.join(SUFFIXES)}, got {coding!r}")
    options = _Options(
        root=top,
        prefix=prefix.rstrip("/") + "/",
        index=index,
        listing=listing,
        hidden=hidden,
        follow_symlinks=follow_symlinks,
        precompressed=codings,
        compress=compress,
        cache_control=cache_control,
        origins=checked_origins(cors),
        not_found=not_found,
        clean_urls=clean_urls,
        spa=spa,
    )
    return _Files(options).serve


@dataclass(frozen=True, slots=True)
class _Options:
    """The checked arguments of `files`."""

    root: str
    prefix: str
    index: str
    listing: bool
    hidden: bool
    follow_symlinks: bool
    precompressed: tuple[str, ...]
    compress: bool
    cache_control: str | None
    origins: frozenset[str] | None
    not_found: str | None
    clean_urls: bool
    spa: bool


class _Files:
    """Serves the files beneath a root directory."""

    def __init__(self, options: _Options) -> None:
        self._options = options
        self._cache: FileCache[File] = FileCache()
        self._index = os.fsencode(options.index)
        self._root = RootDirectory(options.root, anywhere=options.follow_symlinks)
        self._codings = options.precompressed
        if options.compress and "gzip" not in self._codings:
            self._codings += ("gzip",)
        self._common = Headers([("X-Content-Type-Options", "nosniff")])
        if options.cache_control is not None:
            self._common["Cache-Control"] = options.cache_control
        self._varying = Headers([("Vary", "Accept-Encoding")])
        self._varying.fill(self._common)

    def __reduce__(self) -> tuple[type[_Files], tuple[_Options]]:
        return _Files, (self._options,)  # pickled for a worker process, which has its own cache

    async def serve(self, request: Request, response: Response) -> None:
        options = self._options
        if options.origins is not None and add_cors_fields(options.origins, _METHODS, request, response):
            response.status = 204
            await response.send(b"")
            return
        if request.method not in _METHODS:
            response.headers["Allow"] = ", ".join(_METHODS)
            await refuse(request, response, 405)
            return
        # A file that is compressed while it is sent has no ranges, so a request for one gets the file uncompressed.
        plain = options.compress and "range" in request.headers
        asked = () if plain else request.headers._all_of("accept-encoding")
        field = ",".join([one.value for one in asked]) if asked else ""
        key = (request._path, accepted(field, self._codings) if field else ())
        # The cache comes first, as splitting a path takes a microsecond. But a path with an encoded slash must get 404.
        file = None if "%2f" in request.raw_path.lower() else self._cache.get(key)
        if file is not None:
            await respond(file, None, request, response)
        elif (names := self._split(request)) is not None:
            await self._serve(names, key, request, response)
        elif request._path + "/" == options.prefix:
            await redirect(request, response)
        else:
            await self._refuse(404, key, request, response)

    def _split(self, request: Request) -> list[bytes] | None:
        """Return the names in a path, the last one empty for a directory; None if the path must get 404."""
        # `_path` may have bytes that are not UTF-8, as file names may; `path` would refuse them.
        path, prefix = request._path, self._options.prefix
        if not path.startswith(prefix) or "\0" in path or "%2f" in request.raw_path.lower():
            return None
        names = path[len(prefix) :].split("/")
        if "/." in path[len(prefix) - 1 :]:
            if not {".", ".."}.isdisjoint(names):
                return None  # a request's path has no dot segments, but a handler may have set another path
            dotted = names[1:] if names[0] == _WELL_KNOWN else names
            if not self._options.hidden and any(name.startswith(".") for name in dotted):
                return None
        return [name.encode("utf-8", "surrogateescape") for name in names]

    async def _serve(self, names: list[bytes], key: Key, request: Request, response: Response) -> None:
        """Serve what these names lead to; for a directory, its index or its listing."""
        is_directory, above = not names[-1], names[:-1]
        if is_directory:
            names = [*above, self._index]
        opened = await self._find(names)
        if opened == 404 and self._options.clean_urls and not is_directory:
            names = [*above, names[-1] + b".html"]
            opened = await self._find(names)
        if isinstance(opened, int):
            if opened == 404 and is_directory and self._options.listing:
                await self._serve_listing(above, key, request, response)
            else:
                await self._refuse(opened, key, request, response)
            return
        try:
            if stat.S_ISREG(opened.status.st_mode):
                await self._serve_file(names, opened, key, request, response)
            elif is_directory and self._options.listing:
                await self._serve_listing(above, key, request, response)
            elif stat.S_ISDIR(opened.status.st_mode) and not is_directory:
                await redirect(request, response)
            else:
                await self._refuse(404, key, request, response)
        finally:
            os.close(opened.fd)

    async def _find(self, names: list[bytes]) -> OpenFile | int:
        """Open what these names lead to, or return an error status."""
        try:
            return await self._root.open(names)
        except OSError as exc:
            return status_of(exc)

    async def _refuse(self, status: int, key: Key, request: Request, response: Response) -> None:
        """Send an error page; for 404, the one from the options."""
        options = self._options
        if status == 404 and options.spa and accepts_html(request.headers) and key[0].startswith(options.prefix):
            page, is_app = [self._index], True
        elif status == 404 and options.not_found is not None:
            page, is_app = [os.fsencode(name) for name in options.not_found.split("/")], False
        else:
            await refuse(request, response, status)
            return
        opened = await self._find(page)
        if isinstance(opened, int):
            await refuse(request, response, status)
            return
        try:
            if not stat.S_ISREG(opened.status.st_mode):
                await refuse(request, response, status)
                return
            if options.spa:
                response.headers.add("Vary", "Accept")
            if is_app:
                await self._serve_file(page, opened, (options.prefix + options.index, key[1]), request, response)
            else:
                await send_missing_page(opened, await _type_of(os.fsdecode(page[-1]), opened), response)
        finally:
            os.close(opened.fd)

    async def _serve_listing(self, names: list[bytes], key: Key, request: Request, response: Response) -> None:
        options = self._options

        def make() -> list[bytes]:
            view = View.of(request.query)
            fd = self._root.open_now(names).fd
            try:
                entries = read_entries(
                    fd, view, hidden=options.hidden, target_of=lambda name: self._root.status([*names, name])
                )
            finally:
                os.close(fd)
            return list(render(request._path, len(names), sort_entries(entries, view), view))

        try:
            # One thread does everything. When the event loop made the rows, it took the GIL from a thread that read
            # another listing at each of its system calls: four clients got two thirds as many pages of 1,000 names.
            pieces = await trio.to_thread.run_sync(make)
        except OSError as exc:
            await self._refuse(status_of(exc), key, request, response)
            return
        headers = Headers([("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", POLICY)])
        headers.fill(self._varying if options.compress else self._common)
        packs = options.compress and "gzip" in key[1]
        if packs:
            headers["Content-Encoding"] = "gzip"
        response.headers.fill(headers)
        if packs:
            await from_iterable(pieces).pipe(gzip(level=LEVEL)).pipe(response)
        else:
            await response.send(b"".join(pieces))

    async def _serve_file(
        self, names: list[bytes], opened: OpenFile, key: Key, request: Request, response: Response
    ) -> None:
        options, codings = self._options, key[1]
        name = os.fsdecode(names[-1])
        kind = await _type_of(name, opened)
        compresses = options.compress and is_text(kind) and opened.status.st_size >= _WORTH_COMPRESSING
        varies = compresses or (bool(options.precompressed) and is_compressible(kind))
        common = self._varying if varies else self._common
        wanted = [coding for coding in codings if coding in options.precompressed] if varies else []
        variant, coding = await self._root.open_variant(names, wanted, opened)
        try:
            source = variant or opened
            size = source.status.st_size
            content = read_cached(source.fd, 0, size) if size <= LARGEST else None
            if content is not None:
                content = bytes(content)  # sending `bytes` again and again takes fewer steps than a view
            if compresses := compresses and variant is None and "gzip" in codings:
                coding = "gzip"
            file = describe(name, kind, source, content, coding, common, compresses=compresses)
            if file.content is not None and is_at_rest(source.status.st_ctime_ns):
                self._cache.put(key, file, len(file.content))
            await respond(file, source, request, response)
        finally:
            if variant is not None:
                os.close(variant.fd)


async def _type_of(name: str, opened: OpenFile) -> str:
    """Return the value of Content-Type; if the name does not decide it, read the beginning of the file."""
    if may_be_text(name):
        stop = min(opened.status.st_size, BEGINNING)
        begin = read_cached(opened.fd, 0, stop)
        if begin is None:
            begin = await trio.to_thread.run_sync(os.pread, opened.fd, stop, 0)
        if begins_as_text(begin):
            return TEXT
    return content_type(name)
