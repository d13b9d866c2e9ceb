"""How does a client get to a server that takes it?

The one retry loop of everything that is a stream: acquire, connect and, when that fails, try elsewhere, within the
listener's limits and never the same server twice.  Whoever searches hears once: `connected` with an established protocol
(over TLS that means verified), or `unreachable`.  The lease of the present try is `lease`; who searches gives it its
verdict once the server has been reached, and the loop gives it while connecting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.queue import Place
from pylb.balance.server import Server
from pylb.proxy.connections import set_options
from pylb.proxy.deadline import Deadline, Deadlines
from pylb.proxy.dial import Dial, ServerSide, UpstreamError
from pylb.proxy.waiting import attend

if TYPE_CHECKING:
    from pylb.proxy.accesslog import Record, Try
    from pylb.proxy.tls import ClientTLS

__all__ = ["Attempts", "Limits", "Upstream"]


#: What counts as a server's failure unless the operator says what does.
_ALWAYS = frozenset({"error", "timeout", "invalid_header"})


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

    def __post_init__(self) -> None:
        attend(self.pool, self.reactor)

    @cached_property
    def blamed(self) -> frozenset[str]:
        """What counts as a server's failure where nothing came, or no answer."""
        fail_on = self.pool.spec.fail_on
        return _ALWAYS if fail_on is None else fail_on & _ALWAYS

    @cached_property
    def deadlines(self) -> Deadlines:
        """Of all that has to do with its servers."""
        return Deadlines(self.reactor, self.clock)


