"""Which session does a datagram belong to?

- A session is one client address and port, one local address and one server, which the first datagram chooses
  (pylb.proxy.udp_session: when it is over).
- A datagram that was sent is never sent again.  One that the kernel did not take for a server (no route, or a refusal
  that only now became known) is offered to the next.
- The table is bounded: the least recently used session gives way to a new one, also when descriptors run out.
- A datagram that finds no server is dropped and counted by the pool, without a line in the access log, which a flood
  would fill.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from socket import socket
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol

from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.model import Address, InetAddress, UdpListener
from pylb.proxy.accesslog import AccessLog, NullLog, Record
from pylb.proxy.dial import OWN_FAULTS
from pylb.proxy.front_port import FrontPort, Origin, front_port
from pylb.proxy.server_port import ServerPort
from pylb.proxy.udp_session import Session

__all__ = ["UdpProxy", "listen_udp"]

#: Sessions that time out in one turn of the reactor.
EXPIRIES_A_TURN = 256

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


class Front(DatagramProtocol):
    """One listening socket of a UDP listener."""

    noisy = False
    transport: FrontPort

    def __init__(self, proxy: UdpProxy) -> None:
        self.bindings: dict[Origin, Session] = {}
        self._proxy = proxy

    def datagram_arrived(self, datagram: bytes, origin: Origin) -> None:
        session = self.bindings.get(origin)
        if session is not None and session.forward(datagram):
            return
        session = self._proxy.open(self, origin)
        while session is not None and not session.forward(datagram):
            session = self._proxy.open(self, origin, session.lease)


class UdpProxy:
    """The sessions of one UDP listener, over all its sockets.

    `max_sessions` is the number of sessions, at least 1, and of descriptors; `clock` reads monotonic seconds.
    `stop` reads nothing more and ends the sessions that wait for nothing, `abort` ends the others too, `idle` fires
    when all is closed.
    """

    def __init__(
        self,
        spec: UdpListener,
        pool: Pool,
        reactor: Any,
        clock: Callable[[], float],
        access_log: AccessLog | NullLog,
        max_sessions: int,
    ) -> None:
        self.access_log = access_log
        #: Datagrams that were not passed on, either way, although there was a server.
        self.dropped = 0
        #: Sessions that gave way to new ones.
        self.evicted = 0
        self.clock = clock
        self._reactor = reactor
        #: Least recently used first.
        self._sessions: OrderedDict[Session, None] = OrderedDict()
        #: To be called with a session in which a datagram passed.
        self.used = self._sessions.move_to_end
        self._ports: list[FrontPort] = []
        self._retired: list[ServerPort] = []
        self._timer: IDelayedCall | None = None
        self._stopping = False
        self._idle: Deferred[None] = Deferred()
        self.use(spec, pool, max_sessions)

    def use(self, spec: UdpListener, pool: Pool, max_sessions: int) -> None:
        """Serve so from the next datagram on; sessions that there are keep their servers."""
        self.spec = spec
        self.pool = pool
        self.max_sessions = max_sessions
        self.responses = spec.responses
        self.requests = spec.requests
        #: Whether numbers of datagrams end sessions.
        self.counts = spec.responses is not None or spec.requests > 0
        while len(self._sessions) > max_sessions:
            self._evict()
        if self._timer is not None:
            self._timer.reset(0)

    @property
    def active(self) -> int:
        """Sessions that live now."""
        return len(self._sessions)

    def add(self, port: FrontPort) -> None:
        """Serve the clients of `port` too."""
        self._ports.append(port)

    def leave(self, port: FrontPort) -> None:
        """Serve the clients of `port` no more, and end their sessions."""
        for session in [session for session in self._sessions if session.front is port.protocol]:
            session.cut()
        if port in self._ports:
            self._ports.remove(port)
            port.stopListening()

    # -- beginning

    def open(self, front: Front, origin: Origin, after: Lease | None = None) -> Session | None:
        """A new session for a client, or None if it cannot have one.

        `after` is the lease of the session whose server did not get the same datagram.
        """
        client = front.transport.client(origin)
        if client[1] == 0 or front.transport.is_self(origin):
            self.dropped += 1
            return None
        record = Record(
            listener=self.spec.name,
            protocol="udp",
            remote_addr=client[0],
            remote_port=client[1],
            pool=self.pool.name,
            started=self.clock(),
        )
        session = Session(self, front, origin, record)
        try:
            lease, port = self._connect(session, record, after)
        except NoServerAvailable:
            self.dropped += bool(record.tries or after)  # else it is the pool that refused and counted
            return None
        except OSError:
            self.dropped += 1
            return None
        session.begin(lease, port)
        self._sessions[session] = None
        if self._timer is None:
            self._timer = self._reactor.callLater(self.spec.timeout, self._expire)
        return session

    def _connect(self, session: Session, record: Record, lease: Lease | None) -> tuple[Lease, ServerPort]:
        """The first server towards which a socket can be made, `lease` is of the one that was tried last.

        Raises NoServerAvailable, or OSError for our own fault.
        """
        while True:
            lease = self.pool.acquire(session, after=lease)
            record.tried(lease.server.name)
            try:
                return lease, self._server_port(session, lease.server.address)
            except OSError as error:
                own_fault = error.errno in OWN_FAULTS
                if not own_fault:
                    lease.failed(str(error.strerror))
                lease.release()
                if own_fault:
                    raise

    def _server_port(self, session: Session, address: Address) -> ServerPort:
        assert isinstance(address, InetAddress), "the configuration keeps Unix sockets out of pools for UDP"
        if len(self._sessions) >= self.max_sessions:
            self._evict()
        try:
            return ServerPort(self._reactor, session, address)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
        self._free_descriptor()
        return ServerPort(self._reactor, session, address)

    def _evict(self) -> None:
        self.evicted += 1
        next(iter(self._sessions)).cut()

    def _free_descriptor(self) -> None:
        """Close one socket at once; it is safe because the next that is made gets its number."""
        if not self._retired and self._sessions:
            self._evict()
        if self._retired:
            self._retired.pop().close()

    # -- ending

    def ended(self, session: Session, port: ServerPort, record: Record) -> None:
        """`session` is over; its socket is closed when the reactor has handed out its present events."""
        del self._sessions[session]
        port.retire()
        if not self._retired:
            self._reactor.callLater(0, self._close_retired)
        self._retired.append(port)
        self.access_log.write(record)
        if self._stopping and not self._sessions:
            self._close()

    def _close_retired(self) -> None:
        retired, self._retired = self._retired, []
        for port in retired:
            port.close()

    def _expire(self) -> None:
        self._timer = None
        now = self.clock()
        timeout = self.spec.timeout
        for session in list(islice(self._sessions, EXPIRIES_A_TURN)):
            if session.seen + timeout > now:
                break
            session.timed_out()
        oldest = next(iter(self._sessions), None)
        if oldest is not None:
            self._timer = self._reactor.callLater(max(0.0, oldest.seen + timeout - now), self._expire)

    def stop(self) -> None:
        """Read no more datagrams of clients; only sessions whose server owes replies go on."""
        if self._stopping:
            return
        self._stopping = True
        for port in self._ports:
            port.stopReading()
        if not self._sessions:
            self._close()
        for session in list(self._sessions):
            if not session.waiting:
                session.cut()

    def abort(self) -> None:
        """Stop, and end every session now."""
        self.stop()
        for session in list(self._sessions):
            session.cut()

    def idle(self) -> Deferred[None]:
        """Fires when the proxy was stopped, no session is left and every socket of clients is closed."""
        waiter: Deferred[None] = Deferred()
        self._idle.addCallback(waiter.callback)
        return waiter

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ports, self._ports = self._ports, []
        closing = gatherResults([port.stopListening() for port in ports])
        closing.addCallback(lambda _: self._idle.callback(None))


def listen_udp(reactor: Any, sock: socket, proxy: UdpProxy) -> FrontPort:
    """Let `proxy` serve the clients of `sock`, a bound datagram socket that the port closes in the end."""
    port = front_port(reactor, sock, Front(proxy))
    port.startListening()
    proxy.add(port)
    return port
