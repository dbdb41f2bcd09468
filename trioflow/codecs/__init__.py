"""Codecs for bytes and text, framing, and compression. Nothing here does I/O."""
