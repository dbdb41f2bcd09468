"""Files, standard streams, sockets and processes: everything that touches the system."""
