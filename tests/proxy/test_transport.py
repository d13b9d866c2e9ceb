"""How are the bytes of a stream written, and its connection closed, at little cost?"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pylb.proxy.poller import DONE, can_poll
from pylb.proxy.streams import Streams
from pylb.proxy.transport import Stream, address_of
from tests.proxy.test_poller import Descriptor, Reactor

PEER = IPv4Address("TCP", "192.0.2.7", 4711)
#: More than two sockets hold between them.
MUCH = 8 * 1024 * 1024


@implementer(IHalfCloseableProtocol)
class Notes(Protocol):
    """Keeps what it hears, and does in `dataReceived` what the test says."""

    def __init__(self, act=lambda: None) -> None:
        self.heard: list[object] = []
        self.act = act

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)
        self.act()

    def readConnectionLost(self) -> None:
        self.heard.append("ended")

    def writeConnectionLost(self) -> None:
        self.heard.append("shut")

    def connectionLost(self, reason) -> None:
        self.heard.append(reason.type)


class Producer:
    def __init__(self, stream=None, pieces=0) -> None:
        self.asked: list[str] = []
        self.stream, self.pieces = stream, pieces

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")
        if self.pieces:
            self.pieces -= 1
            self.stream.write(b"piece")

    def stopProducing(self) -> None:
        self.asked.append("stop")


class OneStream(SynchronousTestCase):
    """A stream whose peer is a socket in the test's hands, and whose reactor turns when the test says so."""

    if not can_poll(reactor):
        skip = "there are no streams on this system"

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.streams = Streams(self.reactor)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname())
            mine, _ = listening.accept()
        self.addCleanup(self.peer.close)
        self.addCleanup(mine.close)
        for sock in (self.peer, mine):
            sock.setblocking(False)
        self.protocol = Notes()
        self.stream = Stream(mine, self.protocol, self.streams, PEER)
        self.stream.startReading()
        self.protocol.makeConnection(self.stream)

    def turn(self, count=1) -> list[object]:
        """Let the reactor turn; what the protocol heard so far."""
        for _ in range(count):
            for reader in list(self.reactor.readers):
                reader.doRead()
            self.reactor.advance(0)
        return self.protocol.heard

    def received(self) -> bytes | None:
        """What the peer has now; nothing if nothing has come, None at the end."""
        try:
            return self.peer.recv(MUCH) or None
        except BlockingIOError:
            return b""

    def drain(self) -> bytes:
        """All that comes until nothing does any more, or the end."""
        data = b""
        while self.turn() is not None and (piece := self.received()):
            data += piece
        return data

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()


class BusyTests(OneStream):
    """What is small and written while several events are handed out is sent after the last of them."""

    def setUp(self) -> None:
        super().setUp()
        self.told: list[str] = []

    def busy(self, *acts) -> None:
        """A turn with an event for each of these, in which it is called."""
        for number, act in enumerate(acts):
            descriptor = Descriptor(self, str(number))
            descriptor.answers["read"] = lambda act=act, one=descriptor: self.streams.removeReader(one) or act()
            descriptor.peer.send(b"!")
            self.streams.addReader(descriptor)
        self.turn()

    def write(self, data: bytes):
        return lambda: self.stream.write(data)

    def look(self) -> None:
        self.seen = self.received()

    def test_after_the_last_event(self) -> None:
        """In order, whoever wrote it."""
        self.busy(self.write(b"one "), self.write(b"two "), self.look, self.write(b"three"))
        self.assertEqual((self.seen, self.received()), (b"", b"one two three"))

    def test_alone(self) -> None:
        """With one event it is sent at once."""
        self.busy(lambda: self.stream.write(b"one") or self.look())
        self.assertEqual(self.seen, b"one")

    def test_in_answer(self) -> None:
        """What is written after the events, when all that was to be done then is done, is sent in the same turn."""
        self.busy(lambda: self.streams.soon(self.stream, self.write(b"later")), lambda: None)
        self.assertEqual(self.received(), b"later")

    def test_large(self) -> None:
        """What is large is sent at once, unless something waits before it."""
        self.busy(lambda: self.stream.write(b"x" * 16 * 1024) or self.look(), self.write(b"y"))
        self.assertEqual((self.seen, self.received()), (b"x" * 16 * 1024, b"y"))

    def test_more_than_the_socket_takes(self) -> None:
        """The rest is queued."""
        self.busy(*[self.write(bytes([number]) * MUCH) for number in range(2)], self.write(b"last"))
        self.assertEqual(self.streams.getWriters(), [self.stream])
        data = self.drain()
        self.assertTrue(data == bytes(MUCH) + b"\1" * MUCH + b"last")

    def test_closed(self) -> None:
        """It is sent before an end of any kind, and so is what is written after a connection was to be closed."""
        self.busy(
            lambda: self.streams.soon(
                self.stream, lambda: self.stream.write(b"three") or self.stream.write(bytes(MUCH))
            ),
            lambda: self.stream.write(b"one ") or self.stream.loseConnection(),
            self.write(b"two "),
        )
        self.assertTrue(self.drain() == b"one two three" + bytes(MUCH))
        self.assertEqual((self.received(), self.protocol.heard), (None, [ConnectionDone]))

    def test_half_closed(self) -> None:
        self.busy(lambda: self.stream.write(b"one") or self.stream.loseWriteConnection(), lambda: None)
        self.assertEqual((self.received(), self.received(), self.stream.connected), (b"one", None, 1))

    def test_lost(self) -> None:
        self.busy(lambda: self.stream.write(b"one") or self.stream.connectionLost(DONE), lambda: None)
        self.assertEqual((self.received(), self.received(), self.protocol.heard), (b"one", None, [ConnectionDone]))

    def test_broken(self) -> None:
        """That a connection is broken is told as ever: as a loss, and not before its writer has returned."""
        self.stream.stopReading()
        self.reset()
        self.busy(lambda: self.stream.write(b"one") or self.told.extend(self.protocol.heard), self.write(b"two"))
        self.turn(2)
        self.assertNotIn(ConnectionLost, self.told)
        self.assertEqual(self.protocol.heard, [ConnectionLost])


