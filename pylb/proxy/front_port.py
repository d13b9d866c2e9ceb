"""How do clients' datagrams enter the process, and answers leave it?

- A front port reads what clients send and answers from the address they spoke to.  On a wildcard socket the kernel has to
  be asked for that address (packet info); a socket bound to one address does not pay for it.  Where the platform has no
  packet info, the kernel chooses the address.
- A datagram is whole or absent: up to 65,535 bytes are read, more than UDP over IPv4 (65,507) can carry.
- A port reads a bounded number of datagrams a turn of the reactor, so that a flood leaves the others theirs.
- No error of a socket is raised into the reactor.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from twisted.internet import udp
from twisted.internet.base import BasePort
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import DatagramProtocol
from twisted.python import log

__all__ = [
    "MAX_DATAGRAM",
    "READS_A_TURN",
    "Client",
    "FrontPort",
    "Origin",
    "front_port",
]

MAX_DATAGRAM = 65535
#: Of clients, on one listening socket.
READS_A_TURN = 32

#: A client's address as the socket gives it: (host, port), for IPv6 (host, port, flow, scope id).
Client: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"

#: Who sent a datagram and, where that can differ, the address it was sent to.  What it looks like is its port's business.
Origin: TypeAlias = "Client | tuple[Client, bytes | None]"


@dataclass(frozen=True, slots=True)
class _PacketInfo:
    """Where one address family's packet info holds the local address, and how to send from it.

    The interface is left out of what is sent: the route to the client decides, as it does without packet info.
    """

    level: int
    receive: int
    kind: int
    size: int
    address: slice

    def enable(self, sock: socket.socket) -> bool:
        try:
            sock.setsockopt(self.level, self.receive, 1)
        except OSError:
            return False
        return True

    def source(self, address: bytes) -> bytes:
        """The packet info that makes a datagram leave from `address`."""
        return bytes(self.address.start) + address + bytes(self.size - self.address.stop)


def _packet_infos() -> Iterator[tuple[int, _PacketInfo]]:
    if sys.platform == "linux":
        # struct in_pktinfo: interface, the local address to answer from (also after a broadcast), destination.
        ip_pktinfo = 8  # not in Python 3.11's socket module
        yield socket.AF_INET, _PacketInfo(socket.IPPROTO_IP, ip_pktinfo, ip_pktinfo, 12, slice(4, 8))
    if hasattr(socket, "IPV6_RECVPKTINFO"):
        # struct in6_pktinfo: address, interface.
        receive, kind = socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO
        yield socket.AF_INET6, _PacketInfo(socket.IPPROTO_IPV6, receive, kind, 20, slice(0, 16))


_PACKET_INFO = dict(_packet_infos())


class ClientSide(Protocol):
    """What a front port tells; its protocol is also a `DatagramProtocol`."""

    def datagram_arrived(self, datagram: bytes, origin: Origin) -> None:
        """A client sent `datagram`."""


class FrontPort(udp.Port):
    """The reading and answering end of `sock`, a bound socket that it closes in the end."""

    #: Reads one datagram: (datagram, origin).  Raises OSError when there is none.
    receive: Callable[[], tuple[bytes, Any]]
    #: Sends a datagram back to where another came from.  Raises OSError when the kernel does not take it.
    send: Callable[[bytes, Any], object]
    #: Fires when it has closed.
    d: Deferred[None] | None = None

    def __init__(self, reactor: IReactorFDSet, sock: socket.socket, protocol: DatagramProtocol) -> None:
        super().__init__(None, protocol, sock.getsockname()[0], MAX_DATAGRAM, reactor)
        sock.setblocking(False)
        self.socket = sock
        self._use(sock)

    def _use(self, sock: socket.socket) -> None:
        self.receive = partial(sock.recvfrom, MAX_DATAGRAM)
        self.send = sock.sendto

    def startListening(self) -> None:
        self._realPortNumber = self.socket.getsockname()[1]
        self.fileno = self.socket.fileno
        self.connected = True
        self._connectToProtocol()

    def connectionLost(self, reason: Any = None) -> None:
        # Not super(): udp.Port's would log a line, and which ports there are the operator hears from pylb.announce.
        BasePort.connectionLost(self, reason)
        self.protocol.doStop()
        self.socket.close()
        closed, self.d = self.d, None
        if closed is not None:
            closed.callback(None)

    def doRead(self) -> None:
        receive = self.receive
        arrived = self.protocol.datagram_arrived
        for _ in range(READS_A_TURN):
            try:
                datagram, origin = receive()
            except OSError:
                return
            try:
                arrived(datagram, origin)
            except Exception:
                log.err(None, "a datagram could not be forwarded")

    def client(self, origin: Any) -> Client:
        """The client's address."""
        return origin

    def local_end(self, origin: Any) -> tuple[str, int | None]:
        """The address and port that the client spoke to."""
        return self.interface, self._realPortNumber

    def is_self(self, origin: Any) -> bool:
        """Whether a datagram claims to come from this very port: the answer would be the next question, for ever."""
        return origin[:2] == (self.interface, self._realPortNumber)


class WildcardPort(FrontPort):
    """A front port that hears from the kernel which local address a client spoke to.

    An origin is the client's address, and the packet info that makes an answer leave from where it spoke to, or None.
    """

    def __init__(
        self, reactor: IReactorFDSet, sock: socket.socket, protocol: DatagramProtocol, info: _PacketInfo
    ) -> None:
        self._info = info
        super().__init__(reactor, sock, protocol)

    def _use(self, sock: socket.socket) -> None:
        self.receive = partial(self._receive, partial(sock.recvmsg, MAX_DATAGRAM, 64))
        self.send = partial(self._send, sock)

    def _receive(self, receive: Callable[[], Any]) -> tuple[bytes, tuple[Client, bytes | None]]:
        info = self._info
        datagram, ancillary, _, client = receive()
        for level, kind, data in ancillary:
            if kind == info.kind and level == info.level:
                address = data[info.address]
                # Nothing can be sent from a multicast address, which IPv6's info may hold: the kernel then chooses.
                return datagram, (client, None if address[0] == 0xFF else info.source(address))
        return datagram, (client, None)

    def _send(self, sock: socket.socket, datagram: bytes, origin: tuple[Client, bytes | None]) -> None:
        client, local = origin
        if local is None:
            sock.sendto(datagram, client)
        else:
            sock.sendmsg((datagram,), ((self._info.level, self._info.kind, local),), 0, client)

    def client(self, origin: tuple[Client, bytes | None]) -> Client:
        return origin[0]

    def local_end(self, origin: tuple[Client, bytes | None]) -> tuple[str, int | None]:
        local = origin[1]
        if local is None:
            return super().local_end(origin)
        return socket.inet_ntop(self.addressFamily, local[self._info.address]), self._realPortNumber

    def is_self(self, origin: tuple[Client, bytes | None]) -> bool:
        client, local = origin
        return (
            client[1] == self._realPortNumber
            and self._info.source(socket.inet_pton(self.addressFamily, client[0])) == local
        )


def front_port(reactor: IReactorFDSet, sock: socket.socket, protocol: DatagramProtocol) -> FrontPort:
    """The port for `sock`, a bound datagram socket that it closes in the end; `protocol` is also a `ClientSide`."""
    info = _PACKET_INFO.get(sock.family)
    if info is not None and sock.getsockname()[0] in ("0.0.0.0", "::") and info.enable(sock):
        return WildcardPort(reactor, sock, protocol, info)
    return FrontPort(reactor, sock, protocol)
