"""The command `trioflow redis`: asks about a stream or changes its dead letters and senders, and prints the answer."""

from __future__ import annotations

import argparse
import json
import math
import ssl
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from trioflow.cli._failed import Failed, printable, printing, reason_of

try:
    from trioflow import redis as redis
except ImportError as exc:
    raise Failed(1, str(exc)) from exc

ITEM_SHOWN: Final = 200  # characters of an item; --json prints all


_TLS: TypeAlias = ssl.SSLContext | None


def run(arguments: argparse.Namespace) -> None:
    """Ask, and print the answer as text, or as JSON with one object per line.

    Raises:
        Failed: the action failed.
    """
    action = partial(_ACTIONS[arguments.action], arguments, arguments.url, arguments.stream, ssl_context(arguments))
    try:
        rows = trio.run(action)
    except (TypeError, ValueError) as exc:
        raise Failed(2, printable(str(exc))) from exc
    except (OSError, trio.BrokenResourceError) as exc:
        raise Failed(1, printable(str(exc))) from exc
    with printing():
        for row in rows:
            for line in [json.dumps(_finite(row))] if arguments.json else _lines(row):
                print(line)


def ssl_context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context for the TLS options; None if there are none."""
    if not (arguments.tls_ca or arguments.tls_cert or arguments.tls_key):
        return None
    if arguments.tls_key and not arguments.tls_cert:
        raise Failed(2, "--tls-key needs --tls-cert")
    try:
        context = ssl.create_default_context(cafile=arguments.tls_ca)
        if arguments.tls_cert:
            context.load_cert_chain(arguments.tls_cert, arguments.tls_key, password="")
    except OSError as exc:  # SSLError is one, too
        names = [name for name in (arguments.tls_ca, arguments.tls_cert, arguments.tls_key) if name]
        raise Failed(2, f"cannot use {printable(' or '.join(names))}: {reason_of(exc)}") from exc
    return context


async def _status(_: argparse.Namespace, url: str, name: str, tls: _TLS) -> list[dict[str, Any]]:
    status = await redis.status(url, name, ssl_context=tls)
    receivers = [receiver._asdict() for receiver in status.receivers]
    return [{**status._asdict(), "lag": status.lag, "receivers": receivers}]


async def _dead(arguments: argparse.Namespace, url: str, name: str, tls: _TLS) -> list[dict[str, Any]]:
    letters = await redis.dead_letters(url, name, limit=arguments.limit, ssl_context=tls)
    return [{**letter._asdict(), "raw": letter.raw.decode(errors="backslashreplace")} for letter in letters]


async def _requeue(arguments: argparse.Namespace, url: str, name: str, tls: _TLS) -> list[dict[str, Any]]:
    count = await redis.requeue_dead_letters(url, name, _ids(arguments), ssl_context=tls)
    return _counted(arguments, "requeued", count)


async def _drop(arguments: argparse.Namespace, url: str, name: str, tls: _TLS) -> list[dict[str, Any]]:
    if arguments.keep is None:
        return _counted(
            arguments, "dropped", await redis.drop_dead_letters(url, name, _ids(arguments), ssl_context=tls)
        )
    if arguments.ids or arguments.all:
        raise Failed(2, "--keep cannot be combined with ids or --all")
    return [{"dropped": await redis.trim_dead_letters(url, name, arguments.keep, ssl_context=tls)}]


async def _senders(arguments: argparse.Namespace, url: str, name: str, tls: _TLS) -> list[dict[str, Any]]:
    if arguments.drop is None:
        return [sender._asdict() for sender in await redis.senders(url, name, ssl_context=tls)]
    if not await redis.drop_sender(url, name, arguments.drop, ssl_context=tls):
        raise Failed(1, f"the stream has no sender {printable(arguments.drop)!r}")
    return [{"dropped": 1}]


_ACTIONS: Final = {"status": _status, "dead": _dead, "requeue": _requeue, "drop": _drop, "senders": _senders}


def _ids(arguments: argparse.Namespace) -> list[str] | None:
    """Return the ids that were typed, or None for all."""
    if bool(arguments.ids) == arguments.all:
        raise Failed(2, f"{arguments.action}: name the ids of dead letters, or pass --all")
    return arguments.ids or None


def _counted(arguments: argparse.Namespace, verb: str, count: int) -> list[dict[str, Any]]:
    wanted = len(set(arguments.ids))
    if count < wanted:
        raise Failed(1, f"{verb} {count} of {wanted}: the others are not dead letters of this stream")
    return [{verb: count}]


def _finite(value: Any) -> Any:
    """Return a value that JSON can hold: null for infinity."""
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    return None if value == math.inf else value


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of text for one answer."""
    if "raw" in row:
        reason = ": ".join(part for part in (row["error"], row["message"]) if part)
        yield printable(f"{row['id']}  tries {row['tries']}  receiver {row['receiver']}  {reason}")
        yield printable(f"    {row['raw'][:ITEM_SHOWN]}")
    elif "producer" in row:
        yield printable(f"{row['producer']}  stored {row['stored']}  lease {row['lease']:g}")
    else:
        for name, value in row.items():
            if name == "receivers":
                for receiver in value:
                    yield printable(
                        f"receiver {receiver['name']}  held {receiver['held']}  lease {receiver['lease']:g}"
                    )
            else:
                yield f"{name.removeprefix('is_'):<10} {value}"
