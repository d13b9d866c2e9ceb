"""What happens after a server has agreed to leave HTTP?

Only WebSocket is let through, and only once the server has said 101: from there on bytes travel both ways untouched, each
transport the producer of the other, until one side ends or nothing has moved for `timeout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pylb.proxy.accesslog import Record
from pylb.proxy.deadline import Deadline, Deadlines
from pylb.proxy.http.head import RequestHead

if TYPE_CHECKING:
    from pylb.proxy.http.client import ClientConnection
    from pylb.proxy.http.server import ServerConnection

__all__ = ["Tunnel", "wants_websocket"]


def wants_websocket(head: RequestHead, framing: int) -> bool:
    """Whether a request asks to go on as WebSocket; whatever else it may want to become is not passed on."""
    return (
        b"upgrade" in head.fields.connection
        and head.fields.elements(b"upgrade") == [b"websocket"]
        and head.method == b"GET"
        and head.minor == 1
        and framing == 0
    )


class Tunnel:
    """Raw bytes between a client and a server.  The client's side tells it of the client's end by `client_lost`."""

    __slots__ = ("_client", "_deadline", "_ended", "_record", "_server", "_timeout")

    def __init__(
        self,
        client: ClientConnection,
        server: ServerConnection,
        record: Record,
        deadlines: Deadlines,
        timeout: float,
    ) -> None:
        self._client = client
        self._server = server
        self._record = record
        self._ended = False
        self._timeout = timeout
        self._deadline = Deadline(deadlines, self.abort)
        self._deadline.set(timeout)
        early = server.become_raw(self)
        client.transport.unregisterProducer()
        client.transport.registerProducer(server.transport, True)
        server.transport.registerProducer(client.transport, True)
        if early:
            self.from_server(early)

    def from_client(self, data: bytes) -> None:
        self._deadline.set(self._timeout)
        self._record.bytes_received += len(data)
        self._record.upstream_bytes_sent += len(data)
        self._server.transport.write(data)

    def from_server(self, data: bytes) -> None:
        self._deadline.set(self._timeout)
        self._record.bytes_sent += len(data)
        self._record.upstream_bytes_received += len(data)
        self._client.transport.write(data)

    def client_ended(self) -> None:
        """The client sends no more: flush what is under way either way and close."""
        self._close(self._server.transport)
        self._close(self._client.transport)

    def client_lost(self) -> None:
        """Flush what the client still had to say and close."""
        self._lost(self._server.transport)

    def server_lost(self) -> None:
        """Flush what the server still had to say and close."""
        self._lost(self._client.transport)

    def _lost(self, other: Any) -> None:
        if self._ended:
            self._deadline.stop()
            return
        self._ended = True
        self._close(other)

    def _close(self, side: Any) -> None:
        side.unregisterProducer()
        side.loseConnection()

    def abort(self) -> None:
        """Close both sides at once."""
        self._server.transport.abortConnection()
        self._client.transport.abortConnection()
