"""What moves bytes: listening sockets, the three protocols, the way to a server, the access log."""
