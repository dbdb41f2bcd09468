"""Finds the client of a request that came through proxies. No I/O.

Rule 1: only what a trusted proxy added is believed. The fields are read from their end, up to the first address that is
    not trusted, because the client could have made up everything before it.
Rule 2: only the kind of field that the proxies are known to set is read: they would pass on any other kind unchecked.
Rule 3: a field that cannot be read is ignored; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal

from trioflow.http.wire.headers import Headers

Address = IPv4Address | IPv6Address
UNIX: Final = "unix"

_MAPPED: Final = "::ffff:"  # prefix of an IPv4 address on a socket that accepts both families
_LONGEST: Final = 64  # characters of an address
_MOST: Final = 64  # hops that are read
_PAIR: Final = re.compile(r'[ \t]*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))[ \t]*(;|,|$)')
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")


class Proxies:
    """The proxies that are trusted to say who the client is.

    Args:
        trusted: Their addresses or networks, such as `"10.0.0.0/8"`; `"unix"` trusts every client of a Unix socket.
        header: The headers that they set: `"x-forwarded"` for `X-Forwarded-For` and `X-Forwarded-Proto`, or
            `"forwarded"` (RFC 7239). Every proxy must set it, or add to it, in every request.

    Raises:
        TypeError: `trusted` is a str.
        ValueError: an item of `trusted` is neither an address nor a network, or `header` is neither of the two.
    """

    __slots__ = ("_header", "_networks", "_trusts_unix")

    def __init__(self, trusted: Iterable[str], *, header: Literal["x-forwarded", "forwarded"] = "x-forwarded") -> None:
        if isinstance(trusted, str):
            raise TypeError(
                f"Proxies: trusted must be several addresses or networks, got {trusted!r}; put it in a list"
            )
        if header not in ("x-forwarded", "forwarded"):
            raise ValueError(f"Proxies: header must be 'x-forwarded' or 'forwarded', got {header!r}")
        names = list(trusted)
        self._trusts_unix = UNIX in names
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(name) for name in names if name != UNIX]
        self._header = header

    def _trusts(self, address: Address) -> bool:
        """Return whether `address` is one of the proxies."""
        return any(address in network for network in self._networks)

    def _client(self, peer: Any, scheme: str, headers: Headers) -> tuple[Any, str]:
        """Return the client's address and scheme, which are the connection's unless trusted proxies say otherwise."""
        if isinstance(peer, tuple):
            if (address := _address(str(peer[0]))) is None or not self._trusts(address):
                return peer, scheme
        elif not self._trusts_unix:
            return peer, scheme
        client = peer
        for forwarded, proto in self._hops(headers):
            scheme = proto or scheme
            if forwarded is None:
                break
            client = (str(forwarded), 0)
            if not self._trusts(forwarded):
                break
        return client, scheme

    def _hops(self, headers: Headers) -> list[tuple[Address | None, str | None]]:
        """Return what each proxy said, the nearest first: the address of its client, and the scheme."""
        if self._header == "forwarded":
            return [
                (_address(hop.get("for", "")), _scheme(hop.get("proto", "")))
                for hop in reversed(_elements(headers.get("forwarded", "")))
            ][:_MOST]
        names = headers.get("x-forwarded-for", "").split(",")[::-1][:_MOST]
        # Most proxies replace the scheme instead of adding to it, so a single one is the client's.
        schemes = headers.get("x-forwarded-proto", "").split(",")[::-1][:_MOST]
        schemes += schemes[-1:] * (len(names) - len(schemes))
        return [(_address(name.strip()), _scheme(scheme)) for name, scheme in zip(names, schemes, strict=False)]


class Peer:
    """The other end of a connection: its scheme, `"http"` or `"https"`, and its address, as the socket returns it.

    But an IPv4 address is written as such on a socket for IPv6 too.
    """

    __slots__ = ("_proxies", "address", "origin", "scheme")

    def __init__(self, address: Any, scheme: str, proxies: Proxies | None) -> None:
        if isinstance(address, tuple) and address[0].startswith(_MAPPED):
            address = (address[0].removeprefix(_MAPPED), address[1])
        self.address = address
        self.scheme = scheme
        self._proxies = proxies
        self.origin = self._find_origin()  # once, as to parse an address takes 10 µs

    def _find_origin(self) -> bytes | None:
        """Return the IPv4 address, or the IPv6 /64 network, because one client may have all of its addresses.

        None for a Unix socket and for a trusted proxy, because many clients share these.
        """
        address = _address(str(self.address[0])) if isinstance(self.address, tuple) else None
        if address is None or (self._proxies is not None and self._proxies._trusts(address)):
            return None
        return address.packed[:8]

    def client(self, headers: Headers) -> tuple[Any, str]:
        """Return the address and scheme of a request's client, the peer's unless trusted proxies say otherwise."""
        if self._proxies is None:
            return self.address, self.scheme
        return self._proxies._client(self.address, self.scheme, headers)


def _scheme(text: str) -> str | None:
    text = text.strip().lower()
    return text if text in ("http", "https") else None


def _address(text: str) -> Address | None:
    """Parse an address, with or without a port or brackets; return None if it is not an address."""
    if len(text) > _LONGEST:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = _PORT.sub("", text)
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _elements(value: str) -> list[dict[str, str]]:
    """Split a `Forwarded` field into a mapping for each proxy (RFC 7239 4), dropping all that stands before an error."""
    found: list[dict[str, str]] = [{}]
    at = 0
    while at < len(value):
        pair = _PAIR.match(value, at)
        if pair is None:
            comma = value.find(",", at)
            found = [{}]
            at = len(value) if comma < 0 else comma + 1
            continue
        found[-1][pair[1].lower()] = pair[3] if pair[2] is None else re.sub(r"\\(.)", r"\1", pair[2])
        at = pair.end()
        if pair[4] == ",":
            found.append({})
    return found
