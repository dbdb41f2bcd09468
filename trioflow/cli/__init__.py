"""The command line: `trioflow serve DIR` and `trioflow demo`."""

from trioflow.cli._command import main

__all__ = ["main"]
