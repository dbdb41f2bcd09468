"""What a request asks for: its target taken apart, its path made normal. No I/O.

Rule 1: a path comes out absolute, decoded once, without `.`, `..` and empty segments, or it is refused with 400.
Rule 2: nothing that is refused is repaired: a proxy before us may have read it in another way.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from trioflow.http.wire.limits import RequestError


def parts_of(target: str) -> tuple[str | None, str]:
    """Take a target apart whose form was checked: the host it names, None where it does not, and path and query."""
    if target.startswith(("/", "*")):
        return None, target
    rest = target.partition("://")[2]  # of a whole URL (RFC 9112 3.2.2)
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    path = rest[end:]
    return rest[:end], path if path.startswith("/") else "/" + path


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
