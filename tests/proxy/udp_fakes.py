"""A UDP proxy between fakes: the test is the client, the server and the clock."""

from __future__ import annotations

import errno
import os

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from pylb.balance.pool import make_pool
from pylb.model import InetAddress, PoolSpec, ServerSpec, UdpListener
from pylb.proxy import udp
from pylb.proxy.udp import Front, UdpProxy


class Records(list):
    """An access log that keeps its records."""

    write = list.append


class FakeServerPort:
    """A socket towards a server that does what the test says; `made` holds all of them, in order."""

    made: list[FakeServerPort]
    errors: list[int]  # of the next sockets to be made, 0 is none
    refusals: list[int]  # of the first datagrams of the next sockets, 0 is none

    def __init__(self, reactor, session, address) -> None:
        error = self.errors.pop(0) if self.errors else 0
        if error:
            raise OSError(error, os.strerror(error))
        self.session = session
        self.address = address
        self.sent: list[bytes] = []
        self.send_errors = [refusal] if self.refusals and (refusal := self.refusals.pop(0)) else []
        self.reading = True
        self.closed = False
        self.made.append(self)

    def send(self, datagram: bytes) -> None:
        if self.send_errors:
            error = self.send_errors.pop()
            raise OSError(error, os.strerror(error))
        self.sent.append(datagram)

    def retire(self) -> None:
        self.reading = False

    def close(self) -> None:
        self.reading = False
        self.closed = True


class FakeFrontPort:
    """The transport of a front: keeps the replies."""

    def __init__(self) -> None:
        self.replies: list[tuple] = []
        self.takes = True
        self.reading = True
        #: How often.
        self.closed = 0

    def send(self, datagram, origin) -> None:
        if not self.takes:
            raise OSError(errno.EAGAIN, "full")
        self.replies.append((datagram, *origin))

    def client(self, origin) -> tuple[str, int]:
        return origin[0]

    def local_end(self, origin) -> tuple[str, int]:
        return (origin[1] or b"10.0.0.254").decode(), 53

    def is_self(self, origin) -> bool:
        return origin[0] == ("127.0.0.1", 53)

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> Deferred:
        self.closed += 1
        return succeed(None)


class World:
    """A proxy between fakes."""

    def __init__(
        self, patch, servers: int = 1, max_sessions: int = 100, server: dict | None = None, sticky=None, **spec
    ) -> None:
        self.clock = Clock()
        self.records = Records()
        addresses = [InetAddress(f"10.0.0.{n}", 53) for n in range(1, servers + 1)]
        specs = tuple(ServerSpec(address=address, **(server or {})) for address in addresses)
        self.pool = make_pool(PoolSpec(name="dns", servers=specs, sticky=sticky), self.clock.seconds)
        listener = UdpListener(name="front", listen=(), pool="dns", **spec)
        arguments = self.clock, self.clock.seconds, self.records, max_sessions
        self.proxy = UdpProxy(listener, self.pool, *arguments)
        self.front = self.new_front()
        self.port = self.front.transport
        FakeServerPort.made = self.sockets = []
        FakeServerPort.errors = self.errors = []
        FakeServerPort.refusals = self.refusals = []
        patch(udp, "ServerPort", FakeServerPort)

    def new_front(self) -> Front:
        """Another socket by which clients come."""
        front, port = Front(self.proxy), FakeFrontPort()
        front.transport, port.protocol = port, front
        self.proxy.add(port)
        return front

    def ask(self, client: int = 1, datagram: bytes = b"q", local: bytes | None = None) -> None:
        self.front.datagram_arrived(datagram, (("192.0.2.1", client), local))

    def open_sockets(self) -> list[FakeServerPort]:
        return [sock for sock in self.sockets if sock.reading]

    def answer(self, datagram: bytes = b"r") -> None:
        """A reply in the oldest session."""
        self.open_sockets()[0].session.reply_arrived(datagram)

    @property
    def leases(self) -> int:
        return sum(server.active for server in self.pool.servers)

    @property
    def statuses(self) -> list[int]:
        return [record.status for record in self.records]
