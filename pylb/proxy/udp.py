"""Which session does a datagram belong to, and when is a session over?

- A session is one client address and port and one local address, and one server: the first datagram chooses it.
- After each datagram, either way, nginx's rule (ngx_stream_proxy_test_finalize) decides: while fewer than `requests`
  came, go on; then the binding is dropped, so that the client's next datagram opens a new session; the session ends
  when `responses` times the requests have been answered.  Without `requests` the binding lasts as long as the session,
  without `responses` only `timeout` ends it.
- A session that times out with answers missing failed, and so did one whose server refused; the client's next
  datagram opens a new session.  A datagram that was sent is never sent again; one that the kernel did not take for a
  server is offered to the next server.
- The verdict is given at the end.  Only a server that is on trial, and may answer one session for hours, is believed
  at the first reply.  A session that was cut short while answers were missing says nothing of its server.
- The table is bounded: the least recently used session gives way to a new one, also when descriptors run out.
- Nothing is sent to a client but what its server sent, a datagram for a datagram.
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

from pylb.balance.pool import Lease, NoServerAvailable, Pool
from pylb.model import Address, InetAddress, UdpListener
from pylb.proxy.accesslog import AccessLog, NullLog, Record
from pylb.proxy.datagram import PASSING, Client, FrontPort, ServerPort, front_port

__all__ = ["UdpProxy", "listen_udp"]

#: Sessions that time out in one turn of the reactor.
EXPIRIES_A_TURN = 256

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})

#: What is not the server's fault when a socket towards it cannot be made.  EAGAIN: no local port is left.
_OWN_FAULTS = _NO_DESCRIPTORS | {errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN}


class Front(DatagramProtocol):
    """One listening socket of a UDP listener."""

    noisy = False
    transport: FrontPort

    def __init__(self, proxy: UdpProxy) -> None:
        self.bindings: dict[tuple[Client, bytes | None], Session] = {}
        self._proxy = proxy

    def datagram_arrived(self, datagram: bytes, client: Client, local: bytes | None) -> None:
        session = self.bindings.get((client, local))
        if session is not None and session.forward(datagram):
            return
        session = self._proxy.open(self, client, local)
        if session is not None:
            session.forward(datagram)


class Session:
    """What one client and one server say to each other."""

    __slots__ = (
        "_client",
        "_front",
        "_lease",
        "_local",
        "_port",
        "_proxy",
        "_record",
        "_replies",
        "_requests",
        "_send",
        "seen",
    )

    def __init__(self, proxy: UdpProxy, front: Front, client: Client, local: bytes | None, record: Record) -> None:
        self._proxy = proxy
        self._front = front
        self._client = client
        self._local = local
        self._record = record
        self._requests = 0
        self._replies = 0
        #: When the last datagram passed.
        self.seen = record.started

    def begin(self, lease: Lease, port: ServerPort) -> None:
        """Use `port` towards the lease's server; until the end the lease is the session's."""
        self._lease = lease
        self._port = port
        self._send = port.send
        self._front.bindings[self._client, self._local] = self

    def forward(self, datagram: bytes) -> bool:
        """Pass a client's datagram on.

        False if the server refused an earlier one, which only now became known: then the session has ended and this
        datagram was not sent.
        """
        proxy = self._proxy
        record = self._record
        try:
            self._send(datagram)
        except OSError as error:
            if error.errno not in PASSING:
                self.refused(str(error.strerror))
                return False
            proxy.dropped += 1
            return True
        proxy.touch(self)
        self._requests += 1
        size = len(datagram)
        record.bytes_received += size
        record.upstream_bytes_sent += size
        self._settle()
        return True

    def reply_arrived(self, datagram: bytes) -> None:
        proxy = self._proxy
        record = self._record
        proxy.touch(self)
        self._replies += 1
        size = len(datagram)
        record.upstream_bytes_received += size
        if self._front.transport.reply(datagram, self._client, self._local):
            record.bytes_sent += size
        else:
            proxy.dropped += 1
        if self._replies == 1 and proxy.responses is None and self._lease.server.health.fails:
            self._lease.succeeded()
        self._settle()

    @property
    def waiting(self) -> bool:
        """Whether the server owes replies."""
        responses = self._proxy.responses
        return responses is not None and self._replies < responses * self._requests

    def _settle(self) -> None:
        proxy = self._proxy
        if self._requests < proxy.requests:
            return
        if proxy.requests:
            self._unbind()
        if proxy.responses is not None and self._replies >= proxy.responses * self._requests:
            self.complete()

    def complete(self) -> None:
        """All that was expected has happened."""
        self._lease.succeeded()
        self.end(200)

    def timed_out(self) -> None:
        """Nothing passed for the listener's `timeout`."""
        if self.waiting:
            self._fail("timed out")
        else:
            self.complete()

    def refused(self, reason: str) -> None:
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self._lease.failed(reason)
        self.end(502)

    def cut(self) -> None:
        """End now, whatever may be missing."""
        if self._replies and not self.waiting:
            self._lease.succeeded()
        self.end(200)

    def end(self, status: int) -> None:
        """Close, release the lease and write the record.  Nothing may be called afterwards."""
        self._unbind()
        self._lease.release()
        self._record.status = status
        self._proxy.ended(self, self._port, self._record)

    def _unbind(self) -> None:
        key = self._client, self._local
        bindings = self._front.bindings
        if bindings.get(key) is self:
            del bindings[key]


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
        self.spec = spec
        self.pool = pool
        self.max_sessions = max_sessions
        self.responses = spec.responses
        self.requests = spec.requests
        #: Datagrams that were not passed on, either way, although there was a server.
        self.dropped = 0
        #: Sessions that gave way to new ones.
        self.evicted = 0
        self._reactor = reactor
        self._clock = clock
        self._access_log = access_log
        #: Least recently used first.
        self._sessions: OrderedDict[Session, None] = OrderedDict()
        self._ports: list[FrontPort] = []
        self._retired: list[ServerPort] = []
        self._timer: IDelayedCall | None = None
        self._stopping = False
        self._idle: Deferred[None] = Deferred()

    @property
    def active(self) -> int:
        """Sessions that live now."""
        return len(self._sessions)

    def add(self, port: FrontPort) -> None:
        """Serve the clients of `port` too."""
        self._ports.append(port)

    def touch(self, session: Session) -> None:
        """A datagram passed."""
        session.seen = self._clock()
        self._sessions.move_to_end(session)

    # -- beginning

    def open(self, front: Front, client: Client, local: bytes | None) -> Session | None:
        """A new session for `client`, or None if it cannot have one."""
        if client[1] == 0 or front.transport.is_self(client, local):
            self.dropped += 1
            return None
        record = Record(
            listener=self.spec.name,
            protocol="udp",
            remote_addr=client[0],
            remote_port=client[1],
            pool=self.pool.name,
            started=self._clock(),
        )
        session = Session(self, front, client, local, record)
        try:
            lease, port = self._connect(session, record)
        except NoServerAvailable:
            return None
        except OSError:
            self.dropped += 1
            return None
        session.begin(lease, port)
        self._sessions[session] = None
        if self._timer is None and self.spec.timeout:
            self._timer = self._reactor.callLater(self.spec.timeout, self._expire)
        return session

    def _connect(self, session: Session, record: Record) -> tuple[Lease, ServerPort]:
        """The first server towards which a socket can be made.  Raises NoServerAvailable, or OSError for our own fault."""
        lease = None
        while True:
            lease = self.pool.acquire(after=lease)
            record.tried(lease.server.name)
            try:
                return lease, self._server_port(session, lease.server.address)
            except OSError as error:
                own_fault = error.errno in _OWN_FAULTS
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
        self._access_log.write(record)
        if self._stopping and not self._sessions:
            self._close()

    def _close_retired(self) -> None:
        retired, self._retired = self._retired, []
        for port in retired:
            port.close()

    def _expire(self) -> None:
        self._timer = None
        now = self._clock()
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
        closing = gatherResults([port.stopListening() for port in self._ports])
        closing.addCallback(lambda _: self._idle.callback(None))


def listen_udp(reactor: Any, sock: socket, proxy: UdpProxy) -> FrontPort:
    """Let `proxy` serve the clients of `sock`, a bound datagram socket that stays the caller's to close."""
    port = front_port(reactor, sock, Front(proxy))
    port.startListening()
    proxy.add(port)
    return port