class WriteTests(OneStream):
    def test_interface(self) -> None:
        """It is a transport of TCP."""
        self.assertTrue(verifyObject(ITCPTransport, self.stream))

    def test_at_once(self) -> None:
        """What is written is with the peer before `write` returns, in order, and nobody waits for the socket."""
        self.stream.write(b"one ")
        self.stream.writeSequence([b"two ", b"three"])
        self.assertEqual((self.received(), self.streams.getWriters()), (b"one two three", []))

    def test_the_rest_is_queued(self) -> None:
        """What the socket does not take is sent when it does, in order with what is written meanwhile."""
        sent = os.urandom(MUCH)
        self.stream.write(sent)
        self.stream.write(b"last")
        self.assertEqual(self.streams.getWriters(), [self.stream])
        self.assertTrue(self.drain() == sent + b"last")
        self.assertEqual(self.streams.getWriters(), [])
        self.stream.write(b"again")
        self.assertEqual(self.received(), b"again")

    def test_push_producer(self) -> None:
        """A push producer is paused while more than a buffer is queued, and not asked for anything before."""
        self.stream.registerProducer(producer := Producer(), True)
        self.stream.write(b"little")
        self.turn()
        self.assertEqual(producer.asked, [])
        self.stream.write(bytes(MUCH))
        self.assertEqual(producer.asked, ["pause"])
        self.drain()
        self.assertEqual(producer.asked, ["pause", "resume"])

    def test_pull_producer(self) -> None:
        """A pull producer is asked again and again, and the connection lives until it is unregistered."""
        producer = Producer(self.stream, 3)
        self.stream.registerProducer(producer, False)
        self.stream.loseConnection()
        self.turn(5)
        self.assertEqual((self.received(), self.protocol.heard), (b"piece" * 3, []))
        self.stream.unregisterProducer()
        self.assertEqual(self.turn(), [ConnectionDone])

    def test_breaks(self) -> None:
        """When the peer is gone `write` returns, and afterwards the loss is told, once and as a loss."""
        for paused in (False, True):
            self.setUp()
            if paused:
                self.stream.pauseProducing()
            self.reset()
            self.stream.write(b"one")
            self.stream.write(b"two")
            self.assertEqual(self.protocol.heard, [])
            self.assertEqual(self.turn(3), [ConnectionLost])
            self.stream.write(b"three")
            self.assertEqual(self.streams.getWriters(), [])

    def test_end_is_no_loss(self) -> None:
        """A socket that only takes nothing for now has not broken: the end of the peer is an end."""
        with contextlib.suppress(BlockingIOError):
            while self.stream.getHandle().send(bytes(MUCH)):
                pass
        self.stream.write(b"!")
        self.peer.shutdown(socket.SHUT_WR)
        self.assertEqual(self.turn(), ["ended"])

    def test_unread_before_the_break(self) -> None:
        """What the peer had sent before it broke is heard first."""
        self.peer.send(b"bye")
        self.peer.shutdown(socket.SHUT_WR)
        self.stream.write(b"one")
        self.assertEqual(self.turn(2), [b"bye", "ended"])

    def test_after_abort(self) -> None:
        """Nothing is sent on a connection that was aborted."""
        self.stream.abortConnection()
        self.stream.write(b"too late")
        self.assertEqual(self.received(), b"")
        self.turn(2)
        self.assertRaises(ConnectionResetError, self.received)


