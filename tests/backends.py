"""Small real clients and servers on the loopback, each on a port of its own."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from pylb.model import InetAddress

__all__ = ["Backend", "Peer", "dead_address", "echo", "round_trips", "socket_path", "until"]

#: Seconds after which a test has waited in vain.
PATIENCE = 30.0
#: More than the way from a client through pylb to a server and back has stations.
ROUND_TRIPS = 10


async def until(happened: Callable[[], object]) -> None:
    """Wait until something is true."""
    give_up = reactor.seconds() + PATIENCE
    while not happened():
        if reactor.seconds() > give_up:
            raise AssertionError(f"waited {PATIENCE} s in vain")
        await deferLater(reactor, 0.002)


def dead_address(case: TestCase) -> InetAddress:
    """Where connections are refused until the end of the test: a socket has the port and does not listen."""
    sock = socket.socket()
    case.addCleanup(sock.close)
    sock.bind(("127.0.0.1", 0))
    return InetAddress(*sock.getsockname())


def socket_path(case: TestCase) -> Path:
    """A path for a Unix socket: short, wherever the tests lie."""
    folder = tempfile.mkdtemp()
    case.addCleanup(shutil.rmtree, folder)
    return Path(folder) / "s"


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """One end of a connection: keeps what it hears, and sends and closes as a test says.

    A Peer that hears the end of the other side closes its own unless `half_close` is set.
    """

    def __init__(self, behave: Callable[[Peer, bytes], None] | None = None, half_close: bool = False) -> None:
        self.heard = bytearray()
        self.ended = False
        self.half_close = half_close
        #: Why the connection was lost, once it was.
        self.lost: type[BaseException] | None = None
        self.ready = False
        self._behave = behave

    def connectionMade(self) -> None:
        self.ready = True
        if self._behave is not None:
            self._behave(self, b"")

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self._behave is not None:
            self._behave(self, data)

    def readConnectionLost(self) -> None:
        self.ended = True
        if not self.half_close:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing more to say."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.lost = reason.type

    @property
    def clean(self) -> bool:
        """Whether the connection is gone, and was not reset."""
        return self.lost is ConnectionDone

    async def hears(self, data: bytes) -> None:
        """Wait until exactly this has come."""
        await until(lambda: len(self.heard) >= len(data) or self.lost)
        if self.heard != data:
            raise AssertionError(f"heard {bytes(self.heard[:80])!r}, {len(self.heard)} bytes, not {data[:80]!r}")


def echo(peer: Peer, data: bytes) -> None:
    """Send back whatever comes."""
    peer.transport.write(data)


async def round_trips() -> None:
    """Wait until a byte has gone to and fro several times between two sockets of this reactor.

    Whatever was under way before, also by way of pylb, has come by then: after this "nothing came" is a finding.
    """

    def reply(peer: Peer, data: bytes) -> None:
        if len(peer.heard) < ROUND_TRIPS:
            peer.transport.write(b"!")
        else:
            peer.transport.loseConnection()

    backend = Backend(echo)
    port = reactor.listenTCP(0, backend, interface="127.0.0.1")
    near = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Peer(reply))
    await until(lambda: near.lost and backend.peers[0].lost)
    await port.stopListening()


class Backend(Factory):
    """A server; `peers` are the clients that came to it, as seen from here."""

    noisy = False

    def __init__(self, behave: Callable[[Peer, bytes], None] | None = None, half_close: bool = False) -> None:
        self.peers: list[Peer] = []
        self._behave = behave
        self._half_close = half_close

    def buildProtocol(self, addr: IAddress) -> Peer:
        self.peers.append(Peer(self._behave, self._half_close))
        return self.peers[-1]

    async def peer(self, index: int = 0) -> Peer:
        """Wait for a client."""
        await until(lambda: len(self.peers) > index and self.peers[index].ready)
        return self.peers[index]
