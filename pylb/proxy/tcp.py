"""Who serves the clients of a TCP listener?  A session for each (`tcp_session.py`), with an end towards either side."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory

from pylb.model import TcpListener
from pylb.proxy.accesslog import AccessLog, NullLog
from pylb.proxy.connections import Connections
from pylb.proxy.deadline import Deadlines
from pylb.proxy.handshakes import FailedHandshakes
from pylb.proxy.tcp_end import ClientEnd
from pylb.proxy.tcp_session import Session
from pylb.proxy.upstream import Upstream

__all__ = ["TcpFactory"]


class TcpFactory(ServerFactory):
    """Makes the client side of a `protocol: tcp` listener; works on any stream endpoint and any reactor."""

    noisy = False

    def __init__(
        self,
        spec: TcpListener,
        upstream: Upstream,
        reactor: IReactorTime,
        clock: Callable[[], float],
        connections: Connections,
        access_log: AccessLog | NullLog,
    ) -> None:
        self.use(spec, upstream)
        self.deadlines = Deadlines(reactor, clock)
        self.clock = clock
        self.connections = connections
        self.access_log = access_log
        self.failed_handshakes = FailedHandshakes(spec.name, clock)

    def use(self, spec: TcpListener, upstream: Upstream) -> None:
        """Serve so the clients that come from now on; those that are there have the new times, too."""
        self.spec = spec
        self.upstream = upstream

    def buildProtocol(self, addr: object) -> ClientEnd:
        return ClientEnd(self)

    def session(self, client: ClientEnd, encrypted: bool) -> Session:
        """What a client that is connected, over TLS or not, has from now on."""
        return Session(client, encrypted, self)
