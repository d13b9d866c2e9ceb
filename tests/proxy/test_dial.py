"""How is one server reached, and when is it?"""

from __future__ import annotations

import errno
import gc
import os
import socket
import weakref

from twisted.internet.error import ConnectBindError, ConnectError
from twisted.internet.interfaces import IHandshakeListener
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pylb.balance.server import Server
from pylb.model import Address, InetAddress, ServerSpec, UnixAddress
from pylb.proxy.dial import OWN_FAULTS, Dial, ServerSide, UpstreamError
from tests.fakes import FakeReactor

ADDRESS = InetAddress("a", 80)


class Side(ServerSide):
    """Notes its end."""

    ended = False

    def lost(self, reason: Failure) -> None:
        self.ended = True


class FakeTLS:
    """Leaves the connections as they are; the test says when the handshake is over."""

    def over(self, factory, server, reactor):
        return factory


class DialTests(SynchronousTestCase):
    """The test dials; `heard` has what it is told."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.heard: list[object] = []
        self.reached = self.missed = self.heard.append
        self.build = Side

    def dial(self, address: Address = ADDRESS, tls: object = None) -> Dial:
        server = Server(ServerSpec(address=address))
        dial = Dial(self, server, self.reactor, tls)
        dial.start()
        return dial

    def assert_missed(self, reason: str, *, ours: bool = False) -> None:
        """That is the one thing it heard, and nothing is left."""
        (error,) = self.heard
        assert isinstance(error, UpstreamError)
        self.assertEqual((str(error), error.timed_out, error.ours), (reason, False, ours))
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.pending), ([], []))

    def test_reached(self) -> None:
        """A server is reached when it is connected; what becomes of the connection is its protocol's then."""
        self.dial()
        self.assertEqual(self.heard, [])
        transport = self.reactor.dialled[0].accept()
        self.assertEqual((self.heard, self.reactor.getDelayedCalls()), ([transport.protocol], []))
        transport.lose()
        self.assertEqual((self.heard, transport.protocol.ended), ([transport.protocol], True))

    def test_unix(self) -> None:
        """A server may be a Unix socket."""
        self.dial(UnixAddress("/run/app")).stop()
        self.assertEqual(self.reactor.dialled[0].address, "/run/app")

    def test_tls(self) -> None:
        """Over TLS a server is reached when its handshake is over."""
        self.dial(tls=FakeTLS())
        transport = self.reactor.dialled[0].accept()
        self.assertTrue(verifyObject(IHandshakeListener, transport.protocol))
        self.assertEqual(self.heard, [])
        transport.protocol.handshakeCompleted()
        self.assertEqual(self.heard, [transport.protocol])

    def test_handshake_fails(self) -> None:
        """A connection that ends before that has failed, and its protocol does not hear of it."""
        self.dial(tls=FakeTLS())
        transport = self.reactor.dialled[0].accept()
        transport.lose(ConnectError(string="no."))
        self.assertFalse(transport.protocol.ended)
        self.assert_missed("An error occurred while connecting: no")

    def test_refused(self) -> None:
        """Who refuses is not reached, and it is not our fault."""
        self.dial()
        self.reactor.dialled[0].refuse()
        self.assert_missed("Connection was refused by other side")

    def test_stop_in_the_handshake(self) -> None:
        """Who stops it then closes the connection that was made."""
        dial = self.dial(tls=FakeTLS())
        transport = self.reactor.dialled[0].accept()
        dial.stop()
        self.assertTrue(transport.disconnecting)
        transport.settle()
        self.assertEqual((self.heard, transport.protocol.ended), ([], False))

    def test_stop(self) -> None:
        """Who has stopped it, as often as it likes, hears nothing."""
        dial = self.dial()
        dial.stop()
        dial.stop()
        self.assertEqual((self.heard, self.reactor.getDelayedCalls(), self.reactor.pending), ([], [], []))

    def test_nothing_keeps_it(self) -> None:
        """Once it is over it is gone, without the garbage collector."""
        gc.disable()
        self.addCleanup(gc.enable)
        for end in (lambda: self.reactor.dialled[-1].accept(), lambda: self.reactor.dialled[-1].refuse()):
            dial = weakref.ref(self.dial())
            end()
            self.reactor.dialled.clear()
            self.assertIsNone(dial())

    def test_own_faults(self) -> None:
        """Lack of descriptors, memory or local ports is our own fault, whoever tells it."""
        codes = errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM
        self.assertEqual(frozenset(codes), OWN_FAULTS)
        for code in codes:
            for kind in (ConnectBindError, ConnectError, OSError):
                self.setUp()
                self.dial()
                self.reactor.dialled[0].refuse(kind(code, os.strerror(code)))
                self.assertEqual([error.ours for error in self.heard], [True], (code, kind))

    def test_not_our_fault(self) -> None:
        """A server without a route to it is not."""
        self.dial()
        self.reactor.dialled[0].refuse(ConnectError(errno.EHOSTUNREACH, "no route"))
        self.assert_missed(f"An error occurred while connecting: {errno.EHOSTUNREACH}: no route")

    def test_raised(self) -> None:
        """What the reactor raises at once, it might as well have told later."""
        for error, ours in ((OSError(errno.EMFILE, "too many"), True), (socket.gaierror(-2, "no such zone"), False)):
            self.setUp()
            self.reactor.error = error
            self.dial()
            self.assert_missed(str(error), ours=ours)

    def test_build_breaks(self) -> None:
        """An exception while a protocol is made is a failure as well."""

        def build() -> ServerSide:
            raise RuntimeError("broken")

        self.build = build
        self.dial()
        connector = self.reactor.dialled[0]
        error = self.assertRaises(RuntimeError, connector.accept)
        connector.refuse(error)  # as Twisted does
        self.assert_missed("broken")
