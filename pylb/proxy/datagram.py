"""How do datagrams enter and leave the process?

- A front port reads what clients send and answers from the address they spoke to.  On a wildcard socket the kernel has to
  be asked for that address (packet info); a socket bound to one address does not pay for it.  Where the platform has no
  packet info, the kernel chooses the address.
- A server port is one connected socket towards one server.  It outlives "port unreachable", which Twisted's own port
  does not under epoll (an error without data looks like the end of a connection there, Twisted #5377), and tells its
  session instead.
- A datagram is whole or absent: up to 65,535 bytes are read, more than UDP over IPv4 (65,507) can carry.
- A port reads a bounded number of datagrams a turn of the reactor, so that a flood leaves the others theirs.
- No error of a socket is raised into the reactor.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from twisted.internet import udp
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import DatagramProtocol
from twisted.python import log
from twisted.python.failure import Failure

from pylb.model import InetAddress

__all__ = [
    "MAX_DATAGRAM",
    "PASSING",
    "READS_A_TURN",
    "Client",
    "FrontPort",
    "ServerPort",
    "ServerSession",
    "front_port",
]

MAX_DATAGRAM = 65535
READS_A_TURN = 32

#: Errors that concern one datagram and say nothing of who should have received it.  A full conntrack table is EPERM.
PASSING = frozenset({errno.EAGAIN, errno.EINTR, errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM})

#: A client's address as the socket gives it: (host, port), for IPv6 (host, port, flow, scope id).
Client: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"


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

    def datagram_arrived(self, datagram: bytes, client: Client, local: bytes | None) -> None:
        """A client sent `datagram`.  `local` names the address it was sent to, where that can differ; it is opaque."""


class FrontPort(udp.Port):
    """The reading and answering end of a bound socket, of which it keeps a duplicate."""

    def __init__(self, reactor: IReactorFDSet, sock: socket.socket, protocol: DatagramProtocol) -> None:
        super().__init__(None, protocol, sock.getsockname()[0], MAX_DATAGRAM, reactor)
        self._preexistingSocket = sock.dup()
        self._preexistingSocket.setblocking(False)

    def doRead(self) -> None:
        receive = self._receive
        arrived = self.protocol.datagram_arrived
        for _ in range(READS_A_TURN):
            try:
                datagram, client, local = receive()
            except OSError:
                return
            try:
                arrived(datagram, client, local)
            except Exception:
                log.err(None, "a datagram could not be forwarded")

    def _receive(self) -> tuple[bytes, Client, bytes | None]:
        datagram, client = self.socket.recvfrom(MAX_DATAGRAM)
        return datagram, client, None

    def reply(self, datagram: bytes, client: Client, local: bytes | None) -> bool:
        """Send `datagram` from the address that `local` names; whether the kernel took it."""
        try:
            self.socket.sendto(datagram, client)
        except OSError:
            return False
        return True

    def local_end(self, local: bytes | None) -> tuple[str, int | None]:
        """The address that `local` names, and the port."""
        return self.interface, self._realPortNumber

    def is_self(self, client: Client, local: bytes | None) -> bool:
        """Whether a datagram claims to come from this very port: the answer would be the next question, for ever."""
        return client[:2] == (self.interface, self._realPortNumber)


class WildcardPort(FrontPort):
    """A front port that hears from the kernel which local address a client spoke to."""

    def __init__(
        self, reactor: IReactorFDSet, sock: socket.socket, protocol: DatagramProtocol, info: _PacketInfo
    ) -> None:
        super().__init__(reactor, sock, protocol)
        self._info = info

    def _receive(self) -> tuple[bytes, Client, bytes | None]:
        info = self._info
        datagram, ancillary, _, client = self.socket.recvmsg(MAX_DATAGRAM, 64)
        for level, kind, data in ancillary:
            if kind == info.kind and level == info.level:
                address = data[info.address]
                # Nothing can be sent from a multicast address, which IPv6's info may hold: the kernel then chooses.
                return datagram, client, None if address[0] == 0xFF else info.source(address)
        return datagram, client, None

    def reply(self, datagram: bytes, client: Client, local: bytes | None) -> bool:
        if local is None:
            return super().reply(datagram, client, local)
        try:
            self.socket.sendmsg((datagram,), ((self._info.level, self._info.kind, local),), 0, client)
        except OSError:
            return False
        return True

    def local_end(self, local: bytes | None) -> tuple[str, int | None]:
        if local is None:
            return super().local_end(local)
        return socket.inet_ntop(self.addressFamily, local[self._info.address]), self._realPortNumber

    def is_self(self, client: Client, local: bytes | None) -> bool:
        return (
            client[1] == self._realPortNumber
            and self._info.source(socket.inet_pton(self.addressFamily, client[0])) == local
        )


def front_port(reactor: IReactorFDSet, sock: socket.socket, protocol: DatagramProtocol) -> FrontPort:
    """The port for `sock`, a bound datagram socket; `protocol` is also a `ClientSide`."""
    info = _PACKET_INFO.get(sock.family)
    if info is not None and sock.getsockname()[0] in ("0.0.0.0", "::") and info.enable(sock):
        return WildcardPort(reactor, sock, protocol, info)
    return FrontPort(reactor, sock, protocol)


class ServerSession(Protocol):
    """What a server port tells."""

    def reply_arrived(self, datagram: bytes) -> None:
        """The server sent `datagram`."""

    def refused(self, reason: str) -> None:
        """The server cannot be reached, it has no such port for instance."""


class ServerPort(udp.Port):
    """One socket connected to the server at `address`, a literal one, that reads as soon as it exists.

    Raises OSError when there is no descriptor or no way to the server.
    """

    logstr = "UDP session"

    def __init__(self, reactor: IReactorFDSet, session: ServerSession, address: InetAddress) -> None:
        super().__init__(None, session, "", MAX_DATAGRAM, reactor)
        self.addressFamily = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.socket = self.createInternetSocket()
        try:
            self.socket.connect((address.host, address.port))
            self.fileno = self.socket.fileno
            self.startReading()
        except OSError:
            self.socket.close()
            raise
        self.connected = True
        #: Sends one datagram; raises OSError, also for what became of the datagrams before.
        self.send = self.socket.send

    def setLogStr(self) -> None:
        """The prefix is the class's: looking one up for each session costs more than it tells."""

    def doRead(self) -> None:
        receive = self.socket.recv
        arrived = self.protocol.reply_arrived
        error = 0
        for _ in range(READS_A_TURN):
            try:
                datagram = receive(MAX_DATAGRAM)
            except BlockingIOError:
                break
            except OSError as problem:
                error = problem.errno or 0  # what came before the error is still to be read
                continue
            arrived(datagram)
            if not self.connected:
                return
        self._report(error)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """epoll saw an error and nothing to read, or the reactor ends."""
        if not self.connected:
            return
        if reason is not None and reason.check(ConnectionLost):
            self.close()
            return
        self.startReading()
        self._report(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _report(self, error: int) -> None:
        if error and error not in PASSING:
            self.protocol.refused(os.strerror(error))

    def retire(self) -> None:
        """Read nothing more.  The descriptor stays taken until `close`."""
        if self.connected:
            self.connected = False
            self.stopReading()

    def close(self) -> None:
        """Give the descriptor back.

        Not while the reactor hands out a batch of events: one for this descriptor may be among them, and would hit
        whoever gets the number next.
        """
        self.retire()
        self.protocol = None
        self.socket.close()
