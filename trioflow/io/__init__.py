"""Files, standard streams, sockets and processes: everything that uses the operating system."""
