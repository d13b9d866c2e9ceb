"""How do the bytes of a busy stream get from one socket to another without being read?"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct

from twisted.internet import reactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy import splice
from pylb.proxy.pipes import Pipe
from pylb.proxy.poller import can_poll
from pylb.proxy.splice import pass_on
from pylb.proxy.streams import Streams
from pylb.proxy.transport import Stream
from tests.proxy.test_poller import Reactor
from tests.proxy.test_transport import MUCH, PEER, Notes


class Tally:
    """Notes what a passage tells."""

    def __init__(self) -> None:
        self.counts = [0, 0]
        self.ended = 0

    def came(self, count: int) -> None:
        self.counts[0] += count

    def went(self, count: int) -> None:
        self.counts[1] += count

    def passed(self) -> None:
        self.ended += 1


class PassageCase(SynchronousTestCase):
    """Two streams, whose peers are sockets in the test's hands, and a pipe between them."""

    if not (can_poll(reactor) and hasattr(os, "splice")):
        skip = "this system has no splice"

    def setUp(self) -> None:
        self.patch(splice, "LEAST", 1)
        self.reactor = Reactor()
        self.streams = Streams(self.reactor, 2)
        self.made: list[Stream] = []
        self.tally = Tally()
        self.sender, self.source = self.stream()
        self.taker, self.sink = self.stream()

    def tearDown(self) -> None:
        for stream in self.made:
            if stream.connected:
                stream.abortConnection()
        self.turn(2)
        self.assertEqual((len(self.streams.pipes), self.reactor.readers), (0, []))

    def stream(self) -> tuple[socket.socket, Stream]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            peer = socket.create_connection(listening.getsockname())
            mine, _ = listening.accept()
        self.addCleanup(peer.close)
        for sock in (peer, mine):
            sock.setblocking(False)
        stream = Stream(mine, Notes(), self.streams, PEER)
        stream.startReading()
        stream.protocol.makeConnection(stream)
        self.made.append(stream)
        stream.notes = stream.protocol.heard
        return peer, stream

    def pass_on(self, *count: int) -> bool:
        return pass_on(self.source, self.sink, self.tally, *count)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            for reader in list(self.reactor.readers):
                reader.doRead()
            self.reactor.advance(0)

    def taken(self) -> bytes | None:
        """What the taker has now; None at the end."""
        try:
            return self.taker.recv(MUCH) or None
        except BlockingIOError:
            return b""

    def fill_up(self) -> bytes:
        """Send until nothing moves any more; what was sent."""
        sent = b""
        for _ in range(1000):
            try:
                piece = os.urandom(64 * 1024)
                sent += piece[: self.sender.send(piece)]
            except BlockingIOError:
                before = self.tally.counts[0]
                self.turn()
                if self.tally.counts[0] == before:
                    return sent
        raise AssertionError("whatever is sent, it moves")

    def drain(self) -> bytes:
        """All that comes, until nothing does any more or the end."""
        data, idle = b"", 0
        while idle < 3 and (piece := self.taken()) is not None:
            self.turn()
            data += piece
            idle = 0 if piece else idle + 1
            if idle:
                # The kernel may have some on its way, if others keep it busy.
                select.select([self.taker], [], [], 0.05)
        return data


class Producer:
    """Of what a sink gets: counts how often it is held up."""

    held_up = 0

    def pauseProducing(self) -> None:
        self.held_up += 1

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


