"""The demo: a page that shows streams at work, and the handlers behind it."""

from trioflow.demo._handlers import handler

__all__ = ["handler"]
