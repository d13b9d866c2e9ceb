"""What do all connections of one HTTP listener share?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory

from pylb.model import HttpListener
from pylb.proxy.accesslog import AccessLog, NullLog
from pylb.proxy.connections import Connections
from pylb.proxy.deadline import Deadlines
from pylb.proxy.handshakes import FailedHandshakes
from pylb.proxy.http.ask import Ask
from pylb.proxy.http.client import ClientConnection
from pylb.proxy.http.forwarded import TrustedProxies
from pylb.proxy.http.head import RequestHead, parse_request
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.http.kept import Kept
from pylb.proxy.http.routes import RouteTable
from pylb.proxy.http.upstream import HttpUpstream
from pylb.proxy.upstream import Upstream

__all__ = ["HttpFactory"]


class HttpFactory(ServerFactory):
    """Makes the client side of a `protocol: http` listener; works on any stream endpoint and any reactor.

    `upstreams` and `idle` are by pool name: how this listener uses a pool, and the idle connections of the pool, which
    all its listeners share.
    """

    noisy = False

    def __init__(
        self,
        spec: HttpListener,
        upstreams: Mapping[str, Upstream],
        idle: Mapping[str, IdleConnections],
        reactor: IReactorTime,
        clock: Callable[[], float],
        connections: Connections,
        access_log: AccessLog | NullLog,
        trusted: TrustedProxies | None = None,
    ) -> None:
        self.deadlines = Deadlines(reactor, clock)
        self.clock = clock
        self.connections = connections
        self.access_log = access_log
        self.failed_handshakes = FailedHandshakes(spec.name, clock)
        self.use(spec, upstreams, idle, trusted or TrustedProxies())

    def use(
        self,
        spec: HttpListener,
        upstreams: Mapping[str, Upstream],
        idle: Mapping[str, IdleConnections],
        trusted: TrustedProxies,
    ) -> None:
        """Serve so from the next request on, of clients that are connected, too."""
        self.spec = spec
        self.trusted = trusted
        self._routes = RouteTable(spec.routes)
        self._upstreams = {
            name: HttpUpstream(
                upstream=upstream,
                idle=idle[name],
                send_timeout=spec.send_timeout,
                read_timeout=spec.read_timeout,
            )
            for name, upstream in upstreams.items()
        }
        #: What requests asked that have come before, by their heads with the blank line.
        self.known = Kept[Ask]()

    def retire(self) -> None:
        """Let those that are connected have one more answer, and no more."""
        self.spec = replace(self.spec, keepalive_timeout=0.0)

    def buildProtocol(self, addr: object) -> ClientConnection:
        return ClientConnection(self)

    def ask(self, head: bytes) -> Ask:
        """What a request with this head asks (see `parse_request`); raises BadHead."""
        whole = head + b"\r\n"
        return self.known.get(whole) or self.known.keep(whole, self._read(head))

    def may_keep(self, head: RequestHead) -> bool:
        """Whether a client that asked so may ask again on its connection."""
        return head.keep_alive and not self.connections.draining and self.spec.keepalive_timeout > 0

    def _read(self, data: bytes) -> Ask:
        head = parse_request(data)
        name = self._routes.find(head.host, head.path)
        return Ask(head, None if name is None else self._upstreams[name], self.spec.client_max_body_size)
