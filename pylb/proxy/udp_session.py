"""When is a UDP session over, and what does that say of its server?

- After each datagram, either way, nginx's rule (ngx_stream_proxy_test_finalize) decides: while fewer than `requests`
  came, go on; then the binding is dropped, so that the client's next datagram opens a new session; the session ends
  when `responses` times the requests have been answered.  Without `requests` the binding lasts as long as the session,
  without `responses` only the timeout ends it.
- A session that times out with answers missing failed, and so did one whose server refused.
- The verdict is given at the end.  Only a server with failures on record, whose trial this may be, is believed at the
  first reply when any number may come: such a session can last for hours.
- What a pool learned from a session that failed is forgotten; what it knew before stays until another server serves.
- A session that was cut short while answers were missing says nothing of its server.
- Nothing is sent to a client but what its server sent, a datagram for a datagram.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylb.balance.lease import Lease
from pylb.proxy.accesslog import Record
from pylb.proxy.front_port import Origin
from pylb.proxy.server_port import PASSING, ServerPort
from pylb.proxy.variables import address_variable

if TYPE_CHECKING:
    from pylb.proxy.udp import Front, UdpProxy

__all__ = ["Session"]


class Session:
    """What one client and one server say to each other."""

    __slots__ = (
        "_learned",
        "_origin",
        "_port",
        "_proxy",
        "_received",
        "_record",
        "_replied",
        "_replies",
        "_reply",
        "_requests",
        "_send",
        "_sent",
        "front",
        "lease",
        "seen",
    )

    def __init__(self, proxy: UdpProxy, front: Front, origin: Origin, record: Record) -> None:
        self._proxy = proxy
        self.front = front
        self._origin = origin
        self._record = record
        self._requests = self._replies = 0
        #: Bytes: of the client, of the server, and those of the latter that the client was sent.
        self._received = self._replied = self._sent = 0
        #: When the last datagram passed.
        self.seen = record.started

    def begin(self, lease: Lease, port: ServerPort) -> None:
        """Use `port` towards the lease's server; until the end the lease is the session's."""
        #: Of the server; released when the session is over.
        self.lease = lease
        self._port = port
        self._send = port.send
        self._reply = self.front.transport.send
        self.front.bindings[self._origin] = self
        #: Whether the pool has learned from this session whose its client is.
        self._learned = lease.bind(self)

    def variable(self, name: str) -> bytes:
        """What a balancing method or the pool's sessions may ask."""
        return address_variable(name, self._record, lambda: self.front.transport.local_end(self._origin))

    def forward(self, datagram: bytes) -> bool:
        """Pass a client's datagram on.

        False if the server refused an earlier one, which only now became known: then the session has ended and this
        datagram was not sent.
        """
        proxy = self._proxy
        try:
            self._send(datagram)
        except OSError as error:
            if error.errno not in PASSING:
                self.refused(str(error.strerror))
                return False
            proxy.dropped += 1
            return True
        self.seen = proxy.clock()
        proxy.used(self)
        self._requests += 1
        self._received += len(datagram)
        if proxy.counts:
            self._settle()
        return True

    def reply_arrived(self, datagram: bytes) -> bool:
        """Pass the server's datagram on; whether others are on their way, as far as numbers tell."""
        proxy = self._proxy
        self.seen = proxy.clock()
        proxy.used(self)
        self._replies += 1
        if self._replies == 1:
            self._answered()
        size = len(datagram)
        self._replied += size
        try:
            self._reply(datagram, self._origin)
        except OSError:
            proxy.dropped += 1
        else:
            self._sent += size
        if proxy.counts:
            self._settle()
        return self._replies != self._requests

    def _answered(self) -> None:
        """The first reply is here."""
        self.lease.timed("first_byte")
        if self._proxy.responses is None and (self.lease.tried or self.lease.server.health.fails):
            self.lease.succeeded()

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
            self.lease.timed("last_byte")
            self.complete()

    def complete(self) -> None:
        """All that was expected has happened."""
        self.lease.succeeded()
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
        self.lease.failed(reason)
        if self._learned:
            self.lease.unbind(self)
        self.end(502)

    def cut(self) -> None:
        """End now, whatever may be missing."""
        if self._replies and not self.waiting:
            self.lease.succeeded()
        self.end(200)

    def end(self, status: int) -> None:
        """Close, release the lease and write the record.  Nothing may be called afterwards."""
        self._unbind()
        self.lease.release()
        record = self._record
        record.status = status
        record.bytes_received = record.upstream_bytes_sent = self._received
        record.upstream_bytes_received = self._replied
        record.bytes_sent = self._sent
        port = self._port
        del self._port  # it knows this session: what knows one another waits for the garbage collector
        self._proxy.ended(self, port, record)

    def _unbind(self) -> None:
        bindings = self.front.bindings
        if bindings.get(self._origin) is self:
            del bindings[self._origin]
