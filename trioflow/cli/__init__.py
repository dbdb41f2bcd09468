"""The command line: `trioflow serve`, `trioflow demo`, `trioflow top`, `trioflow redis` and `trioflow work`."""

from trioflow.cli._command import main

__all__ = ["main"]
