"""Trusted proxies determine the address of the client, and nobody else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioflow.http import Proxies
from trioflow.http.wire.headers import Headers

PROXY = ("10.0.0.1", 4711)
PROXIES = Proxies(["10.0.0.0/8", "::1"])
STANDARD = Proxies(["10.0.0.0/8", "::1"], header="forwarded")


def seen(proxies: Proxies, peer: Any, *fields: tuple[str, str]) -> tuple[Any, str]:
    return proxies._client(peer, "http", Headers(fields))


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:5000", "192.0.2.7"),
        ("made-up, 192.0.2.7", "192.0.2.7"),
        ("1.1.1.1, 192.0.2.7, 10.1.1.1", "192.0.2.7"),
        ("10.2.2.2, 10.1.1.1", "10.2.2.2"),
        ("192.0.2.7, unknown, 10.1.1.1", "10.1.1.1"),
        ("2001:db8::5", "2001:db8::5"),
        ("[2001:db8::5]:80", "2001:db8::5"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, ::1", "192.0.2.7"),
    ],
)
def test_the_last_address_that_is_not_a_proxy_is_the_client(value: str, client: str) -> None:
    assert seen(PROXIES, PROXY, ("X-Forwarded-For", value)) == ((client, 0), "http")


@pytest.mark.parametrize(
    "value", ["", "unknown", "1.2.3", "192.0.2.7:port", "192.0.2.7 10.0.0.1", "192.0.2.7,", "é", "1" * 9999]
)
def test_a_value_that_is_not_an_address_is_ignored(value: str) -> None:
    assert seen(PROXIES, PROXY, ("X-Forwarded-For", value)) == (PROXY, "http")


@pytest.mark.parametrize("peer", [("192.0.2.9", 1), ("2001:db8::9", 1, 0, 0), "", b"\0name"])
@pytest.mark.parametrize("proxies", [PROXIES, STANDARD])
def test_the_headers_of_an_untrusted_peer_are_ignored(peer: Any, proxies: Proxies) -> None:
    fields = [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=1.1.1.1;proto=https")]

    assert seen(proxies, peer, *fields) == (peer, "http")


def test_clients_of_a_unix_socket_can_be_trusted() -> None:
    proxies = Proxies(["unix", "10.0.0.1"])

    assert seen(proxies, "", ("X-Forwarded-For", "192.0.2.7, 10.0.0.1")) == (("192.0.2.7", 0), "http")


def test_the_header_that_the_proxies_do_not_set_is_ignored() -> None:
    assert seen(STANDARD, PROXY, ("X-Forwarded-For", "1.1.1.1")) == (PROXY, "http")
    assert seen(PROXIES, PROXY, ("Forwarded", "for=1.1.1.1")) == (PROXY, "http")


@pytest.mark.parametrize(
    ("names", "schemes", "scheme"),
    [
        ("192.0.2.7", "https", "https"),
        ("192.0.2.7", "HTTPS ", "https"),
        ("192.0.2.7, 10.0.0.2", "https", "https"),
        ("192.0.2.7, 10.0.0.2", "https, http", "https"),
        ("192.0.2.7", "https, http", "http"),
        ("192.0.2.7", "gopher", "http"),
    ],
)
def test_the_scheme_is_the_one_the_client_used(names: str, schemes: str, scheme: str) -> None:
    fields = [("X-Forwarded-For", names), ("X-Forwarded-Proto", schemes)]

    assert seen(PROXIES, PROXY, *fields) == (("192.0.2.7", 0), scheme)


@pytest.mark.parametrize(
    ("value", "client", "scheme"),
    [
        ("for=192.0.2.7", ("192.0.2.7", 0), "http"),
        ('For="[2001:db8::5]:4711";Proto=HTTPS;by=10.0.0.1', ("2001:db8::5", 0), "https"),
        ("for=1.1.1.1, for=192.0.2.7;proto=https , for=10.1.1.1;proto=http", ("192.0.2.7", 0), "https"),
        ("for=unknown;proto=https", PROXY, "https"),
        ("for=_hidden, for=10.1.1.1", ("10.1.1.1", 0), "http"),
        ('for="192.0.2.7', PROXY, "http"),
        ("for=1.1.1.1 x, for=192.0.2.7", ("192.0.2.7", 0), "http"),
        ('for="192.0.2\\.7"', ("192.0.2.7", 0), "http"),
        ("", PROXY, "http"),
    ],
)
def test_the_forwarded_header_is_parsed_as_its_rfc_says(value: str, client: Any, scheme: str) -> None:
    assert seen(STANDARD, PROXY, ("Forwarded", value)) == (client, scheme)


@settings(max_examples=100)
@given(st.text(st.sampled_from('for=proto,;"\\ [:.1a%_'), max_size=60))
def test_nothing_that_a_client_sends_fails_or_forges_its_address(value: str) -> None:
    """Whatever a client sends, its proxy adds the client's own address, which is the one that is used."""
    for proxies, name, own in [
        (PROXIES, "X-Forwarded-For", "192.0.2.7"),
        (STANDARD, "Forwarded", "for=192.0.2.7"),
    ]:
        fields = [("x", "y"), (name, value), (name, own)]
        client, _ = seen(proxies, PROXY, *fields)
        # An open quote includes everything after it, and then no address is used.
        assert client == ("192.0.2.7", 0) or ('"' in value and client == PROXY)


@pytest.mark.parametrize(
    ("trusted", "header", "complaint"),
    [
        ("10.0.0.1", "x-forwarded", "put it in a list"),
        (["localhost"], "x-forwarded", "does not appear to be"),
        (["10.0.0.1/8"], "x-forwarded", "has host bits set"),
        ([], "x-real-ip", "header must be 'x-forwarded' or 'forwarded', got 'x-real-ip'"),
    ],
)
def test_R1_a_proxy_that_is_not_an_address_or_network_is_refused_at_once(
    trusted: Any, header: Any, complaint: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        Proxies(trusted, header=header)
