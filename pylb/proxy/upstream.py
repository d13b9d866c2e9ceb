"""How does a client get to a server that takes it?

The one retry loop of everything that is a stream: acquire, connect and, when that fails, try elsewhere, within the
listener's limits and never the same server twice.  Whoever asks hears once: `connected` with an established protocol (over
TLS that means verified), or `failed`.  The lease of the present try is `lease`; the asker gives it its verdict once the
server has been reached, and the loop gives it while connecting.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IConnector, IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.balance.pool import Lease, NoServerAvailable, Pool
from pylb.balance.server import Server
from pylb.model import InetAddress
from pylb.proxy.connections import set_options
from pylb.proxy.deadline import Deadline

if TYPE_CHECKING:
    from pylb.proxy.accesslog import Record, Try
    from pylb.proxy.tls import ClientTLS

__all__ = ["Attempts", "Limits", "ServerSide", "Upstream", "UpstreamError"]

#: Errors of connecting that are this machine's fault, so that no server is blamed and no other tried.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class UpstreamError(Exception):
    """A server could not be reached."""

    def __init__(self, reason: str, *, timed_out: bool = False, ours: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        #: The failure is this machine's (no descriptors, no ports), not the server's.
        self.ours = ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a listener allows; times in seconds, 0 is no limit, `tries` counts the first one."""

    connect_timeout: float = 3.0
    tries: int = 0
    timeout: float = 0.0
    #: Which failures to connect are tried elsewhere.
    next_upstream: frozenset[str] = frozenset({"error", "timeout"})
    tcp_nodelay: bool = True
    keepalive: bool = False


@dataclass(frozen=True, slots=True)
class Upstream:
    """A pool as one listener uses it."""

    #: IReactorTime, IReactorTCP and, for Unix sockets, IReactorUNIX.
    reactor: Any
    pool: Pool
    limits: Limits
    clock: Callable[[], float]
    tls: ClientTLS | None = None

    def attempts(self, request: object | None, record: Record) -> Attempts:
        """A search on behalf of one client; every try is noted in `record`."""
        return Attempts(self, request, record)


@implementer(IHandshakeListener)
class ServerSide(Protocol):
    """Base of the protocols that face a server: override `established` and `lost`, not Twisted's two."""

    #: There whenever a protocol is called, which Twisted's type cannot say.
    transport: Any
    dial: _Dial | None = None

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

    def established(self) -> None:
        """The server is reached and, over TLS, verified: `transport` may be used."""

    def lost(self, reason: Failure) -> None:
        """The connection is gone.  Only after `established`."""


class _Dial(ClientFactory):
    """One try to reach one server; tells its owner once, unless it is stopped before."""

    noisy = False

    def __init__(self, upstream: Upstream, server: Server, owner: Attempts) -> None:
        self.encrypted = upstream.tls is not None
        self._upstream = upstream
        self._server = server
        self._owner: Attempts | None = owner
        timeout = upstream.limits.connect_timeout
        self._deadline = Deadline(upstream.reactor, upstream.clock, self._expired)
        self._deadline.set(timeout)
        self._connector: IConnector | None = None

    def start(self) -> None:
        try:
            self._connector = self._connect()
        except Exception:
            # No descriptor for a Unix socket, a zone that does not exist in an IPv6 address, a name that TLS cannot take.
            self._fail(Failure())

    def _connect(self) -> IConnector:
        upstream, address = self._upstream, self._server.address
        factory = upstream.tls.over(self, self._server, upstream.reactor) if upstream.tls is not None else self
        if isinstance(address, InetAddress):
            return upstream.reactor.connectTCP(address.host, address.port, factory, timeout=None)
        return upstream.reactor.connectUNIX(address.path, factory, timeout=None)

    def buildProtocol(self, addr: object) -> ServerSide:
        assert self._owner is not None
        protocol = self._owner.build()
        protocol.dial = self
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._fail(reason)

    def reached(self, protocol: ServerSide) -> None:
        """The server is there and, over TLS, is who it should be."""
        owner = self._finish()
        if owner is None:
            return
        protocol.dial = None
        limits = self._upstream.limits
        set_options(protocol.transport, nodelay=limits.tcp_nodelay, keepalive=limits.keepalive)
        protocol.established()
        owner.reached(protocol)

    def refused(self, reason: Failure) -> None:
        """The connection ended before it was established."""
        self._fail(reason)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._finish()
        if self._connector is not None:
            self._connector.disconnect()

    def _expired(self) -> None:
        owner = self._owner
        self.stop()
        if owner is not None:
            owner.missed(UpstreamError("timed out while connecting", timed_out=True))

    def _fail(self, reason: Failure) -> None:
        owner = self._finish()
        if owner is not None:
            owner.missed(_explain(reason))

    def _finish(self) -> Attempts | None:
        owner, self._owner = self._owner, None
        self._deadline.stop()
        return owner


