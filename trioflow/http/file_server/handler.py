"""A directory's files over HTTP: open, look at what is open, decide, stream.

Rule 1: a path is split into names, and each is looked up beneath the root; nothing leads out of it, by a link neither.
Rule 2: a file is opened once. Size, date and type are those of the open file, and its bytes come from there.
Rule 3: what is not a regular file, or has a name that begins with a dot, is not found, unless that is asked for.
Rule 4: the loop never waits for a disk: what the kernel cannot open from memory, a thread opens.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from trioflow.http._request import Request
from trioflow.http._response import Response
from trioflow.http._service import Handler
from trioflow.http.file_server.cache import LARGEST, FileCache, Key, is_at_rest
from trioflow.http.file_server.cors import checked_origins, fields_for, preflight_fields
from trioflow.http.file_server.encodings import SUFFIXES, accepted
from trioflow.http.file_server.listing import POLICY, Entry, ordered, page, read
from trioflow.http.file_server.lookup import Opened, Root
from trioflow.http.file_server.respond import File, describe, describe_packed, redirect, refuse, respond
from trioflow.http.file_server.types import content_type, is_text, may_be_packed
from trioflow.http.wire.headers import Headers
from trioflow.io.page_cache import read_cached
from trioflow.operators.sources import from_iterable

_METHODS: Final = ("GET", "HEAD")
_WORTH_PACKING: Final = 1024  # bytes: less fits in one packet anyway

# Whatever else goes wrong is the server's fault, and none of the client's business: 500.
_STATUS_OF: Final = {
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
} | dict.fromkeys(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EXDEV,
        errno.ENXIO,
        errno.ENODEV,
        errno.EINVAL,
    ),
    404,
)


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
) -> Handler:
    """Make a handler that serves a directory's files: to be served as it is, or called from a handler of one's own.

    GET and HEAD; ranges and every condition on date and entity tag, by RFC 9110. A directory redirects to its name with
    a slash behind it, which gives its `index`. Not found are: names that begin with a dot, what is neither file nor
    directory, symbolic links that lead out of `root`, paths with an encoded slash. Headers that the response has
    already, such as Cache-Control, are kept.

    A file of up to 64 KiB that has been at rest for two seconds is kept for a tenth of a second: by then, a change is
    seen. Everything else is looked up for each request.

    Waits when: the client does; the disk is waited for in a thread.
    On cancel: the file is closed, and the connection cut.
    Holds: 4 MiB of files that are asked for again and again, one descriptor for each response, and of a file over
        64 KiB nothing.

    Args:
        root: The directory; if it is a symbolic link, what that points to when a request comes.
        prefix: The path at which the root is seen, `"/static/"` for example; what is not below it is not found.
        index: The name of the file that stands for a directory.
        listing: Give a page of what is in a directory that has no `index`, sortable by name, size and date.
        hidden: Serve names that begin with a dot, too.
        follow_symlinks: Follow symbolic links out of `root`, too.
        precompressed: Codings to look for beside a file, in order of preference: `a.css.br`, `a.css.zst` or `a.css.gz`
            is sent for `a.css` to clients that take it, if it is not older.
        cache_control: The value of Cache-Control for every file.
        compress: Pack texts of 1 KiB and more with gzip on the way, for clients that take it and where no packed
            variant is there. They have a weak entity tag then; a range is one of the file as it is.
        cors: The origins whose pages may read the files, such as `"https://example.org"`; `"*"` for all.

    Raises:
        OSError: `root` is not a directory, or cannot be looked into.
        ValueError: `prefix` does not begin with a slash, `index` is no name, `precompressed` has an unknown coding,
            `cors` has what is no origin, or `cache_control` cannot stand in a header.
    """
    top = os.path.abspath(os.fspath(root))
    os.close(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    if not prefix.startswith("/"):
        raise ValueError(f"prefix must begin with a slash, not {prefix!r}")
    if index in ("", ".", "..") or "/" in index or "\0" in index:
        raise ValueError(f"index must be the name of a file, not {index!r}")
    codings = (precompressed,) if isinstance(precompressed, str) else tuple(precompressed)
    for coding in codings:
        if coding not in SUFFIXES:
            raise ValueError(f"precompressed wants {', '.join(SUFFIXES)}, not {coding!r}")
    site = _Site(
        root=top,
        below=prefix.rstrip("/") + "/",
        index=index,
        listing=listing,
        hidden=hidden,
        follow_symlinks=follow_symlinks,
        codings=codings,
        compress=compress,
        cache_control=cache_control,
        origins=checked_origins(cors),
    )
    return _Files(site).answer


@dataclass(frozen=True, slots=True)
class _Site:
    """What `files` was asked for."""

    root: str
    below: str
    index: str
    listing: bool
    hidden: bool
    follow_symlinks: bool
    codings: tuple[str, ...]
    compress: bool
    cache_control: str | None
    origins: frozenset[str] | None


class _Files:
    """Answers requests for what is beneath a root."""

    __slots__ = ("_codings", "_cache", "_index", "_plain", "_root", "_site", "_varying")

    def __init__(self, site: _Site) -> None:
        self._site = site
        self._cache: FileCache[File] = FileCache()
        self._index = os.fsencode(site.index)
        self._root = Root(site.root, anywhere=site.follow_symlinks)
        self._codings = (*site.codings, *(("gzip",) if site.compress and "gzip" not in site.codings else ()))
        self._plain = Headers([("X-Content-Type-Options", "nosniff")])
        if site.cache_control is not None:
            self._plain["Cache-Control"] = site.cache_control
        self._varying = Headers([("Vary", "Accept-Encoding")])
        self._varying.fill(self._plain)

    def __reduce__(self) -> tuple[type[_Files], tuple[_Site]]:
        return _Files, (self._site,)  # to a worker process goes what was asked for

    async def answer(self, request: Request, response: Response) -> None:
        asked, site = request.headers, self._site
        if site.origins is not None and self._is_preflight(site.origins, request, response):
            response.status = 204
            await response.send(b"")
            return
        if request.method not in _METHODS:
            response.headers["Allow"] = ", ".join(_METHODS)
            await refuse(response, 405)
            return
        names = self._names(request)
        if names is None:
            await (redirect(request, response) if request.path + "/" == site.below else refuse(response, 404))
            return
        # What is packed on the way has no parts: a client that asks for some is given the file as it is.
        plain = site.compress and "range" in asked
        takes = "" if plain else ",".join(asked.get_all("accept-encoding"))
        key = (request.path, accepted(takes, self._codings) if takes else ())
        file = self._cache.get(key)
        if file is not None:
            await respond(file, None, request, response)
        else:
            await self._answer(names, key, request, response)

    def _is_preflight(self, origins: frozenset[str], request: Request, response: Response) -> bool:
        """Set what a browser looks for; tell whether that is all it wants to know."""
        asked = request.headers
        for name, value in fields_for(origins, asked.get("origin")):
            response.headers.add(name, value)
        if request.method != "OPTIONS" or "access-control-request-method" not in asked:
            return False
        for name, value in preflight_fields(", ".join(_METHODS)):
            response.headers[name] = value
        return True

    def _names(self, request: Request) -> list[bytes] | None:
        """Give the names that a path consists of, the last one empty for a directory; None for what is never found."""
        below = self._site.below
        if not request.path.startswith(below) or "%2f" in request.raw_path.lower():
            return None
        names = request.path[len(below) :].split("/")
        if not self._site.hidden and any(name.startswith(".") for name in names):
            return None
        return [name.encode("utf-8", "surrogateescape") for name in names]

    async def _answer(self, names: list[bytes], key: Key, request: Request, response: Response) -> None:
        """Answer with what these names lead to; with the index where they end in a slash, or what is beside it."""
        is_directory, above = not names[-1], names[:-1]
        if is_directory:
            names = [*above, self._index]
        try:
            opened = await self._root.open(names)
        except OSError as exc:
            if not (is_directory and self._site.listing and exc.errno == errno.ENOENT):
                await _explain(exc, response)
                return
            opened = None
        try:
            if opened is not None and stat.S_ISREG(opened.status.st_mode):
                await self._give(names, opened, key, request, response)
            elif is_directory and self._site.listing:
                await self._list(above, request, response)
            elif opened is not None and stat.S_ISDIR(opened.status.st_mode) and not is_directory:
                await redirect(request, response)
            else:
                await refuse(response, 404)
        finally:
            if opened is not None:
                os.close(opened.fd)

    async def _list(self, names: list[bytes], request: Request, response: Response) -> None:
        def look() -> list[Entry]:
            fd = self._root.open_now(names).fd
            try:
                found = read(fd, hidden=self._site.hidden, reach=lambda name: self._root.status([*names, name]))
            finally:
                os.close(fd)
            return ordered(found, request.query)

        try:
            entries = await trio.to_thread.run_sync(look)
        except OSError as exc:
            await _explain(exc, response)
            return
        headers = Headers([("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", POLICY)])
        headers.fill(self._plain)
        response.headers.fill(headers)

        async def pieces() -> AsyncIterator[bytes]:
            for piece in page(request.path, len(names), entries, request.query):
                yield piece
                await trio.lowlevel.checkpoint()  # or 20,000 rows would hold the loop for 0.1 s

        await from_iterable(pieces()).pipe(response)

    async def _give(self, names: list[bytes], opened: Opened, key: Key, request: Request, response: Response) -> None:
        site, takes = self._site, key[1]
        name = os.fsdecode(names[-1])
        kind = content_type(name)
        packs = site.compress and is_text(kind) and opened.status.st_size >= _WORTH_PACKING
        varies = packs or (bool(site.codings) and may_be_packed(kind))
        always = self._varying if varies else self._plain
        variant, coding = await self._variant(names, takes if varies else (), opened)
        try:
            source = variant or opened
            size = source.status.st_size
            content = read_cached(source.fd, 0, size) if size <= LARGEST else None
            if packs and variant is None and "gzip" in takes:
                file = describe_packed(name, kind, source, content, always)
            else:
                file = describe(name, kind, source, content, coding, always)
            if file.content is not None and is_at_rest(source.changed_ns):
                self._cache.put(key, file)
            await respond(file, source, request, response)
        finally:
            if variant is not None:
                os.close(variant.fd)

    async def _variant(
        self, names: list[bytes], codings: tuple[str, ...], plain: Opened
    ) -> tuple[Opened | None, str | None]:
        """Open the first packed variant of a file that is there; its coding goes with it."""
        for coding in codings:
            if coding not in self._site.codings:
                continue
            try:
                found = await self._root.open([*names[:-1], names[-1] + SUFFIXES[coding].encode()])
            except OSError:
                continue
            # By the second: archives and copies keep no more. What is older was made of another version.
            if stat.S_ISREG(found.status.st_mode) and int(found.status.st_mtime) >= int(plain.status.st_mtime):
                return found, coding
            os.close(found.fd)
        return None, None


async def _explain(exc: OSError, response: Response) -> None:
    """Answer with what a lookup failed by, if that is the client's business."""
    if exc.errno not in _STATUS_OF:
        raise exc
    await refuse(response, _STATUS_OF[exc.errno])
