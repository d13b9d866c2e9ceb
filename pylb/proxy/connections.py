"""How many clients are connected, and which are to be told when pylb stops?

Every protocol that faces a client over a stream adds itself when it is connected and removes itself when it is lost.  At
the limit the listening sockets are paused, so that clients wait in the kernel's queue instead of being refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import ITransport

__all__ = ["LINGER", "Connection", "Connections", "peer_of", "set_options"]

#: Seconds that the other end of a connection has to notice that it is over.  Until then it is listened to, in vain: to close
#: over unread bytes would be a reset, and cost a client the end of its answer.
LINGER = 5.0


# A tuple: isinstance makes a union anew each time.
_INTERNET = (IPv4Address, IPv6Address)


def peer_of(transport: ITransport) -> tuple[str, int | None]:
    """The address and port of whoever is at the other end; ("unix:", None) for a Unix socket."""
    where = getattr(transport, "where", None)  # a stream's
    if isinstance(where, tuple) and len(where) == 2:
        return where
    peer = transport.getPeer()
    if isinstance(peer, _INTERNET):
        return peer.host, peer.port
    return "unix:", None


def set_options(transport: Any, *, nodelay: bool, keepalive: bool) -> None:
    """Set TCP_NODELAY and SO_KEEPALIVE, whichever is asked for, if there is TCP at the bottom of `transport`.

    A stream that was accepted has them from the socket that listened (`pylb.proxy.listen`).
    """
    if getattr(transport, "inherits", False):
        return
    # Interfaces do not tell: Twisted's Unix transports claim to be TCP, and its TLS over TCP does not.
    internet = isinstance(getattr(transport, "where", None), tuple) or isinstance(transport.getPeer(), _INTERNET)
    if internet and hasattr(transport, "setTcpNoDelay"):
        if nodelay:
            transport.setTcpNoDelay(True)
        if keepalive:
            transport.setTcpKeepAlive(True)


class Connection(Protocol):
    """What a protocol that faces a client must be able to do."""

    def drain(self) -> None:
        """Finish what runs and then close; close now if nothing runs."""

    def abort(self) -> None:
        """Close at once."""


class Connections:
    """The live client connections of a process and their limit (0: none)."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.draining = False
        #: Called with True when the limit is reached and with False when there is room again.
        self.full_changed: Callable[[bool], None] = lambda full: None
        self._live: set[Connection] = set()
        self._empty: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._live)

    def add(self, connection: Connection) -> None:
        self._live.add(connection)
        if len(self._live) == self.limit:
            self.full_changed(True)
        if self.draining:
            connection.drain()

    def remove(self, connection: Connection) -> None:
        was = len(self._live)
        self._live.discard(connection)
        if was == self.limit and len(self._live) < was:
            self.full_changed(False)
        if self._empty is not None and not self._live:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def drain(self) -> Deferred[None]:
        """Ask every connection to finish; fires when the last one is gone."""
        self.draining = True
        for connection in list(self._live):
            connection.drain()
        return self.retire()

    def retire(self) -> Deferred[None]:
        """Let each have one more answer, if it waits for the next request now; fires when the last one is gone."""
        self.draining = True
        if not self._live:
            return succeed(None)
        if self._empty is None:
            self._empty = Deferred()
        return self._empty

    def abort(self) -> None:
        """Close every connection at once."""
        for connection in list(self._live):
            connection.abort()