class Attempts:
    """One client's search for a server.  Whoever searches inherits from this, and says what it asks and what follows."""

    __slots__ = ("_deadline", "_dial", "_place", "_started", "_upstream", "attempt", "lease", "record")

    #: How the present try goes; once there is a lease.
    attempt: Try

    def __init__(self, upstream: Upstream, record: Record) -> None:
        """Every try is noted in `record`."""
        #: Held from the first try until `stop`; between two tries the old one is released.
        self.lease: Lease | None = None
        self.record = record
        self._upstream = upstream
        self._dial: Dial | None = None
        #: In the pool's queue, while it waits there.
        self._place: Place | None = None
        self._deadline: Deadline | None = None

    # What the client says.

    def variable(self, name: str) -> bytes:
        """What a balancing method or a session may ask (`pylb.balance.request.Request`)."""
        raise NotImplementedError

    def build(self) -> ServerSide:
        """A protocol for a new connection."""
        raise NotImplementedError

    def take_idle(self, server: Server) -> ServerSide | None:
        """An established connection to the server, if there is one."""

    def connected(self, side: ServerSide) -> None:
        """The server is there; may be called before `start` or `again` returns."""
        raise NotImplementedError

    def unreachable(self, error: Exception) -> None:
        """There is none, and no lease is held: NoServerAvailable or, when servers were tried, the UpstreamError of the last.

        May be called before `start` or `again` returns.
        """
        raise NotImplementedError

    def hurry(self, seconds: float) -> None:
        """Call `late` in so many seconds (0: never), unless `relax` is called before."""
        if seconds:
            self._deadline = Deadline(self._upstream.deadlines, self.late)
            self._deadline.set(seconds)

    def relax(self) -> None:
        """It is known whether the server is there."""
        if self._deadline is not None:
            self._deadline.end()
            self._deadline = None

    # What it can do.

    def start(self) -> None:
        """Look for a server."""
        try:
            lease = self._upstream.pool.acquire(self)
        except NoServerAvailable as error:
            if error.may_wait:
                self._line_up()
            else:
                self.unreachable(error)
        else:
            self._started = lease.picked
            self._use(lease)

    def _line_up(self) -> None:
        """Stand in the pool's queue."""
        queue = self._upstream.pool.queue
        assert queue is not None
        self._place = queue.join(self, self._upstream.clock())
        self.hurry(queue.spec.timeout)

    def served(self, lease: Lease) -> None:
        """The queue's: it is our turn."""
        self._waited()
        self._started = lease.picked
        self._use(lease)

    def refused(self, error: Exception) -> None:
        """The queue's: nobody will ever serve us."""
        self._waited()
        self.unreachable(error)

    def _waited(self) -> Place:
        """The place that was left."""
        place, self._place = self._place, None
        assert place is not None
        self.relax()
        self.record.queue_time = self._upstream.clock() - place.since
        return place

    def may_try_another(self) -> bool:
        """Whether the listener's limits allow one more try."""
        limits = self._upstream.limits
        if limits.tries and len(self.record.tries) >= limits.tries:
            return False
        return not limits.timeout or self._upstream.clock() - self._started < limits.timeout

    def again(self, failure: str | None = None, after: Lease | None = None) -> bool:
        """Leave the present server and try another, one that was not tried before this lease, or before `after`.

        The caller has given its verdict, or passes it as `failure`: then it holds only if another server takes over.
        False when limits or the pool do not allow it: nothing has changed then and the present lease is still held.
        """
        if not self.may_try_another():
            return False
        pool = self._upstream.pool
        try:
            lease = pool.acquire(self, after=after or self.lease)
        except NoServerAvailable:
            return False
        idle = self.take_idle(lease.server)
        if idle is None and pool.crowded:
            lease.release()
            return False
        if failure is not None and self.lease is not None:
            self.lease.failed(failure)
        self.stop()
        self._use(lease, idle)
        return True

    def fresh(self) -> None:
        """Reach the present server once more over a new connection: a kept one had gone stale."""
        assert self.lease is not None
        self.attempt.started = self._upstream.clock()
        self._connect(self.lease.server)

    def inherit(self, other: Attempts) -> None:
        """Go on where another search of the same client is, which is over then; this one must have stopped."""
        self.lease, other.lease = other.lease, None
        self.attempt = other.attempt
        self._dial, other._dial = other._dial, None
        self._deadline, other._deadline = other._deadline, None
        if self._dial is not None:
            self._dial.dialler = self
        if self._deadline is not None:
            self._deadline.expired = self.late

    def stop(self) -> None:
        """The client needs no server any more: give up connecting and release the lease."""
        if self._dial is not None:
            self._hang_up(self._dial)
        if self._place is not None:
            place, queue = self._waited(), self._upstream.pool.queue
            assert queue is not None
            queue.leave(place)
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.release()

    def _use(self, lease: Lease, idle: ServerSide | None = None) -> None:
        """Ask the server of `lease`, over `idle` if that is a connection to it."""
        self.lease = lease
        server = lease.server
        if idle is None:
            idle = self.take_idle(server)
            if idle is None and self._upstream.pool.crowded:
                self.stop()
                self.unreachable(self._upstream.pool.too_many())
                return
        attempt = self.attempt = self.record.tried(server.name, lease.picked)
        if idle is None:
            self._connect(server)
        else:
            attempt.connect_time = 0.0
            self.connected(idle)

    def _hang_up(self, dial: Dial) -> None:
        """Give up connecting."""
        self._dialled()
        dial.stop()

    def _dialled(self) -> None:
        """It is known what comes of the dial."""
        self._dial = None
        pool = self._upstream.pool
        pool.pending -= 1
        if pool.queue and pool.spec.max_pending:
            pool.queue.tell()
        self.relax()

    def _connect(self, server: Server) -> None:
        upstream = self._upstream
        upstream.pool.pending += 1
        self.hurry(upstream.limits.connect_timeout)
        self._dial = Dial(self, server, upstream.reactor, upstream.tls)
        self._dial.start()

    def late(self) -> None:
        """There was no server in time, or it did not take the connection in time."""
        if self._place is not None:
            self.unreachable(self._upstream.pool.wait_ends(self._waited()))
        elif self._dial is not None:
            self._hang_up(self._dial)
            self._missed(UpstreamError("timed out while connecting", timed_out=True))

    def reached(self, protocol: ServerSide) -> None:
        """The dial's: the server is there."""
        self._dialled()
        attempt, limits = self.attempt, self._upstream.limits
        attempt.connect_time = self._upstream.clock() - attempt.started
        set_options(protocol.transport, nodelay=limits.tcp_nodelay, keepalive=limits.keepalive)
        self.connected(protocol)

    def missed(self, error: UpstreamError) -> None:
        """The dial's: the server is not there."""
        self._dialled()
        self._missed(error)

    def _missed(self, error: UpstreamError) -> None:
        self.attempt.status = 504 if error.timed_out else 502
        if not error.ours and self.lease is not None:
            kind = "timeout" if error.timed_out else "error"
            if kind in self._upstream.blamed:
                self.lease.failed(str(error))
            if kind in self._upstream.limits.next_upstream and self.again():
                return
        self.stop()
        self.unreachable(error)