class PassTests(PassageCase):
    def test_slow_but_not_still(self) -> None:
        """A sink that takes a part holds its producer up anew, and one that takes nothing does not."""
        producer = Producer()
        self.sink.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        self.sink.registerProducer(producer, True)
        self.pass_on()
        self.fill_up()
        for _ in range(2):
            before, went = producer.held_up, self.tally.counts[1]
            self.turn()
            self.assertEqual(producer.held_up, before)
            self.take_a_part(went)
            self.assertEqual(producer.held_up, before + 1)

    def take_a_part(self, went: int) -> None:
        """Take until the pipe has given something."""
        while self.tally.counts[1] == went:
            self.assertTrue(self.taker.recv(16 * 1024))
            self.turn()

    def test_not_by_this_kernel(self) -> None:
        """Where splice is refused everything is read as ever, and no pipe is handed out any more."""

        def refused(pipe: Pipe, fd: int, most: int) -> int:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        self.patch(Pipe, "fill", refused)
        self.pass_on()
        self.sender.send(b"hello")
        self.turn(2)
        self.assertEqual(self.source.notes, [b"hello"])
        self.assertFalse(self.pass_on())

    def test_passes(self) -> None:
        """What comes goes to the other end and is counted; neither protocol hears of it."""
        self.assertTrue(self.pass_on())
        for sent in (b"one ", b"two"):
            self.sender.send(sent)
            self.turn()
            self.assertEqual(self.taken(), sent)
        self.assertEqual((self.tally.counts, self.source.notes, self.sink.notes), ([7, 7], [], []))

    def test_so_many(self) -> None:
        """Of what comes only so many bytes pass; then that is told, and the rest is read."""
        self.pass_on(5)
        self.sender.send(b"12")
        self.turn()
        self.assertEqual(self.tally.ended, 0)
        self.sender.send(b"345rest")
        self.turn(2)
        self.assertEqual((self.taken(), self.tally.ended, self.source.notes), (b"12345", 1, [b"rest"]))
        self.assertEqual(self.tally.counts, [5, 5])

    def test_both_ways(self) -> None:
        """The two directions have nothing to do with each other."""
        back = Tally()
        self.assertEqual((self.pass_on(), pass_on(self.sink, self.source, back)), (True, True))
        self.sender.send(b"there")
        self.taker.send(b"back")
        self.turn()
        self.assertEqual((self.taker.recv(9), self.sender.recv(9)), (b"there", b"back"))
        self.assertEqual((self.tally.counts, back.counts), ([5, 5], [4, 4]))

    def test_few(self) -> None:
        """When few bytes come at a time, several times in a row, they are read again, and the pipe is free."""
        self.pass_on()
        for _ in range(splice.TURNS - 1):
            self.sender.send(b"!")
            self.turn()
        self.sender.send(bytes(splice.FEW))
        self.turn()
        for _ in range(splice.TURNS):
            self.assertEqual(self.source.notes, [])
            self.sender.send(b"!")
            self.turn()
        self.sender.send(b"read")
        self.turn()
        self.assertEqual((self.source.notes, self.tally.ended), ([b"read"], 0))
        self.assertTrue(self.pass_on())

    def test_cannot(self) -> None:
        """Only between two plain streams, once, with a pipe, and when nothing else is to be sent first."""
        meter = Tally()
        _, others_sink = self.stream()
        self.assertFalse(pass_on(self.source, Protocol(), meter))
        self.assertFalse(pass_on(type("TLS", (Stream,), {}), self.sink, meter))
        self.assertTrue(self.pass_on())
        last = self.streams.pipes.take()
        self.assertFalse(pass_on(others_sink, self.source, meter), "there is no pipe")
        self.streams.pipes.give_back(last)
        self.assertFalse(pass_on(self.source, others_sink, meter), "it passes already")
        self.assertFalse(pass_on(others_sink, self.sink, meter), "it is a sink already")
        others_sink.write(bytes(MUCH))
        self.assertFalse(pass_on(self.sink, others_sink, meter), "something is queued")
        others_sink.abortConnection()
        self.assertFalse(pass_on(self.sink, others_sink, meter), "it is being closed")

    def test_a_turn_is_bounded(self) -> None:
        """In one turn no more than a pipe full passes, however much has come."""
        self.patch(splice.pipes, "SIZE", 4096)
        self.pass_on()
        self.sender.send(bytes(65536))
        self.turn()
        self.assertLessEqual(self.tally.counts[0], 4096)