def _explain(reason: Failure) -> UpstreamError:
    error = reason.value
    code = getattr(error, "osError", None) or getattr(error, "errno", None)
    text = reason.getErrorMessage() or type(error).__name__
    return UpstreamError(text.strip().rstrip("."), ours=isinstance(error, ConnectError | OSError) and code in _OURS)


class Attempts:
    """One client's search for a server."""

    __slots__ = (
        "_connected",
        "_dial",
        "_failed",
        "_record",
        "_request",
        "_started",
        "_take_idle",
        "_tried_at",
        "_tries",
        "_try",
        "_upstream",
        "build",
        "lease",
    )

    def __init__(self, upstream: Upstream, request: object | None, record: Record) -> None:
        #: Held from the first try until `stop`; between two tries the old one is released.
        self.lease: Lease | None = None
        self._upstream = upstream
        self._request = request
        self._record = record
        self._dial: _Dial | None = None
        self._try: Try | None = None
        self._tries = 0

    def start(
        self,
        build: Callable[[], ServerSide],
        connected: Callable[[ServerSide], None],
        failed: Callable[[Exception], None],
        take_idle: Callable[[Server], ServerSide | None] | None = None,
    ) -> None:
        """Look for a server.

        `build` makes the protocol for a new connection, `take_idle` hands out an established one to the server if there is
        one.  `failed` gets NoServerAvailable or, when servers were tried, the UpstreamError of the last; no lease is held
        then.  Either may be called before this returns.
        """
        self.build = build
        self._connected = connected
        self._failed = failed
        self._take_idle = take_idle
        self._started = self._upstream.clock()
        try:
            lease = self._upstream.pool.acquire(self._request)
        except NoServerAvailable as error:
            failed(error)
        else:
            self._use(lease)

    def again(self, failure: str | None = None) -> bool:
        """Leave the present server and try another.

        The caller has given its verdict, or passes it as `failure`: then it holds only if another server takes over.
        False when limits or the pool do not allow it: nothing has changed then and the present lease is still held.
        """
        limits = self._upstream.limits
        if limits.tries and self._tries >= limits.tries:
            return False
        if limits.timeout and self._upstream.clock() - self._started >= limits.timeout:
            return False
        try:
            lease = self._upstream.pool.acquire(self._request, after=self.lease)
        except NoServerAvailable:
            return False
        if failure is not None and self.lease is not None:
            self.lease.failed(failure)
        self._release()
        self._use(lease)
        return True

    def fresh(self) -> None:
        """Reach the present server once more over a new connection: a kept one had gone stale."""
        assert self.lease is not None
        self._connect(self.lease.server)

    def stop(self) -> None:
        """The client needs no server any more: give up connecting and release the lease."""
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.stop()
        self._release()

    def _use(self, lease: Lease) -> None:
        self.lease = lease
        self._tries += 1
        self._try = self._record.tried(lease.server.name)
        idle = self._take_idle(lease.server) if self._take_idle is not None else None
        if idle is None:
            self._connect(lease.server)
        else:
            self._try.connect_time = 0.0
            self._connected(idle)

    def _connect(self, server: Server) -> None:
        self._tried_at = self._upstream.clock()
        self._dial = _Dial(self._upstream, server, self)
        self._dial.start()

    def reached(self, protocol: ServerSide) -> None:
        """The dial's: the server is there."""
        self._dial = None
        if self._try is not None:
            self._try.connect_time = self._upstream.clock() - self._tried_at
        self._connected(protocol)

    def missed(self, error: UpstreamError) -> None:
        """The dial's: the server is not there."""
        self._dial = None
        if self._try is not None:
            self._try.status = 504 if error.timed_out else 502
        if not error.ours and self.lease is not None:
            self.lease.failed(str(error))
            kind = "timeout" if error.timed_out else "error"
            if kind in self._upstream.limits.next_upstream and self.again():
                return
        self._release()
        self._failed(error)

    def _release(self) -> None:
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.release()
