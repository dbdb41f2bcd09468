"""What a request asks for: its target taken apart, its path made normal. No I/O.

Rule 1: a path comes out absolute, decoded once, without `.`, `..` and empty segments, or it is refused with 400.
Rule 2: nothing that is refused is repaired: a proxy before us may have read it in another way.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from trioflow.http._limits import RequestError


def origin_form(method: str, target: str) -> str:
    """Give path and query of a request's target (RFC 9112 3.2).

    Raises:
        RequestError: there is no path in it.
    """
    if target.startswith("/") or (target == "*" and method == "OPTIONS"):
        return target
    scheme, colon, rest = target.partition("://")
    if colon and scheme.lower() in ("http", "https"):
        slash = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        return rest[slash:] if rest[slash:].startswith("/") else "/" + rest[slash:]
    if method == "CONNECT":
        raise RequestError(501, "this server is no proxy")
    raise RequestError(400, f"the target of a request is a path, not {target!r}")


def authority_of(target: str) -> str | None:
    """Give the host, and the port if there is one, that a target names; None where it is no URL."""
    scheme, colon, rest = target.partition("://")
    if not colon or scheme.lower() not in ("http", "https"):
        return None
    return rest.partition("/")[0].partition("?")[0]


def normalised(raw_path: str) -> str:
    """Give a path percent-decoded, without dot segments and repeated slashes.

    Raises:
        RequestError: it has a bad escape, a NUL, is not UTF-8, or leads above the root.
    """
    if "%" not in raw_path and "/." not in raw_path and "//" not in raw_path:
        return raw_path
    if any(not _is_hex(part[:2]) for part in raw_path.split("%")[1:]):
        raise RequestError(400, f"the path {raw_path!r} has a % without two digits behind it")
    try:
        path = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError(400, f"the path {raw_path!r} is not UTF-8") from None
    if "\0" in path:
        raise RequestError(400, f"the path {raw_path!r} has a NUL in it")
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if not kept:
                raise RequestError(400, f"the path {raw_path!r} leads above the root")
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and segments[-1] in ("", ".", "..") else ""
    return "/" + "/".join(kept) + tail


def _is_hex(digits: str) -> bool:
    return len(digits) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in digits)