class HeldTests(PassageCase):
    """While the taker takes nothing."""

    def test_held_up(self) -> None:
        """The source is not read then, what pylb holds is bounded, and all of it arrives in the end."""
        self.pass_on()
        sent = self.fill_up()
        came, went = self.tally.counts
        self.assertTrue(0 < came - went <= splice.pipes.SIZE)
        self.assertNotIn(self.source, self.streams.getReaders())
        self.assertTrue(self.drain() == sent)
        self.assertEqual(self.tally.counts, [len(sent)] * 2)
        self.assertIn(self.source, self.streams.getReaders())
        self.assertEqual(self.streams.getWriters(), [])

    def test_written_behind(self) -> None:
        """What is written to the sink comes after what its pipe holds."""
        self.pass_on()
        self.fill_up()
        self.source.connectionLost(Failure(ConnectionLost()))
        heard = self.taken()
        self.sink.write(b"last")
        heard += self.drain()
        self.assertEqual((len(heard), heard[-4:]), (self.tally.counts[0] + 4, b"last"))

    def test_written_before(self) -> None:
        """What was written before, and is to be sent when the events at hand are handed out, comes before what passes."""
        self.streams.is_busy = True
        self.sink.write(b"head ")
        self.assertTrue(self.pass_on())
        self.sender.send(b"body")
        self.turn()
        self.assertEqual(self.taker.recv(100), b"head body")

    def test_written_beside(self) -> None:
        """What is written while the pipe is empty is sent at once, so that nothing passes it."""
        self.pass_on()
        self.streams.is_busy = True
        self.sink.write(b"one ")
        self.sender.send(b"two")
        self.turn()
        self.assertEqual(self.taker.recv(100), b"one two")

    def test_close_flushes(self) -> None:
        """A sink that is closed, or shut, gets first what the pipe holds."""
        for end in ("loseConnection", "loseWriteConnection"):
            self.setUp()
            self.pass_on()
            self.fill_up()
            getattr(self.sink, end)()
            self.source.loseConnection()
            self.turn(2)
            self.assertEqual(self.source.notes, [ConnectionDone])
            self.assertEqual(len(self.drain()), self.tally.counts[0])
            self.assertIsNone(self.taken())
            self.assertEqual(self.tally.counts[0], self.tally.counts[1])
            self.tearDown()

    def test_source_lost(self) -> None:
        """Of what was taken from a source that is lost nothing is."""
        self.pass_on()
        self.fill_up()
        self.source.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((len(self.drain()), self.sink.notes), (self.tally.counts[0], []))

    def test_sink_aborted(self) -> None:
        """What a pipe holds when its sink is lost is lost, too, and the pipe with it; the source is its owner's again."""
        self.pass_on()
        self.fill_up()
        self.sink.abortConnection()
        self.turn(2)
        self.assertEqual((self.sink.notes, len(self.streams.pipes)), ([ConnectionAborted], 0))
        self.source.resumeProducing()
        self.turn()
        self.assertTrue(self.source.notes)

    def test_sink_breaks(self) -> None:
        """A taker that resets is told as a loss of the sink."""
        self.pass_on()
        self.taker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sink.pauseProducing()
        self.taker.close()
        self.sender.send(b"in vain")
        self.turn(3)
        self.assertEqual((self.sink.notes, self.source.notes, self.source.source_of), ([ConnectionLost], [], None))


class EndTests(PassageCase):
    def test_end(self) -> None:
        """The end of the source is told to its protocol after all has passed, and the pipe is free."""
        self.pass_on()
        self.sender.send(b"all")
        self.sender.shutdown(socket.SHUT_WR)
        self.turn(2)
        self.assertEqual((self.taken(), self.source.notes, self.sink.notes), (b"all", ["ended"], []))
        self.assertTrue(pass_on(self.sink, self.source, Tally()))

    def test_reset(self) -> None:
        """So is its reset."""
        self.pass_on()
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sender.close()
        self.turn()
        self.assertEqual((self.source.notes, self.sink.sink_of), ([ConnectionLost], None))

    def test_exception(self) -> None:
        """An exception of who counts loses the source, in which it was raised, and nothing else."""
        self.tally.came = lambda count: 1 / 0
        self.pass_on()
        self.sender.send(b"!")
        self.turn()
        self.assertEqual((self.source.notes, self.sink.notes), ([ZeroDivisionError], []))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
