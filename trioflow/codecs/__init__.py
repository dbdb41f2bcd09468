"""Bytes and text: codecs, framing and compression. Nothing here does I/O."""
