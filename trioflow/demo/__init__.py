"""The demo: a page that shows streams at work, and its handlers."""

from trioflow.demo._handlers import handler

__all__ = ["handler"]
