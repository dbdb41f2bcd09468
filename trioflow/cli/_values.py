"""Reads what was typed on the command line. What cannot be read raises an error that says what was expected."""

from __future__ import annotations

import argparse
import os
from typing import Any


def port(text: str) -> int:
    """Read a port."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, got {text!r}")
    return int(text)


class Places(argparse.Action):
    """Reads `[DIR] [PORT]`; a number alone is the port."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        try:
            match values:
                case []:
                    pass
                case [place] if not (place.isascii() and place.isdigit()):
                    namespace.directory = place
                case [place] if os.path.isdir(place):
                    raise argparse.ArgumentTypeError(f"{place} is also a directory: type ./{place} or -p {place}")
                case [text]:
                    namespace.port = port(text)
                case [directory, text]:
                    namespace.directory, namespace.port = directory, port(text)
                case _:
                    raise argparse.ArgumentTypeError(
                        f"expected at most a directory and a port, got {len(values)} arguments"
                    )
        except argparse.ArgumentTypeError as exc:
            raise argparse.ArgumentError(None, str(exc)) from exc


def limit(text: str) -> tuple[str, float]:
    """Read `NAME=NUMBER`."""
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"a limit is NAME=NUMBER, such as idle=15, got {text!r}")
    return name.replace("-", "_"), number(value)


def number(text: str) -> float:
    """Read a number, or `inf`."""
    try:
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, or 'inf' for no limit, got {text!r}") from None


def timeout(text: str) -> float:
    """Read a time above 0 seconds, or `inf`."""
    if not (value := number(text)) > 0:
        raise argparse.ArgumentTypeError(f"a timeout is above 0 seconds, or 'inf' for none, got {text!r}")
    return value


def seconds(text: str) -> float:
    """Read a time of up to a day."""
    if not 0 < (value := number(text)) <= 86400:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0 and up to 86400, got {text!r}")
    return value


def count(text: str) -> int:
    """Read a number of workers."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 1024):
        raise argparse.ArgumentTypeError(f"expected from 1 to 1024 workers, got {text!r}")
    return int(text)


def whole(text: str, least: int = 0) -> int:
    """Read a whole number of `least` or more."""
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"expected a whole number, at least {least}, got {text!r}")
    return int(text)
