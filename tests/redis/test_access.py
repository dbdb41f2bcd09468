"""Access to a server: TLS, client certificates, and users with few permissions."""

from __future__ import annotations

import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

import trioflow as tf
from tests.redis.server import PATIENCE, Server, until
from trioflow import redis
from trioflow.redis.address import Address
from trioflow.redis.connection import open_connection

pytestmark = pytest.mark.needs("redis-server")

PAGE = Path(__file__).parents[2] / "docs/reference/redis.md"


def secure_server(place: Path, authority: trustme.CA, *options: str) -> Server:
    """Return a server with a certificate of `authority`, whose port with TLS is `tls_port`."""
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(place / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(place / "cert.pem")
    files = {"ca-cert": "ca", "cert": "cert", "key": "cert"}
    words = [word for option, name in files.items() for word in (f"--tls-{option}-file", str(place / f"{name}.pem"))]
    return Server(place, "--tls-port", str(Server(place).port), *words, *options)


def tls_url(server: Server) -> str:
    found = re.search(rb"tls-port\r\n\$\d+\r\n(\d+)", server.ask("CONFIG", "GET", "tls-port"))
    assert found is not None
    return f"rediss://127.0.0.1:{int(found[1])}"


async def test_over_tls_the_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = secure_server(tmp_path, trustme.CA(), "--tls-auth-clients", "no")
    with server:
        url = tls_url(server)
        with pytest.raises(OSError, match="no Redis server at"):
            await redis.status(url, "jobs")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert not (await redis.status(url, "jobs")).is_ended


async def test_both_ends_and_all_queries_present_the_certificate_of_the_ssl_context(tmp_path: Path) -> None:
    authority = trustme.CA()
    server = secure_server(tmp_path, authority)  # a server that requires a certificate
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with server:
        url = tls_url(server)
        with pytest.raises(OSError, match="no Redis server at"):
            await redis.status(url, "jobs", ssl_context=context)
        authority.issue_cert("client").configure_cert(context)
        with trio.fail_after(PATIENCE):
            secure: dict[str, Any] = {"ssl_context": context}
            await tf.from_iterable([1]).pipe(redis.writable(url, "jobs", **secure))
            async with redis.open_sender(url, "results", producer="p", **secure):
                jobs = redis.readable(url, "jobs", group="g", **secure)
                assert await jobs.pipe(redis.writable(url, "results", **secure)) == 1
                assert len(await redis.senders(url, "results", **secure)) == 1
                assert await redis.drop_sender(url, "results", "p", **secure)
                assert await redis.dead_letters(url, "results", **secure) == []
                assert await redis.requeue_dead_letters(url, "results", **secure) == 0
                assert await redis.drop_dead_letters(url, "results", **secure) == 0
                assert await redis.trim_dead_letters(url, "results", 0, **secure) == 0
            async with redis.open_receiver(url, "results", group="g", **secure) as receive:
                async for delivery in receive:
                    async with delivery:
                        assert delivery.value == 1


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
async def test_a_connection_cancelled_at_any_moment_leaves_no_socket_open(tmp_path: Path, is_secure: bool) -> None:
    server = secure_server(tmp_path, trustme.CA(), "--tls-auth-clients", "no")
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem")) if is_secure else None
    opened = turns = 0

    async def connect() -> None:
        nonlocal opened
        connection = await open_connection(address, address.places[0], context)
        opened += 1
        connection.close()

    with server:
        address = Address.of(tls_url(server) if is_secure else server.url)
        while not opened:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connect)
                for _ in range(turns):
                    await wait_all_tasks_blocked() if turns > 10 else await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            turns += 1
            await until(lambda: _clients_of(server) == 1)  # the connection that sends this command


def _clients_of(server: Server) -> int:
    found = re.search(rb"connected_clients:(\d+)", server.ask("INFO", "clients"))
    assert found is not None
    return int(found[1])


def permissions() -> list[str]:
    """Return the rules of the user that the page describes."""
    found = re.search(r"^ACL SETUSER worker (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1].split()


async def use_all(url: str) -> None:
    """Use everything that the stream `jobs` offers: waiting for room, failing, dead letters, queries."""
    async with redis.open_sender(url, "jobs", capacity=1) as send, trio.open_nursery() as nursery:

        async def fail() -> None:
            async with redis.open_receiver(url, "jobs", group="g", tries=2, lease=0.3, dead_letters=1) as receive:
                async for delivery in receive:
                    delivery.give_back()

        async with redis.open_sender(url, "jobs", producer="gone"):
            nursery.start_soon(fail)
            await send.send_many([1, 2])
            await send.send(3, key="k", delay=0.01, ttl=99, idempotency_key="3")
            assert len(await redis.senders(url, "jobs")) == 2
            assert await redis.drop_sender(url, "jobs", "gone")
        await send.aclose()
    assert (await redis.status(url, "jobs")).is_ended
    assert len(await redis.dead_letters(url, "jobs")) == 1
    assert await redis.requeue_dead_letters(url, "jobs") == 1
    assert await redis.drop_dead_letters(url, "jobs") == 0
    assert await redis.trim_dead_letters(url, "jobs", 0) == 0


async def test_a_user_with_the_documented_permissions_can_do_everything_that_a_stream_needs(server: Server) -> None:
    assert server.ask("ACL", "SETUSER", "worker", *permissions()) == b"+OK\r\n"
    url = server.url.replace("//", "//worker:secret@") + "/1"

    with trio.fail_after(PATIENCE):
        await use_all(url)

    denied = server.ask("ACL", "LOG")
    assert denied == b"*0\r\n", denied
    with pytest.raises(OSError, match="NOPERM"):
        await redis.status(url, "others")


@pytest.mark.parametrize("missing", [rule for rule in permissions() if rule.startswith("+")])
async def test_none_of_the_documented_permissions_can_be_left_out(server: Server, missing: str) -> None:
    server.ask("ACL", "SETUSER", "worker", *(rule for rule in permissions() if rule != missing))
    url = server.url.replace("//", "//worker:secret@") + "/1"

    async def use() -> None:
        with suppress(OSError, trio.BrokenResourceError, ExceptionGroup):
            await use_all(url)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use)
        await until(lambda: server.ask("ACL", "LOG") != b"*0\r\n")
        nursery.cancel_scope.cancel()
