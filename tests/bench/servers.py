"""Small servers in a thread, for what asks them in this one."""

from __future__ import annotations

import socketserver
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    """The port of a server while it serves."""
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[index, return-value]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TCPServer(socketserver.ThreadingTCPServer):
    """A thread for each connection, which ends with it."""

    request_queue_size = 128

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell what went wrong, unless it is a client that left."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