class CloseTests(OneStream):
    def test_close(self) -> None:
        """A connection with nothing to send is closed after what its protocol was told, not while it is told it."""
        self.protocol.act = lambda: (self.stream.loseConnection(), self.protocol.heard.append("returned"))
        self.peer.send(b"!")
        self.assertEqual(self.turn(), [b"!", "returned", ConnectionDone])
        self.assertEqual((self.received(), self.reactor.readers), (None, []))

    def test_close_from_elsewhere(self) -> None:
        """So it is if nothing was told; and nothing is told any more."""
        self.stream.loseConnection()
        self.stream.loseConnection()
        self.peer.send(b"!")
        self.assertEqual(self.protocol.heard, [])
        self.assertEqual(self.turn(), [ConnectionDone])

    def test_close_flushes(self) -> None:
        """What is queued is sent first; nothing is read meanwhile."""
        self.stream.write(bytes(MUCH))
        self.stream.loseConnection()
        self.assertEqual(self.streams.getReaders(), [])
        self.assertEqual(len(self.drain()), MUCH)
        self.assertEqual(self.turn(), [ConnectionDone])

    def test_written_after_close(self) -> None:
        """What is written between is sent, however much it is."""
        self.stream.loseConnection()
        self.stream.write(b"small")
        self.stream.write(bytes(MUCH))
        self.turn()
        self.assertEqual(self.streams.getReaders(), [])
        self.assertEqual(len(self.drain()), 5 + MUCH)
        self.assertEqual(self.turn(), [ConnectionDone])

    def test_shut(self) -> None:
        """The peer sees the end of what is sent at once; what it sends is heard, and then both can be closed."""
        self.stream.write(b"all")
        self.stream.loseWriteConnection()
        self.assertEqual((self.received(), self.received(), self.protocol.heard), (b"all", None, ["shut"]))
        self.stream.write(b"too late")
        self.peer.send(b"more")
        self.assertEqual(self.turn(), ["shut", b"more"])
        self.stream.loseConnection()
        self.assertEqual(self.turn(), ["shut", b"more", ConnectionDone])

    def test_shut_flushes(self) -> None:
        """What is queued comes first."""
        self.stream.write(bytes(MUCH))
        self.stream.loseWriteConnection()
        self.assertEqual((len(self.drain()), self.protocol.heard), (MUCH, ["shut"]))

    def test_producer_is_stopped(self) -> None:
        """A lost connection stops its producer, forgets its protocol and leaves nothing behind."""
        self.stream.registerProducer(producer := Producer(), True)
        self.reset()
        self.assertEqual((self.turn(), producer.asked), ([ConnectionLost], ["stop"]))
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))
        self.assertFalse(hasattr(self.stream, "protocol"))

    def test_abort_wins(self) -> None:
        """A connection that is to be closed and is aborted, in whichever order, is reset."""
        for ends in (("loseConnection", "abortConnection"), ("abortConnection", "loseConnection")):
            self.setUp()
            for end in ends:
                getattr(self.stream, end)()
            self.assertEqual(self.turn(2), [ConnectionAborted])
            self.assertRaises(ConnectionResetError, self.received)

    def test_lost_and_closed_at_once(self) -> None:
        """A connection that is lost while it waits to be closed hears so once."""
        self.stream.loseConnection()
        self.stream.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.turn(2), [ConnectionLost])


class AddressTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """The kernel's words for addresses, in Twisted's."""
        self.assertEqual(address_of(("192.0.2.1", 80)), IPv4Address("TCP", "192.0.2.1", 80))
        self.assertEqual(address_of(("2001:db8::1", 80, 0, 0)), IPv6Address("TCP", "2001:db8::1", 80))
        self.assertEqual(address_of("/run/s"), UNIXAddress("/run/s"))
        self.assertEqual(address_of(""), UNIXAddress(None))

    def test_zone(self) -> None:
        """An address of one network keeps the name of its interface."""
        number, name = socket.if_nameindex()[0]
        self.assertEqual(address_of(("fe80::1", 80, 0, number)).host, f"fe80::1%{name}")
