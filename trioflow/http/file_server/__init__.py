"""The file server: lookup, conditional and range requests, encodings, listings."""
