"""How does a client get to a server that takes it?

The one retry loop of everything that is a stream: acquire, connect and, when that fails, try elsewhere, within the
listener's limits and never the same server twice.  Whoever asks hears once: `connected` with an established protocol (over
TLS that means verified), or `failed`.  The lease of the present try is `lease`; the asker gives it its verdict once the
server has been reached, and the loop gives it while connecting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pylb.balance.pool import Lease, NoServerAvailable, Pool
from pylb.balance.request import Request
from pylb.balance.server import Server
from pylb.proxy.connections import set_options
from pylb.proxy.deadline import Deadlines
from pylb.proxy.dial import Dial, ServerSide, UpstreamError

if TYPE_CHECKING:
    from pylb.proxy.accesslog import Record, Try
    from pylb.proxy.tls import ClientTLS

__all__ = ["Attempts", "Limits", "Upstream"]


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


@dataclass(frozen=True)
class Upstream:
    """A pool as one listener uses it."""

    #: IReactorTime, IReactorTCP and, for Unix sockets, IReactorUNIX.
    reactor: Any
    pool: Pool
    limits: Limits
    clock: Callable[[], float]
    tls: ClientTLS | None = None

    @cached_property
    def deadlines(self) -> Deadlines:
        """Of all that has to do with its servers."""
        return Deadlines(self.reactor, self.clock)

    def attempts(self, request: Request, record: Record) -> Attempts:
        """A search on behalf of one client; every try is noted in `record`."""
        return Attempts(self, request, record)


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

    def __init__(self, upstream: Upstream, request: Request, record: Record) -> None:
        #: Held from the first try until `stop`; between two tries the old one is released.
        self.lease: Lease | None = None
        self._upstream = upstream
        self._request = request
        self._record = record
        self._dial: Dial | None = None
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
        upstream = self._upstream
        self._tried_at = upstream.clock()
        self._dial = Dial(
            self, server, upstream.reactor, upstream.deadlines, upstream.limits.connect_timeout, upstream.tls
        )
        self._dial.start()

    def reached(self, protocol: ServerSide) -> None:
        """The dial's: the server is there."""
        self._dial = None
        if self._try is not None:
            self._try.connect_time = self._upstream.clock() - self._tried_at
        limits = self._upstream.limits
        set_options(protocol.transport, nodelay=limits.tcp_nodelay, keepalive=limits.keepalive)
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
