"""What a stream is, and how it runs. Nothing here knows operators, files or sockets."""
