"""What a stream is and how one run of it goes. Nothing here knows an operator, a file or a socket."""
