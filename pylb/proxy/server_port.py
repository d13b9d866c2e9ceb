"""How is a server spoken to in datagrams?

- A server port is one connected socket towards one server, which hears nobody else.  It outlives "port unreachable", which
  Twisted's own port does not under epoll (an error without data looks like the end of a connection there, Twisted #5377),
  and tells its session instead.
- It reads a bounded number of datagrams a turn of the reactor, and reads on only while more is to be expected: to learn
  that nothing is there costs as much as a datagram does.
- It serves one session and is never used again: what its server still sends would reach another client.
- No error of a socket is raised into the reactor.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Protocol

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.model import InetAddress
from pylb.proxy.front_port import MAX_DATAGRAM

__all__ = ["PASSING", "REPLIES_A_TURN", "ServerPort", "ServerSession"]

#: Of the server of one session.
REPLIES_A_TURN = 8

#: Errors that concern one datagram and say nothing of who should have received it.  A full conntrack table is EPERM.
PASSING = frozenset({errno.EAGAIN, errno.EINTR, errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM})


class ServerSession(Protocol):
    """What a server port tells."""

    def reply_arrived(self, datagram: bytes) -> bool:
        """The server sent `datagram`; whether more is to be expected, now."""

    def refused(self, reason: str) -> None:
        """The server cannot be reached, it has no such port for instance."""


@implementer(IReadDescriptor)
class ServerPort:
    """One socket connected to the server at `address`, a literal one, that reads as soon as it exists.

    Raises OSError when there is no descriptor or no way to the server.
    """

    __slots__ = ("_reactor", "_reading", "_session", "_socket", "fileno", "send")

    def __init__(self, reactor: IReactorFDSet, session: ServerSession, address: InetAddress) -> None:
        self._reactor = reactor
        self._session = session
        host = address.host
        self._socket = sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.fileno = sock.fileno
        #: Sends one datagram; raises OSError, also for what became of the datagrams before.
        self.send = sock.send
        try:
            sock.setblocking(False)
            sock.connect((host, address.port))
            reactor.addReader(self)
        except OSError:
            sock.close()
            raise
        self._reading = True

    def logPrefix(self) -> str:
        return "UDP session"

    def doRead(self) -> None:
        receive = self._socket.recv
        arrived = self._session.reply_arrived
        error = 0
        for _ in range(REPLIES_A_TURN):
            try:
                datagram = receive(MAX_DATAGRAM)
            except BlockingIOError:
                break
            except OSError as problem:
                error = problem.errno or 0  # what came before the error is still to be read
                continue
            if not (arrived(datagram) and self._reading):
                break
        if error:
            self._report(error)

    def connectionLost(self, reason: Failure) -> None:
        """epoll saw an error and nothing to read, or the reactor ends."""
        if not self._reading:
            return
        if reason.check(ConnectionLost):
            self.close()
            return
        self._reactor.addReader(self)
        self._report(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _report(self, error: int) -> None:
        if self._reading and error and error not in PASSING:
            self._session.refused(os.strerror(error))

    def retire(self) -> None:
        """Read nothing more.  The descriptor stays taken until `close`."""
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)

    def close(self) -> None:
        """Give the descriptor back.

        An event for it may be in the batch that the reactor hands out now, and would hit whoever gets the number next.
        Where many sockets are made, as for clients, `retire` first, and close when the batch is over.
        """
        self.retire()
        self._socket.close()
