"""One HTTP connection: bytes in, requests out; responses in, bytes out."""
