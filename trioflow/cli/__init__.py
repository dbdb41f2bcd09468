"""The command line: `trioflow serve DIR`, `trioflow demo`, `trioflow redis URL STREAM` and `trioflow work MODULE:FUNCTION`."""

from trioflow.cli._command import main

__all__ = ["main"]
