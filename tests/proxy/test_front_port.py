"""pylb.proxy.front_port: what clients speak to, on real sockets."""

from __future__ import annotations

import errno
import socket
from unittest import mock

from twisted.internet.defer import DeferredQueue, inlineCallbacks
from twisted.internet.protocol import DatagramProtocol

from pylb.proxy.front_port import READS_A_TURN, FrontPort, WildcardPort, front_port
from tests.proxy.datagrams import OnPoller, Sockets


class Arrivals(DatagramProtocol):
    """A front's protocol that keeps what arrives."""

    noisy = False

    def __init__(self) -> None:
        self.queue: DeferredQueue = DeferredQueue()

    def datagram_arrived(self, *arrival) -> None:
        self.queue.put(arrival)


class FrontPortTests(Sockets):
    def front(self, host: str) -> tuple[FrontPort, Arrivals, int]:
        sock = self.bound(host)
        arrivals = Arrivals()
        port = front_port(self.network, sock.dup(), arrivals)
        port.startListening()
        self.addCleanup(port.stopListening)
        return port, arrivals, sock.getsockname()[1]

    @inlineCallbacks
    def answered(self, listen: str, spoken_to: str):
        """What a client at `spoken_to`'s family gets back after speaking to `spoken_to`: (reply, its source)."""
        port, arrivals, number = self.front(listen)
        client = self.bound("::1" if ":" in spoken_to else "127.0.0.1")
        client.sendto(b"question", (spoken_to, number))
        datagram, source = yield arrivals.queue.get()
        self.assertEqual(datagram, b"question")
        port.send(b"answer", source)
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
        """Where datagrams come from is equal if the client spoke to the same address, so that it can be a key."""
        _, arrivals, number = self.front("0.0.0.0")
        client = self.bound("127.0.0.1")
        seen = []
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            client.sendto(b"", (address, number))
            seen.append((yield arrivals.queue.get())[1])
        self.assertEqual([seen.index(origin) for origin in seen], [0, 1, 0])

    @inlineCallbacks
    def test_local_end(self):
        """The address that a datagram came to, on a wildcard socket too; without packet info it is the socket's."""
        for listen, spoken_to in (("0.0.0.0", "127.0.0.2"), ("::", "::1"), ("127.0.0.1", "127.0.0.1")):
            front, arrivals, number = self.front(listen)
            self.bound("::1" if ":" in listen else "127.0.0.1").sendto(b"?", (spoken_to, number))
            _, origin = yield arrivals.queue.get()
            self.assertEqual(front.local_end(origin), (spoken_to, number))
            self.assertEqual(front.local_end((front.client(origin), None)), (listen, number))

    @inlineCallbacks
    def test_ipv6_scope_is_kept(self):
        """The client's address holds all four fields, of which the scope id is one."""
        for host in ("::", "::1"):
            port, arrivals, number = self.front(host)
            client = self.bound("::1")
            client.sendto(b"x", ("::1", number))
            _, origin = yield arrivals.queue.get()
            self.assertEqual(port.client(origin), client.getsockname())
            self.assertEqual(len(port.client(origin)), 4)

    @inlineCallbacks
    def test_the_kernel_takes_no_reply(self):
        """Whoever answers hears of it: a datagram that is too long, an address that is not ours."""
        for host in ("127.0.0.1", "0.0.0.0", "::1", "::"):
            port, arrivals, number = self.front(host)
            address = "::1" if ":" in host else "127.0.0.1"
            self.bound(address).sendto(b"x", (address, number))
            _, origin = yield arrivals.queue.get()
            with self.assertRaises(OSError):
                port.send(bytes(65536), origin)
        stranger = bytes(4) + socket.inet_aton("192.0.2.77") + bytes(4)
        with self.assertRaises(OSError):
            self.front("0.0.0.0")[0].send(b"x", (("127.0.0.1", 9), stranger))

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
            _, origin = yield arrivals.queue.get()
            claims = [(address, number), (address, number - 1), (other, number)]
            if listen != address:
                claims = [(claim, origin[1]) for claim in claims]
            self.assertEqual([port.is_self(claim) for claim in claims], [True, False, False])

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
        port = front_port(self.network, sock.dup(), arrivals)
        port.startListening()
        yield port.stopListening()
        self.assertEqual(port.socket.fileno(), -1)
        self.assertNotEqual(sock.fileno(), -1)
        self.assertGreater(sock.getsockname()[1], 0)


class PolledFrontPortTests(OnPoller, FrontPortTests):
    """The same on a poller."""
