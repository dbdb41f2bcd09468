"""Reads a server's address from a URL. Every part of the URL is used or refused; none is ignored."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_SENTINEL: Final = "+sentinel"

Place: TypeAlias = tuple[str, int]  # host and port


class Address(NamedTuple):
    """The address of a server, or of the sentinels that know its address, and how to log in."""

    places: tuple[Place, ...]  # to try in turn; sentinels if there is a `service`
    path: str
    username: str | None
    password: str | None
    db: int
    is_secure: bool
    service: str = ""  # the sentinels' name for the master

    @classmethod
    def of(cls, url: object) -> Address:
        """Read `redis://[user:password@]host[:port][/db]`, `rediss://...` or `unix:///path`; each may end in `?db=n`.

        `redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]`, or the same with `rediss+sentinel`,
        names sentinels. Several hosts in a `redis://` URL are nodes of one cluster.

        Raises:
            TypeError: `url` is not a str.
            ValueError: `url` has another form, or an option other than `db`.
        """
        if not isinstance(url, str):
            raise TypeError(f"url must be a str such as 'redis://127.0.0.1:6379', got {url!r}")
        # The messages show no part that may belong to a password.
        scheme = url.partition("://")[0] if "://" in url else ""
        shown = scheme if scheme.removesuffix(_SENTINEL).isidentifier() else "..."
        wrong = ValueError(
            "url must be redis://host:port, rediss://host:port, redis+sentinel://host:port,host:port/service or "
            f"unix:///path, with / ? # and @ in a password percent-encoded, got {shown}://..."
        )
        try:
            parts = urlsplit(url)
            is_sentinel = parts.scheme.endswith(_SENTINEL)
            default = _SENTINEL_PORT if is_sentinel else _PORT
            hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
            places = tuple((host.hostname or "", default if host.port is None else host.port) for host in hosts)
        except ValueError:
            raise wrong from None
        kind = parts.scheme.removesuffix(_SENTINEL)
        is_unix = kind == "unix" and not is_sentinel
        if (kind not in ("redis", "rediss") and not is_unix) or parts.fragment or "@" in parts.path + parts.query:
            raise wrong
        if not (parts.path and not parts.netloc.rpartition("@")[2] if is_unix else all(host for host, _ in places)):
            raise wrong
        path = "" if is_unix else parts.path.strip("/")
        service, _, path = path.partition("/") if is_sentinel else ("", "", path)
        if is_sentinel and not service:
            raise ValueError(
                "url: the name of the master must follow the sentinels, as in redis+sentinel://host:port/service"
            )
        return cls(
            places,
            unquote(parts.path) if is_unix else "",
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            _database(path, parts.query),
            kind == "rediss",
            unquote(service),
        )

    def __str__(self) -> str:
        places = ", ".join(f"{host}:{port}" for host, port in self.places)
        return self.path or (f"{self.service} (known to the sentinels at {places})" if self.service else places)


def _database(path: str, query: str) -> int:
    """Return the number of the database, which is in the path or in the query; 0 by default."""
    options = parse_qsl(query, keep_blank_values=True)
    for name, _ in options:
        if name != "db":
            hint = "; pass ssl_context= instead" if name.startswith("ssl") else ""
            raise ValueError(f"url: unknown option {name!r}, only db is allowed{hint}")
    given = [*([path] if path else []), *(value for _, value in options)] or ["0"]
    if len(given) > 1:
        raise ValueError(f"url: the database is given {len(given)} times; give it once")
    if not (given[0].isascii() and given[0].isdecimal()):
        raise ValueError(f"url: the database must be a number, got {given[0]!r}")
    return int(given[0])
