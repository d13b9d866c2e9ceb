"""pylb.proxy.datagram: ports on real sockets."""

from __future__ import annotations

import errno
import socket
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import DeferredQueue, inlineCallbacks
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from pylb.model import InetAddress
from pylb.proxy.datagram import READS_A_TURN, FrontPort, ServerPort, WildcardPort, front_port


class Arrivals(DatagramProtocol):
    """A front's protocol that keeps what arrives."""

    noisy = False

    def __init__(self) -> None:
        self.queue: DeferredQueue = DeferredQueue()

    def datagram_arrived(self, *arrival) -> None:
        self.queue.put(arrival)


class Replies:
    """A session that keeps what its server says."""

    def __init__(self) -> None:
        self.queue: DeferredQueue = DeferredQueue()

    def reply_arrived(self, datagram: bytes) -> None:
        self.queue.put(datagram)

    def refused(self, reason: str) -> None:
        self.queue.put(reason)


class Sockets(TestCase):
    timeout = 20

    def bound(self, host: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        sock.bind((host, 0))
        return sock

    def closed_port(self, host: str = "127.0.0.1") -> int:
        """The number of a port on which nobody listens."""
        sock = self.bound(host)
        port = sock.getsockname()[1]
        sock.close()
        return port


class FrontPortTests(Sockets):
    def front(self, host: str) -> tuple[FrontPort, Arrivals, int]:
        sock = self.bound(host)
        arrivals = Arrivals()
        port = front_port(reactor, sock, arrivals)
        port.startListening()
        self.addCleanup(port.stopListening)
        return port, arrivals, sock.getsockname()[1]

    @inlineCallbacks
    def answered(self, listen: str, spoken_to: str):
        """What a client at `spoken_to`'s family gets back after speaking to `spoken_to`: (reply, its source)."""
        port, arrivals, number = self.front(listen)
        client = self.bound("::1" if ":" in spoken_to else "127.0.0.1")
        client.sendto(b"question", (spoken_to, number))
        datagram, source, local = yield arrivals.queue.get()
        self.assertEqual(datagram, b"question")
        self.assertTrue(port.reply(b"answer", source, local))
        answer, origin = client.recvfrom(100)
        return answer, origin[0]

    @inlineCallbacks
    def test_wildcard_answers_from_the_address_spoken_to(self):
        """A reply leaves from the address that the client spoke to, not from the one that routing would choose."""
        for address in ("127.0.0.2", "127.0.0.1"):
            self.assertEqual((yield self.answered("0.0.0.0", address)), (b"answer", address))

    @inlineCallbacks
    def test_ipv6_wildcard(self):
        self.assertEqual((yield self.answered("::", "::1")), (b"answer", "::1"))

    @inlineCallbacks
    def test_one_address(self):
        for address in ("127.0.0.3", "::1"):
            self.assertEqual((yield self.answered(address, address)), (b"answer", address))

    def test_only_wildcards_pay_for_packet_info(self):
        self.assertEqual(
            [type(self.front(host)[0]) for host in ("127.0.0.1", "::1", "0.0.0.0", "::")],
            [FrontPort, FrontPort, WildcardPort, WildcardPort],
        )

    @inlineCallbacks
    def test_without_packet_info(self):
        """Where the platform cannot tell the local address, the kernel chooses it."""
        self.patch(socket.socket, "setsockopt", mock.Mock(side_effect=OSError(errno.ENOPROTOOPT, "")))
        self.assertEqual((yield self.answered("0.0.0.0", "127.0.0.1")), (b"answer", "127.0.0.1"))

    @inlineCallbacks
    def test_local_addresses_differ(self):
        """What stands for the local address is equal for equal ones only, so that it can be part of a key."""
        _, arrivals, number = self.front("0.0.0.0")
        client = self.bound("127.0.0.1")
        seen = []
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            client.sendto(b"", (address, number))
            seen.append((yield arrivals.queue.get())[2])
        self.assertEqual([seen.index(local) for local in seen], [0, 1, 0])

    @inlineCallbacks
    def test_local_end(self):
        """The address that a datagram came to, on a wildcard socket too; without packet info it is the socket's."""
        for listen, spoken_to in (("0.0.0.0", "127.0.0.2"), ("::", "::1"), ("127.0.0.1", "127.0.0.1")):
            front, arrivals, number = self.front(listen)
            self.bound("::1" if ":" in listen else "127.0.0.1").sendto(b"?", (spoken_to, number))
            _, _, local = yield arrivals.queue.get()
            self.assertEqual(front.local_end(local), (spoken_to, number))
            self.assertEqual(front.local_end(None), (listen, number))

    @inlineCallbacks
    def test_ipv6_scope_is_kept(self):
        """The client's address holds all four fields, of which the scope id is one."""
        _, arrivals, number = self.front("::")
        client = self.bound("::1")
        client.sendto(b"x", ("::1", number))
        _, source, _ = yield arrivals.queue.get()
        self.assertEqual(source, client.getsockname())
        self.assertEqual(len(source), 4)

    def test_reply_fails_quietly(self):
        """No error of a reply is raised: an address that is not ours, a datagram that is too long."""
        for host in ("127.0.0.1", "0.0.0.0", "::1", "::"):
            port, _, number = self.front(host)
            client = ("::1" if ":" in host else "127.0.0.1", number)
            self.assertFalse(port.reply(bytes(65536), client, None))
        stranger = bytes(4) + socket.inet_aton("192.0.2.77") + bytes(4)
        self.assertFalse(self.front("0.0.0.0")[0].reply(b"x", ("127.0.0.1", 9), stranger))

    @inlineCallbacks
    def test_itself(self):
        """A datagram that claims to come from the port it went to is known as such, and no other is."""
        for listen, address, other in (
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0", "127.0.0.2", "127.0.0.1"),
            ("::", "::1", "::2"),
        ):
            port, arrivals, number = self.front(listen)
            self.bound("::1" if ":" in address else "127.0.0.1").sendto(b"x", (address, number))
            _, _, local = yield arrivals.queue.get()
            self.assertTrue(port.is_self((address, number), local))
            self.assertFalse(port.is_self((address, number - 1), local))
            self.assertFalse(port.is_self((other, number), local))

    def test_bounded_reads(self):
        """However many datagrams wait, a turn of the reactor takes a bounded number."""
        port, arrivals, number = self.front("127.0.0.1")
        client = self.bound("127.0.0.1")
        for _ in range(READS_A_TURN + 5):
            client.sendto(b"x", ("127.0.0.1", number))
        port.doRead()
        self.assertEqual(len(arrivals.queue.pending), READS_A_TURN)
        port.doRead()
        self.assertEqual(len(arrivals.queue.pending), READS_A_TURN + 5)

    def test_a_failure_does_not_stop_the_port(self):
        """An exception while one datagram is forwarded is logged; the next datagram is read."""
        port, arrivals, number = self.front("127.0.0.1")
        client = self.bound("127.0.0.1")
        arrived = mock.Mock(side_effect=[ZeroDivisionError, None])
        self.patch(arrivals, "datagram_arrived", arrived)
        client.sendto(b"1", ("127.0.0.1", number))
        client.sendto(b"2", ("127.0.0.1", number))
        port.doRead()
        self.assertEqual([call.args[0] for call in arrived.call_args_list], [b"1", b"2"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    @inlineCallbacks
    def test_the_socket_stays_the_callers(self):
        """A port keeps a duplicate: closing one of the two leaves the other open."""
        sock = self.bound("127.0.0.1")
        arrivals = Arrivals()
        port = front_port(reactor, sock, arrivals)
        port.startListening()
        yield port.stopListening()
        self.assertNotEqual(sock.fileno(), -1)
        self.assertGreater(sock.getsockname()[1], 0)


class ServerPortTests(Sockets):
    def server_port(self, host: str, number: int) -> tuple[ServerPort, Replies]:
        replies = Replies()
        port = ServerPort(reactor, replies, InetAddress(host, number))
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
        number = self.closed_port()
        port, replies = self.server_port("127.0.0.1", number)
        for _ in range(3):
            port.send(b"anybody?")
            self.assertEqual((yield replies.queue.get()), "Connection refused")
        server = self.bound_to(number)
        port.send(b"question")
        server.sendto(b"answer", server.recvfrom(100)[1])
        self.assertEqual((yield replies.queue.get()), b"answer")

    def bound_to(self, number: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        sock.bind(("127.0.0.1", number))
        return sock

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
        port, replies = self.server_port("127.0.0.1", self.closed_port())
        port.stopReading()
        port.connectionLost(Failure(ConnectionDone()))
        self.assertIn(port, reactor.getReaders())
        self.assertEqual(replies.queue.pending, [])

    def test_the_end_of_the_reactor(self):
        port, replies = self.server_port("127.0.0.1", self.closed_port())
        port.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(port.socket.fileno(), -1)
        self.assertEqual(replies.queue.pending, [])

    def test_passing_errors_are_no_refusal(self):
        """A path that carries less (EMSGSIZE) says nothing against the server."""
        port, replies = self.server_port("127.0.0.1", self.closed_port())
        port._report(errno.EMSGSIZE)
        self.assertEqual(replies.queue.pending, [])

    def test_retired_port_reads_nothing(self):
        """A port whose session ended within its reads stops there, and keeps its descriptor until it is closed."""
        server = self.bound("127.0.0.1")
        port, replies = self.server_port("127.0.0.1", server.getsockname()[1])
        self.patch(replies, "reply_arrived", mock.Mock(side_effect=lambda _: port.retire()))
        port.send(b"")
        client = server.recvfrom(100)[1]
        server.sendto(b"1", client)
        server.sendto(b"2", client)
        port.doRead()
        replies.reply_arrived.assert_called_once_with(b"1")
        self.assertNotIn(port, reactor.getReaders())
        self.assertNotEqual(port.socket.fileno(), -1)
        port.close()
        self.assertEqual(port.socket.fileno(), -1)

    def test_no_way_leaves_no_descriptor(self):
        """When connecting fails the socket is closed and the error is the caller's."""
        with mock.patch("pylb.proxy.datagram.socket.socket") as made:
            made.return_value.connect.side_effect = OSError(errno.ENETUNREACH, "Network is unreachable")
            with self.assertRaises(OSError):
                ServerPort(reactor, Replies(), InetAddress("127.0.0.1", 9))
            made.return_value.close.assert_called_once_with()
