"""Where a server is, read from a URL. What the URL says is followed, or refused: nothing in it is ignored."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

_DEFAULT_PORT: Final = 6379


class Address(NamedTuple):
    """Where a server is, and how to log in."""

    host: str
    port: int
    path: str
    username: str | None
    password: str | None
    db: int
    is_secure: bool

    @classmethod
    def of(cls, url: object) -> Address:
        """Read `redis://[user:password@]host[:port][/db]`, the same with `rediss`, or `unix:///path`; each may end in `?db=n`.

        Raises:
            TypeError: `url` is not a str.
            ValueError: `url` has another form, or an option other than `db`.
        """
        if not isinstance(url, str):
            raise TypeError(f"url must be a str such as 'redis://127.0.0.1:6379', not {url!r}")
        # The messages show no part that may be of a password.
        scheme = url.partition("://")[0] if "://" in url else ""
        wrong = ValueError(
            "url must be redis://host:port, rediss://host:port or unix:///path, with / ? # and @ of a password "
            f"percent-encoded, not {scheme if scheme.isidentifier() else '...'}://..."
        )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise wrong from None
        is_unix = parts.scheme == "unix"
        if parts.scheme not in ("redis", "rediss", "unix") or parts.fragment or "@" in parts.path + parts.query:
            raise wrong
        if not (parts.path and not parts.hostname if is_unix else parts.hostname):
            raise wrong
        options = parse_qsl(parts.query, keep_blank_values=True)
        wished = [value for _, value in options] or ["0"]
        if not is_unix and parts.path.strip("/"):
            wished = [parts.path.strip("/"), *(value for _, value in options)]
        for name, _ in options:
            if name != "db":
                hint = "; pass ssl_context= instead" if name.startswith("ssl") else ""
                raise ValueError(f"url: there is no option {name!r}, only db{hint}")
        if len(wished) > 1:
            raise ValueError(f"url: the database is given {len(wished)} times")
        if not (wished[0].isascii() and wished[0].isdecimal()):
            raise ValueError(f"url: the database must be a number, not {wished[0]!r}")
        return cls(
            parts.hostname or "",
            _DEFAULT_PORT if port is None else port,
            unquote(parts.path) if is_unix else "",
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            int(wished[0]),
            parts.scheme == "rediss",
        )

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"
