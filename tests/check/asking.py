"""One check of one real server, asked once."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.trial.unittest import TestCase

from pylb.balance.server import Server
from pylb.check.interface import IHealthCheck, Report, Unhealthy
from pylb.check.kinds import make_check
from pylb.check.target import Target
from pylb.model import Address, HealthCheck, InetAddress, ServerSpec, UnixAddress
from pylb.proxy.deadline import Deadlines
from pylb.proxy.dial import UpstreamError
from pylb.proxy.streams import streams
from pylb.proxy.tls import ClientTLS
from tests.backends import Backend, Peer, socket_path, until

__all__ = ["Asking", "Datagrams", "greets", "says"]


class Datagrams(DatagramProtocol):
    """A server whose answers to a datagram are what `answer` makes of it."""

    noisy = False

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self.heard: list[bytes] = []
        self._answer = answer

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.heard.append(datagram)
        for answer in self._answer(datagram):
            self.transport.write(answer, addr)


class Asking(TestCase):
    """After a test no connection is left of what its checks have opened."""

    timeout = 30

    def setUp(self) -> None:
        self.streams = streams(reactor)
        self.deadlines = Deadlines(reactor, time.monotonic)
        self.addCleanup(until, lambda: not self.streams.getReaders() and not self.streams.getWriters())

    def tcp(self, behave: Callable[[Peer, bytes], None] | Factory | None = None) -> InetAddress:
        """A server; `self.server` has its clients unless it is a factory."""
        self.server = behave if isinstance(behave, Factory) else Backend(behave)
        port = reactor.listenTCP(0, self.server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return InetAddress("127.0.0.1", port.getHost().port)

    def unix(self, behave: Callable[[Peer, bytes], None]) -> UnixAddress:
        self.server = Backend(behave)
        path = str(socket_path(self))
        port = reactor.listenUNIX(path, self.server)
        self.addCleanup(port.stopListening)
        return UnixAddress(path)

    def udp(self, answer: Callable[[bytes], list[bytes]]) -> InetAddress:
        """A server of datagrams, as `self.datagrams`."""
        self.datagrams = Datagrams(answer)
        port = reactor.listenUDP(0, self.datagrams, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return InetAddress("127.0.0.1", port.getHost().port)

    def target(self, where: Address, tls: ClientTLS | None = None, port: int | None = None) -> Target:
        """The server at `where`, as a check sees it."""
        target = Target(Server(ServerSpec(address=where)), reactor, self.streams, self.deadlines, tls, port)
        self.addCleanup(target.leave)
        return target

    async def ask(self, check: IHealthCheck, target: Target, seconds: float = 10.0) -> Report | str | None:
        """What it reports, or why the server is unhealthy; "late" if it has not ended after so long."""
        running = Deferred.fromCoroutine(self._checked(check, target))
        late = reactor.callLater(seconds, running.cancel)
        try:
            return await running
        finally:
            if late.active():
                late.cancel()

    async def _checked(self, check: IHealthCheck, target: Target) -> Report | str | None:
        try:
            return await check.check(target)
        except (Unhealthy, UpstreamError, OSError) as error:
            return str(error)
        except CancelledError:
            return "late"
        finally:
            target.close()

    async def verdict(self, spec: HealthCheck, where: Address, seconds: float = 10.0) -> Report | str | None:
        """What a new check says of the server at `where`."""
        return await self.ask(make_check(spec), self.target(where), seconds)


def says(data: bytes, close: bool = False) -> Callable[[Peer, bytes], None]:
    """A server that says something to who says something."""

    def behave(peer: Peer, heard: bytes) -> None:
        if heard:
            peer.transport.write(data)
            if close:
                peer.transport.loseConnection()

    return behave


def greets(data: bytes) -> Callable[[Peer, bytes], None]:
    """A server that speaks first."""

    def behave(peer: Peer, heard: bytes) -> None:
        if not heard:
            peer.transport.write(data)

    return behave
