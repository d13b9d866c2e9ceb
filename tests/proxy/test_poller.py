"""How do the events of many streams reach them at little cost?"""

from __future__ import annotations

import os
import socket

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pylb.proxy import poller
from pylb.proxy.poller import Poller, can_poll
from tests.fakes import FakeReactor


@implementer(IReactorFDSet)
class Reactor(Clock):
    """Notes which readers it has."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []

    def addReader(self, reader) -> None:
        self.readers.append(reader)

    def removeReader(self, reader) -> None:
        self.readers.remove(reader)


class Descriptor:
    """One end of a pair of sockets that notes what it is told, and then does as the test says."""

    def __init__(self, case, name="a") -> None:
        self.sock, self.peer = socket.socketpair()
        for sock in (self.sock, self.peer):
            sock.setblocking(False)
            case.addCleanup(sock.close)
        self.fileno = self.sock.fileno
        self.name = name
        self.told = case.told
        self.answers = {}

    def tell(self, what):
        self.told.append(f"{self.name} {what}")
        return self.answers.get(what, lambda: None)()

    def doRead(self):
        return self.tell("read")

    def doWrite(self):
        return self.tell("write")

    def connectionLost(self, reason: Failure) -> None:
        self.tell(reason.type.__name__)


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(Descriptor):
    def readConnectionLost(self, reason: Failure) -> None:
        self.tell("ended")

    def writeConnectionLost(self, reason: Failure) -> None:
        raise NotImplementedError


class PollerTests(SynchronousTestCase):
    if not hasattr(poller.select, "epoll"):
        skip = "there is no epoll on this system"

    def setUp(self) -> None:
        self.told: list[str] = []
        self.reactor = Reactor()
        self.poller = Poller(self.reactor)
        self.addCleanup(self.poller.removeAll)

    def reading(self, name="a", kind=Descriptor):
        """One that is watched for reading and has something to read."""
        descriptor = kind(self, name)
        descriptor.peer.send(b"!")
        self.poller.addReader(descriptor)
        return descriptor

    def turn(self) -> list[str]:
        """What is told in one turn of the reactor."""
        self.told.clear()
        for reader in list(self.reactor.readers):
            reader.doRead()
        return self.told

    def test_interfaces(self) -> None:
        self.assertTrue(verifyObject(IReactorFDSet, self.poller))
        self.assertTrue(verifyObject(IReadDescriptor, self.poller))

    def test_where(self) -> None:
        """There can be one under reactors that watch descriptors, and not without epoll."""
        self.assertEqual((can_poll(Reactor()), can_poll(FakeReactor())), (True, False))
        self.patch(poller, "select", socket)
        self.assertFalse(can_poll(Reactor()))

    def test_told(self) -> None:
        """A descriptor is told what it is watched for, reading first."""
        a = self.reading()
        self.assertEqual(self.turn(), ["a read"])
        self.poller.addWriter(a)
        self.assertEqual(self.turn(), ["a read", "a write"])
        self.poller.removeReader(a)
        self.assertEqual(self.turn(), ["a write"])
        self.poller.removeWriter(a)
        self.assertEqual(self.turn(), [])

    def test_watches(self) -> None:
        """It says whom it watches, and to add or remove twice is to do it once."""
        a, b = Descriptor(self), Descriptor(self)
        for _ in range(2):
            self.poller.addReader(a)
            self.poller.addWriter(a)
            self.poller.addWriter(b)
        self.assertEqual((self.poller.getReaders(), self.poller.getWriters()), ([a], [a, b]))
        for _ in range(2):
            self.poller.removeReader(a)
            self.poller.removeWriter(a)
        self.assertEqual((self.poller.getReaders(), self.poller.getWriters()), ([], [b]))

    def test_registered_while_watching(self) -> None:
        """The reactor has it, and there is a descriptor, only while it watches something."""
        a = Descriptor(self)
        for _ in range(2):
            self.assertEqual((self.reactor.readers, self.poller.fileno()), ([], -1))
            self.poller.addReader(a)
            self.assertEqual(self.reactor.readers, [self.poller])
            os.fstat(self.poller.fileno())
            self.poller.removeReader(a)

    def test_the_reactor_lets_go(self) -> None:
        """When the reactor lets go of it, all that it watches is lost, once each."""
        a, b = self.reading("a"), self.reading("b")
        self.poller.addWriter(b)
        self.poller.addWriter(a)
        self.poller.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((self.told, self.reactor.readers), (["a ConnectionLost", "b ConnectionLost"], []))

    def test_end(self) -> None:
        """The end of what is read is the loss of the connection, unless its descriptor can be half-closed."""
        for kind, expected in ((Descriptor, "ConnectionDone"), (HalfCloseable, "ended")):
            a = self.reading(kind=kind)
            a.answers["read"] = lambda: CONNECTION_DONE
            self.poller.addWriter(a)
            self.assertEqual(self.turn(), ["a read", f"a {expected}"])
            self.assertEqual(self.poller.getReaders(), [])
            self.assertEqual(self.poller.getWriters(), [a] if kind is HalfCloseable else [])
            self.poller.removeAll()

    def test_done_writing(self) -> None:
        """A descriptor that says, when told to write, that it is done is lost."""
        a = HalfCloseable(self)
        a.answers["write"] = lambda: CONNECTION_DONE
        self.poller.addWriter(a)
        self.assertEqual((self.turn(), self.reactor.readers), (["a write", "a ConnectionDone"], []))

    def test_hang_up(self) -> None:
        """One that is gone while it is not read is lost."""
        a = Descriptor(self)
        self.poller.addWriter(a)
        a.sock.shutdown(socket.SHUT_RDWR)
        a.peer.close()
        self.assertEqual(self.turn(), ["a ConnectionLost"])

    def test_removed_while_told(self) -> None:
        """One that was removed by what another was told hears nothing any more, nor does one that removed itself."""
        a, b = self.reading("a"), self.reading("b")
        for descriptor in (a, b):
            descriptor.answers["read"] = lambda: self.poller.removeAll() and None
            self.poller.addWriter(descriptor)
        self.assertEqual(len(self.turn()), 1)

    def test_number_used_again(self) -> None:
        """What was told of a descriptor is not for another one that got its number meanwhile, but it gets its own events."""
        a, b = self.reading("a"), self.reading("b")
        heir = Descriptor(self, "heir")
        heir.peer.send(b"!")

        def replace(other):
            def act():
                if heir not in self.poller.getReaders():
                    self.poller.removeReader(other)
                    os.dup2(heir.fileno(), number := other.fileno())
                    heir.fileno = lambda: number
                    self.poller.addReader(heir)

            return act

        a.answers["read"], b.answers["read"] = replace(b), replace(a)
        self.assertIn(self.turn(), (["a read"], ["b read"]))
        self.assertIn("heir read", self.turn())

    def test_closed(self) -> None:
        """One that is closed is forgotten; if a copy of it is open somewhere, what that would hear is for nobody."""
        a, b = self.reading("a"), self.reading("b")
        copy = os.dup(a.fileno())
        self.addCleanup(os.close, copy)
        self.poller.forget(a, closes=True)
        a.sock.close()
        self.assertEqual(self.poller.getReaders(), [b])
        self.assertEqual(self.turn(), ["b read"])

    def test_exception(self) -> None:
        """An exception loses the connection in which it was raised and is logged; the others do not notice."""
        for name in "ab":
            self.reading(name).answers["read"] = lambda: 1 / 0
        self.assertEqual(sorted(self.turn()), ["a ZeroDivisionError", "a read", "b ZeroDivisionError", "b read"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_exception_at_the_end(self) -> None:
        """So does one that is raised when a connection is told of its end."""
        for name in "ab":
            broken = self.reading(name)
            broken.answers = {"read": lambda: CONNECTION_DONE, "ConnectionDone": lambda: 1 / 0}
            broken.answers["ZeroDivisionError"] = broken.answers["ConnectionDone"]
        self.assertEqual(len(self.turn()), 6)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
        self.assertEqual(self.reactor.readers, [])

    def test_bounded(self) -> None:
        """A turn hands out so many events and no more; whoever was left out is told in the next one."""
        self.patch(poller, "EVENTS", 3)
        for name in "abcde":
            self.reading(name)
        first, second = set(self.turn()), set(self.turn())
        self.assertEqual((len(first), len(second), len(first | second)), (3, 3, 5))


class SoonTests(SynchronousTestCase):
    """What is to be done once the events at hand are handed out."""

    setUp = PollerTests.setUp
    reading = PollerTests.reading
    turn = PollerTests.turn

    def test_after_the_events(self) -> None:
        """It is done in the same turn, after the last event, and what it asks for as well."""

        def note():
            self.told.append("soon")
            if self.told.count("soon") < 4:
                self.poller.soon(None, note)

        for name in "ab":
            self.reading(name).answers["read"] = lambda: self.poller.soon(None, note)
        self.assertEqual([what.split()[-1] for what in self.turn()], 2 * ["read"] + 5 * ["soon"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_between_events(self) -> None:
        """Asked for at another time, it is done in the reactor's next turn."""
        self.poller.soon(None, lambda: self.told.append("one"))
        self.poller.soon(None, lambda: self.told.append("two"))
        self.assertEqual((self.told, len(self.reactor.getDelayedCalls())), ([], 1))
        self.reactor.advance(0)
        self.assertEqual((self.told, self.reactor.getDelayedCalls()), (["one", "two"], []))

    def test_exception(self) -> None:
        """An exception loses the connection that it was done for and is logged, and the next is done."""
        self.poller.soon(Descriptor(self, "a"), lambda: 1 / 0)
        self.poller.soon(None, lambda: self.told.append("two"))
        self.reactor.advance(0)
        self.assertEqual(self.told, ["a ZeroDivisionError", "two"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class DoneTests(SynchronousTestCase):
    def test_done(self) -> None:
        """The end of a connection has the words of Twisted's reactors."""
        self.assertEqual((poller.DONE.type, poller.DONE.value), (ConnectionDone, CONNECTION_DONE))
