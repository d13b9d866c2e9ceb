"""Which sockets are clients let in on?

The sockets are somebody else's, who may lend them for a while; what serves their clients are the fronts of their listeners.
At the limit of connections the clients of streams wait in the kernel's queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from socket import socket
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from pylb.fronts import Fronts
from pylb.model import UdpListener
from pylb.proxy.accept import StreamPort
from pylb.proxy.connections import Connections
from pylb.proxy.front_port import FrontPort
from pylb.proxy.listen import Bound, listen_stream
from pylb.proxy.udp import UdpProxy, listen_udp

__all__ = ["Ports"]


class Ports:
    """Those that `fronts` serve; the `streams` of `pylb.proxy.streams.streams` watch them."""

    def __init__(self, fronts: Fronts, connections: Connections, streams: Any) -> None:
        self._fronts = fronts
        self._connections = connections
        self._streams = streams
        self._accepting: dict[socket, StreamPort] = {}
        self._answering: dict[socket, tuple[UdpProxy, FrontPort]] = {}
        #: Duplicates of sockets that are going to be served.
        self._ready: dict[socket, socket] = {}
        connections.full_changed = self._pause

    def prepare(self, sockets: Iterable[Bound]) -> None:
        """Have a descriptor ready for each of them that may need one to be served; raises OSError."""
        for bound in sockets:
            if bound.socket not in self._accepting:
                self._ready[bound.socket] = bound.socket.dup()

    def forget(self) -> None:
        """Close those that nobody has needed."""
        while self._ready:
            self._ready.popitem()[1].close()

    def serve(self, sockets: Iterable[Bound]) -> None:
        """Let clients in on these, too, or as their listeners are now."""
        for bound in sockets:
            if isinstance(bound.listener, UdpListener):
                self._answer(bound)
            else:
                self._accept(bound)

    def leave(self, sockets: Iterable[Bound]) -> None:
        """Let nobody in on these any more; those who came stay, and datagrams are still answered."""
        for bound in sockets:
            if bound.socket in self._accepting:
                self._accepting.pop(bound.socket).stopListening()
            elif bound.socket in self._answering:
                self._answering[bound.socket][1].stopReading()

    def drop(self, sockets: Iterable[Bound]) -> None:
        """Let nobody in on these any more, and answer nobody there."""
        for bound in sockets:
            if bound.socket in self._answering:
                self._answer_no_more(bound.socket)
            else:
                self.leave([bound])

    def stop(self) -> list[Deferred[Any]]:
        """Let nobody in over streams any more; each fires when a port is closed."""
        ports, self._accepting = self._accepting, {}
        return [maybeDeferred(port.stopListening) for port in ports.values()]

    def _accept(self, bound: Bound) -> None:
        factory = self._fronts.factory(bound.listener.name)
        port = self._accepting.get(bound.socket)
        if port is None:
            self._accepting[bound.socket] = port = listen_stream(
                self._streams, bound, self._own(bound.socket), factory, self._room
            )
        else:
            port.hand_over(bound.listener.name, factory)
        if self._room() > 0:
            port.startReading()
        else:
            port.stopReading()

    def _answer(self, bound: Bound) -> None:
        proxy = self._fronts.proxy(bound.listener.name)
        if bound.socket in self._answering and self._answering[bound.socket][0] is not proxy:
            self._answer_no_more(bound.socket)
        if bound.socket not in self._answering:
            self._answering[bound.socket] = proxy, listen_udp(self._streams, self._own(bound.socket), proxy)
        self._answering[bound.socket][1].startReading()

    def _answer_no_more(self, sock: socket) -> None:
        proxy, port = self._answering.pop(sock)
        proxy.leave(port)

    def _own(self, sock: socket) -> socket:
        return self._ready.pop(sock, None) or sock.dup()

    def _room(self) -> int:
        return self._connections.limit - len(self._connections)

    def _pause(self, full: bool) -> None:
        for port in self._accepting.values():
            port.stopReading() if full else port.startReading()
