"""How is one server reached, and when is it?

Over TLS a server is reached once it is verified, not before.  Whoever dials hears once, unless it stops the dial: of a
protocol that may be used, or of an `UpstreamError`, which knows whose fault it was.
"""

from __future__ import annotations

import errno
import typing
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IConnector, IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.balance.server import Server
from pylb.model import InetAddress

if TYPE_CHECKING:
    from pylb.proxy.tls import ClientTLS

__all__ = ["OWN_FAULTS", "Dial", "Dialler", "ServerSide", "UpstreamError"]

#: What is this machine's fault, not the server's, when a socket towards it cannot be made or connected: it has no
#: descriptor, no memory, or no local port (EADDRNOTAVAIL and EAGAIN) left.
OWN_FAULTS = frozenset({errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class UpstreamError(Exception):
    """A server could not be reached."""

    def __init__(self, reason: str, *, timed_out: bool = False, ours: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        #: The failure is one of OWN_FAULTS.
        self.ours = ours


@implementer(IHandshakeListener)
class ServerSide(Protocol):
    """Base of the protocols that face a server: override `lost`, not Twisted's `connectionMade` and `connectionLost`."""

    #: There whenever a protocol is called, which Twisted's type cannot say.
    transport: Any
    dial: Dial | None = None

    def connectionMade(self) -> None:
        if self.dial is not None and not self.dial.encrypted:
            self.dial.reached(self)

    def handshakeCompleted(self) -> None:
        if self.dial is not None:
            self.dial.reached(self)

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        dial, self.dial = self.dial, None
        if dial is None:
            self.lost(reason)
        else:
            dial.refused(reason)

    def lost(self, reason: Failure) -> None:
        """The connection is gone.  Only after the server was reached."""


class Dialler(typing.Protocol):
    """Whoever dials: hears one of `reached` and `missed`."""

    def build(self) -> ServerSide:
        """A protocol for a connection."""

    def reached(self, protocol: ServerSide) -> None:
        """The server is there: `protocol` may be used."""

    def missed(self, error: UpstreamError) -> None:
        """The server is not there."""


class Dial(ClientFactory):
    """One try to reach one server; how long it may take is the dialler's business.

    `reactor` is IReactorTime, IReactorTCP and, for Unix sockets, IReactorUNIX.
    """

    noisy = False

    def __init__(self, dialler: Dialler, server: Server, reactor: Any, tls: ClientTLS | None = None) -> None:
        self.encrypted = tls is not None
        #: Who hears of it; may be replaced until then.
        self.dialler: Dialler | None = dialler
        self._server = server
        self._reactor = reactor
        self._tls = tls
        self._connector: IConnector | None = None

    def start(self) -> None:
        try:
            self._connector = self._connect()
        except Exception:
            # No descriptor for a Unix socket, a zone that does not exist in an IPv6 address, a name that TLS cannot take.
            self.refused(Failure())

    def _connect(self) -> IConnector:
        address = self._server.address
        factory = self if self._tls is None else self._tls.over(self, self._server, self._reactor)
        if isinstance(address, InetAddress):
            return self._reactor.connectTCP(address.host, address.port, factory, timeout=None)
        return self._reactor.connectUNIX(address.path, factory, timeout=None)

    def buildProtocol(self, addr: object) -> ServerSide:
        assert self.dialler is not None
        protocol = self.dialler.build()
        protocol.dial = self
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self.refused(reason)

    def reached(self, protocol: ServerSide) -> None:
        """The server is there and, over TLS, is who it should be."""
        dialler = self._finish()
        if dialler is not None:
            protocol.dial = None
            dialler.reached(protocol)

    def refused(self, reason: Failure) -> None:
        """There was no connection, or it ended before the server was reached."""
        dialler = self._finish()
        if dialler is not None:
            dialler.missed(_explain(reason))

    def stop(self) -> None:
        """Nobody waits any more."""
        connector = self._connector
        self._finish()
        if connector is not None:
            connector.disconnect()

    def _finish(self) -> Dialler | None:
        dialler, self.dialler, self._connector = self.dialler, None, None
        return dialler


def _explain(reason: Failure) -> UpstreamError:
    error = reason.value
    code = getattr(error, "osError", None) or getattr(error, "errno", None)
    text = reason.getErrorMessage() or type(error).__name__
    return UpstreamError(
        text.strip().rstrip("."), ours=isinstance(error, ConnectError | OSError) and code in OWN_FAULTS
    )
