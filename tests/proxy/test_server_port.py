"""pylb.proxy.server_port: what speaks to servers, on real sockets."""

from __future__ import annotations

import errno
from unittest import mock

from twisted.internet.defer import DeferredQueue, inlineCallbacks
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from pylb.model import InetAddress
from pylb.proxy.server_port import REPLIES_A_TURN, ServerPort
from tests.functional.rig import free_port
from tests.proxy.datagrams import OnPoller, Sockets


class Replies:
    """A session that keeps what its server says."""

    #: Whether more is to be expected.
    more = True

    def __init__(self) -> None:
        self.queue: DeferredQueue = DeferredQueue()

    def reply_arrived(self, datagram: bytes) -> bool:
        self.queue.put(datagram)
        return self.more

    def refused(self, reason: str) -> None:
        self.queue.put(reason)


class ServerPortTests(Sockets):
    def server_port(self, host: str, number: int) -> tuple[ServerPort, Replies]:
        replies = Replies()
        port = ServerPort(self.network, replies, InetAddress(host, number))
        self.addCleanup(port.close)
        return port, replies

    @inlineCallbacks
    def test_exchange(self):
        for host in ("127.0.0.1", "::1"):
            server = self.bound(host)
            port, replies = self.server_port(host, server.getsockname()[1])
            port.send(b"question")
            datagram, client = server.recvfrom(100)
            self.assertEqual(datagram, b"question")
            server.sendto(b"answer", client)
            self.assertEqual((yield replies.queue.get()), b"answer")

    @inlineCallbacks
    def test_outlives_port_unreachable(self):
        """A refusal is reported, and the same socket works when the server is there again, any number of times."""
        number = free_port()
        port, replies = self.server_port("127.0.0.1", number)
        for _ in range(3):
            port.send(b"anybody?")
            self.assertEqual((yield replies.queue.get()), "Connection refused")
        server = self.bound("127.0.0.1", number)
        port.send(b"question")
        server.sendto(b"answer", server.recvfrom(100)[1])
        self.assertEqual((yield replies.queue.get()), b"answer")

    def test_replies_before_the_refusal_are_kept(self):
        """A reply that waits behind an error is delivered before the error is reported."""
        server = self.bound("127.0.0.1")
        port, replies = self.server_port("127.0.0.1", server.getsockname()[1])
        port.send(b"question")
        server.sendto(b"answer", server.recvfrom(100)[1])
        server.close()
        port.send(b"another")
        port.doRead()
        self.assertEqual(replies.queue.pending, [b"answer", "Connection refused"])

    def test_an_error_event_without_an_error(self):
        """An event that was meant for an earlier owner of the descriptor changes nothing."""
        port, replies = self.server_port("127.0.0.1", free_port())
        self.network.removeReader(port)
        port.connectionLost(Failure(ConnectionDone()))
        self.assertIn(port, self.network.getReaders())
        self.assertEqual(replies.queue.pending, [])

    def test_the_end_of_the_reactor(self):
        port, replies = self.server_port("127.0.0.1", free_port())
        port.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(port.fileno(), -1)
        self.assertEqual(replies.queue.pending, [])

    def test_passing_errors_are_no_refusal(self):
        """A path that carries less (EMSGSIZE) says nothing against the server."""
        port, replies = self.server_port("127.0.0.1", free_port())
        port._report(errno.EMSGSIZE)
        self.assertEqual(replies.queue.pending, [])

    def answered(self, count: int) -> tuple[ServerPort, Replies]:
        """A port for which so many replies wait."""
        server = self.bound("127.0.0.1")
        port, replies = self.server_port("127.0.0.1", server.getsockname()[1])
        port.send(b"")
        client = server.recvfrom(100)[1]
        for n in range(count):
            server.sendto(b"%d" % n, client)
        return port, replies

    def test_no_more_is_expected(self):
        """A port does not look for more than the session expects; what comes all the same is read at the next turn."""
        port, replies = self.answered(2)
        replies.more = False
        port.doRead()
        self.assertEqual(replies.queue.pending, [b"0"])
        port.doRead()
        self.assertEqual(replies.queue.pending, [b"0", b"1"])

    def test_bounded_reads(self):
        """However many replies wait, a turn of the reactor takes a bounded number."""
        port, replies = self.answered(REPLIES_A_TURN + 1)
        port.doRead()
        self.assertEqual(len(replies.queue.pending), REPLIES_A_TURN)

    def test_retired_port_reads_nothing(self):
        """A port whose session ended within its reads stops there, and keeps its descriptor until it is closed."""
        port, replies = self.answered(2)
        self.patch(replies, "reply_arrived", mock.Mock(side_effect=lambda _: port.retire() or True))
        port.doRead()
        replies.reply_arrived.assert_called_once_with(b"0")
        self.assertNotIn(port, self.network.getReaders())
        self.assertNotEqual(port.fileno(), -1)
        port.close()
        self.assertEqual(port.fileno(), -1)

    def test_no_way_leaves_no_descriptor(self):
        """When connecting fails the socket is closed and the error is the caller's."""
        with mock.patch("pylb.proxy.server_port.socket.socket") as made:
            made.return_value.connect.side_effect = OSError(errno.ENETUNREACH, "Network is unreachable")
            with self.assertRaises(OSError):
                ServerPort(self.network, Replies(), InetAddress("127.0.0.1", 9))
            made.return_value.close.assert_called_once_with()


class PolledServerPortTests(OnPoller, ServerPortTests):
    """The same on a poller."""
