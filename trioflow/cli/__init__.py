"""The command line: `trioflow serve DIR`, `trioflow demo` and `trioflow redis URL STREAM`."""

from trioflow.cli._command import main

__all__ = ["main"]
