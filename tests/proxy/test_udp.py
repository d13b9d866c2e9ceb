"""pylb.proxy.udp: with fakes where time and faults are forced, on real sockets where bytes matter."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue, inlineCallbacks, succeed
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.names import client as names_client
from twisted.names import common, dns
from twisted.names import server as names_server
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import make_pool
from pylb.model import InetAddress, PoolSpec, ServerSpec, UdpListener
from pylb.proxy.front_port import READS_A_TURN
from pylb.proxy.server_port import REPLIES_A_TURN
from pylb.proxy.udp import EXPIRIES_A_TURN, UdpProxy, listen_udp
from pylb.proxy.udp_session import Session
from tests.functional.rig import free_port
from tests.proxy.datagrams import OnPoller, Sockets
from tests.proxy.udp_fakes import Records, World


class TableTests(SynchronousTestCase):
    """Finding and opening sessions, and the one timer of all."""

    def world(self, **arguments) -> World:
        return World(self.patch, **arguments)

    def test_key(self):
        """Sessions are told apart by the client's address and port and by the address that it spoke to."""
        world = self.world()
        for client, local in ((1, b"a"), (2, b"a"), (1, b"b"), (1, b"a")):
            world.ask(client, local=local)
        self.assertEqual([len(sock.sent) for sock in world.sockets], [2, 1, 1])
        world.sockets[2].session.reply_arrived(b"r")
        self.assertEqual(world.port.replies, [(b"r", ("192.0.2.1", 1), b"b")])

    def test_timeouts_follow_use(self):
        """One timer serves all sessions: each ends when its own time is over."""
        world = self.world(timeout=10.0)
        for client in (1, 2, 3):
            world.ask(client)
            world.clock.advance(1)
        world.ask(1)
        self.assertEqual(len(world.clock.getDelayedCalls()), 1)
        ends = []
        for second in range(3, 15):
            ends += [(second, record.remote_port) for record in world.records[len(ends) :]]
            world.clock.advance(1)
        self.assertEqual(ends, [(11, 2), (12, 3), (13, 1)])

    def test_many_timeouts_at_once(self):
        """Sessions that time out together are ended a bounded number a turn."""
        world = self.world(timeout=10.0, max_sessions=10_000)
        for client in range(EXPIRIES_A_TURN + 10):
            world.ask(1 + client)
        world.proxy._timer.cancel()
        world.clock.rightNow += 10
        world.proxy._expire()
        self.assertEqual(world.proxy.active, 10)
        world.clock.advance(0)
        self.assertEqual(world.proxy.active, 0)

    def test_no_way_to_a_server(self):
        """A server towards which no socket can be connected failed, and nothing was sent: the next one gets it."""
        world = self.world(servers=2)
        world.errors.append(errno.ENETUNREACH)
        world.ask()
        self.assertEqual([sock.address.host for sock in world.sockets], ["10.0.0.2"])
        self.assertEqual([server.failures for server in world.pool.servers], [1, 0])
        world.proxy.abort()
        self.assertEqual([attempt.server for attempt in world.records[0].tries], ["10.0.0.1:53", "10.0.0.2:53"])

    def test_no_way_to_any_server(self):
        """Each server is tried once: then the datagram is dropped, and nothing is held."""
        world = self.world()
        world.errors.append(errno.ENETUNREACH)
        world.ask()
        self.assertEqual((world.sockets, world.leases, world.proxy.dropped), ([], 0, 1))

    def test_refused_at_once(self):
        """A datagram that a new session's socket does not take goes to the next server, to none of them twice."""
        world = self.world(servers=3, server={"max_fails": 0})
        world.refusals += [errno.EHOSTUNREACH, errno.EHOSTUNREACH]
        world.ask()
        self.assertEqual([sock.sent for sock in world.sockets], [[], [], [b"q"]])
        self.assertEqual([server.failures for server in world.pool.servers], [1, 1, 0])
        self.assertEqual((world.proxy.active, world.leases, world.proxy.dropped), (1, 1, 0))

    def test_refused_by_all(self):
        """When no server's socket takes it, it is dropped and counted."""
        world = self.world(servers=2, server={"max_fails": 0})
        world.refusals += [errno.EHOSTUNREACH, errno.EHOSTUNREACH]
        world.ask()
        self.assertEqual([server.failures for server in world.pool.servers], [1, 1])
        self.assertEqual((world.proxy.active, world.leases, world.proxy.dropped), (0, 0, 1))

    def test_our_own_fault(self):
        """No memory and no local port are not the server's fault: the datagram is dropped and counted."""
        for error in (errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN):
            world = self.world(servers=2)
            world.errors.append(error)
            world.ask()
            self.assertEqual([server.failures for server in world.pool.servers], [0, 0])
            self.assertEqual((world.proxy.dropped, world.leases, world.records), (1, 0, []))

    def test_no_server(self):
        """Without a usable server the datagram is dropped; the pool counts, the access log stays silent."""
        world = self.world(server={"down": True})
        world.ask()
        self.assertEqual((world.pool.refused, world.proxy.active, world.records), (1, 0, []))

    def test_max_conns(self):
        """A session counts for `max_conns` as long as it lives."""
        world = self.world(server={"max_conns": 1}, responses=1)
        world.ask(1)
        world.ask(2)
        self.assertEqual(world.pool.refused, 1)
        world.answer()
        world.ask(2)
        self.assertEqual((world.pool.refused, world.proxy.active), (1, 1))

    def test_impossible_sources(self):
        """Source port 0 cannot be answered, and the port itself must not be: no session, no lease."""
        world = self.world()
        world.front.datagram_arrived(b"q", (("192.0.2.1", 0), None))
        world.front.datagram_arrived(b"q", (("127.0.0.1", 53), None))
        self.assertEqual((world.proxy.dropped, len(world.sockets)), (2, 0))


class BoundTests(SynchronousTestCase):
    """A full table, and a process without descriptors."""

    def world(self, **arguments) -> World:
        return World(self.patch, **arguments)

    def test_the_least_recently_used_gives_way(self):
        """A full table ends the session that was silent longest, whoever spoke in the others."""
        world = self.world(max_sessions=3)
        for client in (1, 2, 3):
            world.ask(client)
        world.ask(1)
        world.sockets[1].session.reply_arrived(b"r")
        world.ask(4)
        self.assertEqual([record.remote_port for record in world.records], [3])
        self.assertEqual((world.statuses, world.proxy.evicted, world.proxy.active), ([200], 1, 3))
        self.assertEqual(world.pool.servers[0].failures, 0)

    def test_a_refused_datagram_evicts_nobody(self):
        world = self.world(max_sessions=1, server={"max_conns": 1})
        world.ask(1)
        world.ask(2)
        self.assertEqual((world.proxy.evicted, world.pool.refused, world.proxy.active), (0, 1, 1))

    def test_eviction_says_nothing_of_the_server(self):
        """Answers may only be late when a session gives way: it neither heals nor fails its server."""
        world = self.world(servers=2, max_sessions=2, responses=1, timeout=60.0)
        world.ask(1)
        world.sockets[0].session.refused("Connection refused")
        world.clock.advance(10.5)
        for client in (2, 3, 4, 5):
            world.ask(client)
        self.assertTrue(world.pool.servers[0].health.ejected)
        self.assertEqual([server.failures for server in world.pool.servers], [1, 0])

    def test_no_descriptor(self):
        """Without descriptors the least recently used session gives way, and its descriptor is free at once."""
        for error in (errno.EMFILE, errno.ENFILE):
            world = self.world()
            world.ask(1)
            world.ask(2)
            world.errors.append(error)
            world.ask(3)
            self.assertEqual((len(world.sockets), world.proxy.active, world.proxy.evicted), (3, 2, 1))
            self.assertTrue(world.sockets[0].closed)
            self.assertEqual(world.sockets[2].sent, [b"q"])

    def test_a_retired_socket_is_closed_before_anybody_is_evicted(self):
        world = self.world(responses=1)
        world.ask(1)
        world.ask(2)
        world.answer()
        world.errors.append(errno.EMFILE)
        world.ask(3)
        self.assertEqual((world.proxy.active, world.proxy.evicted), (2, 0))
        self.assertTrue(world.sockets[0].closed)

    def test_no_descriptor_and_nobody_to_evict(self):
        """Others hold all descriptors: the datagram is dropped and the server is not blamed."""
        world = self.world()
        world.errors += [errno.EMFILE, errno.EMFILE]
        world.ask()
        self.assertEqual((world.proxy.dropped, world.leases, world.pool.servers[0].failures), (1, 0, 0))

    def test_sockets_are_closed_after_the_turn(self):
        """A descriptor is given back when the present events are handed out, not in their midst."""
        world = self.world(responses=1)
        world.ask()
        world.answer()
        self.assertEqual((world.sockets[0].reading, world.sockets[0].closed), (False, False))
        world.clock.advance(0)
        self.assertTrue(world.sockets[0].closed)


class StopTests(SynchronousTestCase):
    def world(self, **arguments) -> World:
        return World(self.patch, **arguments)

    def test_nothing_runs(self):
        """Without sessions a stop is the end."""
        world = self.world()
        idle = world.proxy.idle()
        self.assertNoResult(idle)
        world.proxy.stop()
        self.successResultOf(idle)
        self.successResultOf(world.proxy.idle())
        self.assertFalse(world.port.reading)

    def test_sessions_that_wait_for_nothing_end(self):
        """Only a session whose server owes replies runs on; it ends with the last of them."""
        world = self.world(responses=1, requests=2)
        world.ask(1)
        world.ask(2)
        world.sockets[0].session.reply_arrived(b"r")
        world.proxy.stop()
        idle = world.proxy.idle()
        self.assertEqual([record.remote_port for record in world.records], [1])
        self.assertNoResult(idle)
        world.ask(2)
        for _ in range(2):
            world.sockets[1].session.reply_arrived(b"r")
        self.successResultOf(idle)
        self.assertEqual(len(world.port.replies), 3)

    def test_unlimited_sessions_end(self):
        world = self.world()
        world.ask()
        world.proxy.stop()
        self.successResultOf(world.proxy.idle())
        self.assertEqual(world.statuses, [200])

    def test_timeout_while_stopping(self):
        world = self.world(responses=1, timeout=5.0)
        world.ask()
        world.proxy.stop()
        world.clock.advance(5)
        self.successResultOf(world.proxy.idle())
        self.assertEqual(world.statuses, [502])

    def test_abort(self):
        """Everything ends now, with or without a stop before, and nothing is left behind."""
        for stop_first in (True, False):
            world = self.world(responses=1)
            world.ask(1)
            world.ask(2)
            if stop_first:
                world.proxy.stop()
            world.proxy.abort()
            self.successResultOf(world.proxy.idle())
            world.clock.advance(0)
            self.assertEqual((world.proxy.active, world.leases, world.statuses), (0, 0, [200, 200]))
            self.assertEqual(world.clock.getDelayedCalls(), [])
            self.assertEqual(world.pool.servers[0].failures, 0)
            self.assertTrue(all(sock.closed for sock in world.sockets))


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 6)),
    st.tuples(st.sampled_from(["reply", "refuse", "reset", "clog"]), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 3.0, 11.0])),
    st.tuples(st.just("error"), st.sampled_from([errno.EMFILE, errno.ENETUNREACH, errno.ENOMEM])),
    st.tuples(st.just("refusal"), st.sampled_from([0, errno.EHOSTUNREACH])),
    st.tuples(st.sampled_from(["stop", "full"]), st.none()),
)


class LeaseTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(
        steps=st.lists(STEPS, max_size=40),
        responses=st.sampled_from([None, 0, 1, 2]),
        requests=st.integers(0, 2),
        max_sessions=st.integers(1, 4),
        max_conns=st.integers(0, 2),
    )
    def test_leases_never_leak(self, steps, responses, requests, max_sessions, max_conns):
        """Whatever the order of datagrams, replies, refusals, timeouts and errors: one lease and one socket a session."""
        server = {"max_conns": max_conns}
        spec = {"responses": responses, "requests": requests, "timeout": 5.0}
        world = World(self.patch, servers=2, max_sessions=max_sessions, server=server, **spec)
        stopped = False
        for step, value in steps:
            if step == "stop":
                stopped = True
                world.proxy.stop()
            elif step != "ask" or not stopped:
                self.take(world, step, value)
            self.assertEqual(world.leases, world.proxy.active)
            self.assertEqual(len(world.open_sockets()), world.proxy.active)
            self.assertLessEqual(len(world.front.bindings), world.proxy.active)
            self.assertLessEqual(world.proxy.active, max_sessions)
        world.proxy.abort()
        self.successResultOf(world.proxy.idle())
        world.clock.advance(0)
        self.assertEqual((world.leases, world.front.bindings, world.clock.getDelayedCalls()), (0, {}, []))
        self.assertEqual(len(world.records), len(world.sockets))
        self.assertTrue(all(sock.closed for sock in world.sockets))

    def take(self, world: World, step: str, value) -> None:
        if step == "ask":
            world.ask(value)
        elif step == "wait":
            world.clock.advance(value)
        elif step == "error":
            world.errors.append(value)
        elif step == "refusal":
            world.refusals.append(value)
        elif step == "full":
            world.port.takes = not world.port.takes
        elif value < len(world.open_sockets()):
            sock = world.open_sockets()[value]
            if step == "reply":
                sock.session.reply_arrived(b"r")
            elif step == "refuse":
                sock.session.refused("Connection refused")
            else:
                sock.send_errors = [errno.ECONNREFUSED if step == "reset" else errno.EAGAIN]


class Echo(DatagramProtocol):
    """A server that answers every datagram with its own name in front."""

    noisy = False

    def __init__(self, name: bytes = b"") -> None:
        self.name = name

    def datagramReceived(self, datagram: bytes, addr) -> None:
        self.transport.write(self.name + datagram, addr)


class Asking(DatagramProtocol):
    """A client: `replies` holds (datagram, address)."""

    noisy = False

    def __init__(self) -> None:
        self.replies: DeferredQueue = DeferredQueue()

    def datagramReceived(self, datagram: bytes, addr) -> None:
        self.replies.put((datagram, addr))

    def ask(self, datagram: bytes, address: tuple[str, int]) -> Deferred:
        self.transport.write(datagram, address)
        return self.replies.get()


def a_turn() -> Deferred:
    """Fires when the reactor has looked at its sockets."""
    return deferLater(reactor, 0.001, lambda: None)


def arrived(sock: socket.socket) -> int:
    """How many datagrams wait; they are read."""
    count = 0
    try:
        while True:
            sock.recv(100)
            count += 1
    except BlockingIOError:
        return count


def sessions_in_memory() -> int:
    return sum(isinstance(thing, Session) for thing in gc.get_objects())


class Stream:
    """Something else that can be read on a network, once."""

    def __init__(self, case: Sockets, network) -> None:
        self.reads = 0
        self._network = network
        self._socket, other = socket.socketpair()
        self.fileno = self._socket.fileno
        case.addCleanup(self._socket.close)
        case.addCleanup(network.removeReader, self)
        network.addReader(self)
        other.close()

    def doRead(self) -> None:
        self.reads += 1
        self._network.removeReader(self)

    def logPrefix(self) -> str:
        return "-"


class LoopbackTests(Sockets):
    """The whole path on real sockets."""

    def serve(self, protocol: DatagramProtocol, host: str = "127.0.0.1", number: int = 0) -> InetAddress:
        port = reactor.listenUDP(number, protocol, interface=host, maxPacketSize=65535)
        self.addCleanup(port.stopListening)
        return InetAddress(host, port.getHost().port)

    def client(self, host: str = "127.0.0.1") -> Asking:
        asking = Asking()
        self.serve(asking, host)
        return asking

    def nobody(self) -> InetAddress:
        """An address at which nobody listens."""
        return InetAddress("127.0.0.1", free_port())

    def proxy(self, *servers: InetAddress, listen=("127.0.0.1",), max_sessions: int = 100, **spec) -> list[int]:
        """The ports on which a proxy for `servers` listens."""
        specs = tuple(ServerSpec(address=address) for address in servers)
        self.pool = make_pool(PoolSpec(name="pool", servers=specs), time.monotonic)
        self.records = Records()
        listener = UdpListener(name="front", listen=(), pool="pool", **spec)
        arguments = self.pool, self.network, time.monotonic, self.records, max_sessions
        self.udp = proxy = UdpProxy(listener, *arguments)
        sockets = [self.bound(host) for host in listen]
        for sock in sockets:
            listen_udp(self.network, sock.dup(), proxy)
        self.addCleanup(self.end, proxy)
        return [sock.getsockname()[1] for sock in sockets]

    @inlineCallbacks
    def end(self, proxy: UdpProxy):
        """Nothing may be left: no socket, no lease."""
        idle = proxy.idle()
        proxy.abort()
        yield idle
        self.assertEqual(sum(server.active for server in proxy.pool.servers), 0)

    @inlineCallbacks
    def test_exchange(self):
        """Over IPv4 and IPv6, mixed, on several sockets of one listener."""
        ours = {"127.0.0.1": self.client(), "::1": self.client("::1")}
        for server in ("127.0.0.1", "::1"):
            ports = self.proxy(self.serve(Echo(b"re: "), server), listen=("127.0.0.1", "::1"))
            for (host, client), port in zip(ours.items(), ports, strict=True):
                reply, source = yield client.ask(b"hello", (host, port))
                self.assertEqual((reply, source[:2]), (b"re: hello", (host, port)))
            self.assertEqual(self.udp.active, 2)

    @inlineCallbacks
    def test_replies_leave_from_the_address_spoken_to(self):
        """Also on wildcard listeners; each address that a client speaks to is a session of its own."""
        four, six = self.proxy(self.serve(Echo()), listen=("0.0.0.0", "::"))
        client = self.client()
        for spoken_to in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            _, source = yield client.ask(b"x", (spoken_to, four))
            self.assertEqual(source, (spoken_to, four))
        _, source = yield self.client("::1").ask(b"x", ("::1", six))
        self.assertEqual(source[:2], ("::1", six))
        self.assertEqual(self.udp.active, 3)

    @inlineCallbacks
    def test_largest_datagram(self):
        """65,507 bytes and none at all pass whole, both ways."""
        [port] = self.proxy(self.serve(Echo()))
        client = self.client()
        for datagram in (os.urandom(65507), b""):
            reply, _ = yield client.ask(datagram, ("127.0.0.1", port))
            self.assertEqual(reply, datagram)

    @inlineCallbacks
    def test_recovery(self):
        """A server's port unreachable fails the session; when the server is back the next datagram is answered."""
        address = self.nobody()
        [port] = self.proxy(address)
        client = self.client()
        for refusals in (1, 2):
            client.transport.write(b"anybody?", ("127.0.0.1", port))
            while len(self.records) < refusals:
                yield a_turn()
        self.assertEqual([record.status for record in self.records], [502, 502])
        self.assertEqual(self.pool.servers[0].failures, 2)
        self.serve(Echo(), number=address.port)
        reply, _ = yield client.ask(b"hello", ("127.0.0.1", port))
        self.assertEqual(reply, b"hello")

    @inlineCallbacks
    def test_the_next_datagram_finds_another_server(self):
        """Two servers, of which the first is dead: one datagram is lost, the others are answered by the second."""
        [port] = self.proxy(self.nobody(), self.serve(Echo()), responses=1)
        client = self.client()
        client.transport.write(b"lost", ("127.0.0.1", port))
        while not self.records:
            yield a_turn()
        for n in range(10):
            reply, _ = yield client.ask(b"%d" % n, ("127.0.0.1", port))
            self.assertEqual(reply, b"%d" % n)
        self.assertEqual([record.status for record in self.records], [502] + [200] * 10)

    @inlineCallbacks
    def test_a_server_that_dies(self):
        """A server that answered and then dies is noticed within a session that goes on."""
        first = reactor.listenUDP(0, Echo(b"1"), interface="127.0.0.1")
        dying = InetAddress("127.0.0.1", first.getHost().port)
        [port] = self.proxy(dying, self.serve(Echo(b"2")))
        client = self.client()
        reply, _ = yield client.ask(b"?", ("127.0.0.1", port))
        self.assertEqual(reply, b"1?")
        yield first.stopListening()
        client.transport.write(b"lost", ("127.0.0.1", port))
        while not self.records:
            yield a_turn()
        reply, _ = yield client.ask(b"?", ("127.0.0.1", port))
        self.assertEqual(reply, b"2?")
        self.assertEqual([server.failures for server in self.pool.servers], [1, 0])

    @inlineCallbacks
    def test_flood(self):
        """5,000 sources take `max_sessions` descriptors, and one turn's reads more until these are closed.

        A client that comes later is served.
        """
        [port] = self.proxy(self.serve(Echo()), max_sessions=50)
        yield a_turn()  # the reactor opens descriptors of its own when it first runs
        before = len(os.listdir("/dev/fd"))
        most = 0
        for source in range(5000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((f"127.1.{source // 250}.{source % 250 + 1}", 0))
                sock.sendto(b"flood", ("127.0.0.1", port))
            while source % 50 == 49 and self.udp.evicted + self.udp.active <= source:
                yield a_turn()
                most = max(most, len(os.listdir("/dev/fd")) - before)
        self.assertEqual((self.udp.active, self.udp.evicted), (50, 4950))
        self.assertLessEqual(most, 50 + READS_A_TURN)
        reply, _ = yield self.client().ask(b"hello", ("127.0.0.1", port))
        self.assertEqual(reply, b"hello")

    @inlineCallbacks
    def test_no_descriptors_left(self):
        """When the process has no descriptor left, a new client still gets a session: the oldest one's descriptor."""
        [port] = self.proxy(self.serve(Echo()))
        old, new = self.client(), self.client()
        yield old.ask(b"x", ("127.0.0.1", port))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = max(int(name) for name in os.listdir("/dev/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 10, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        held = []
        self.addCleanup(lambda: [os.close(fd) for fd in held])
        with self.assertRaises(OSError) as raised:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        self.assertEqual(raised.exception.errno, errno.EMFILE)
        reply, _ = yield new.ask(b"hello", ("127.0.0.1", port))
        self.assertEqual(reply, b"hello")
        self.assertEqual((self.udp.active, self.udp.evicted), (1, 1))

    @inlineCallbacks
    def test_stop(self):
        """After a stop new clients are not heard, a reply that is owed arrives, and then all is closed."""
        server = Asking()
        [port] = self.proxy(self.serve(server), responses=1)
        client, late = self.client(), self.client()
        reply = client.ask(b"question", ("127.0.0.1", port))
        _, session = yield server.replies.get()
        self.udp.stop()
        idle = self.udp.idle()
        late.transport.write(b"too late", ("127.0.0.1", port))
        yield a_turn()
        self.assertNoResult(idle)
        server.transport.write(b"answer", session)
        self.assertEqual((yield reply)[0], b"answer")
        yield idle
        self.assertEqual(server.replies.pending, [])

    @inlineCallbacks
    def test_nothing_keeps_a_session_that_ended(self):
        """It is gone at once, without the garbage collector: there may be thousands a second."""
        [port] = self.proxy(self.serve(Echo()), responses=1)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = sessions_in_memory()
        yield self.client().ask(b"x", ("127.0.0.1", port))
        yield a_turn()
        self.assertEqual(len(self.records), 1)
        self.assertEqual(sessions_in_memory(), before)

    @inlineCallbacks
    def test_dns(self):
        """A resolver asks a name server through the proxy; `responses: 1` ends each session with its answer."""
        zone = {b"pylb.example": dns.RRHeader(b"pylb.example", dns.A, payload=dns.Record_A("192.0.2.7"), ttl=60)}
        factory = names_server.DNSServerFactory(clients=[Zone(zone)])
        factory.noisy = False
        backend = dns.DNSDatagramProtocol(factory)
        backend.noisy = False
        [port] = self.proxy(self.serve(backend), responses=1)
        resolver = names_client.Resolver(servers=[("127.0.0.1", port)], timeout=(5,))
        for _ in range(3):
            [answer], _, _ = yield resolver.lookupAddress("pylb.example")
            self.assertEqual(answer.payload.dottedQuad(), "192.0.2.7")
        self.assertEqual([record.status for record in self.records], [200, 200, 200])
        self.assertEqual(self.udp.active, 0)

    @inlineCallbacks
    def test_a_flood_leaves_the_others_their_turns(self):
        """Clients send all at once and so does a server: in a turn of the reactor a bounded number passes, either way.

        A stream that can be read meanwhile is read in the first turn.
        """
        server, client, source = (self.bound("127.0.0.1") for _ in range(3))
        [port] = self.proxy(InetAddress(*server.getsockname()))
        client.sendto(b"?", ("127.0.0.1", port))
        while not self.udp.active:
            yield a_turn()
        session = server.recvfrom(100)[1]
        for sock in (server, client):
            sock.setblocking(False)
        stream = Stream(self, self.network)
        for _ in range(4 * READS_A_TURN):
            source.sendto(b"flood", ("127.0.0.1", port))
        for _ in range(4 * REPLIES_A_TURN):
            server.sendto(b"flood", session)
        turns = []
        for _ in range(5):
            yield deferLater(reactor, 0, lambda: None)
            turns.append((arrived(server), arrived(client), stream.reads))
        # After the first reply as many have come as were asked for, and the port does not look for more.
        full = (READS_A_TURN, REPLIES_A_TURN, 1)
        self.assertEqual(turns, [(READS_A_TURN, 1, 1), full, full, full, (0, REPLIES_A_TURN - 1, 1)])


class PolledLoopbackTests(OnPoller, LoopbackTests):
    """The same on a poller."""


class Zone(common.ResolverBase):
    """A name server's whole knowledge."""

    def __init__(self, records: dict[bytes, dns.RRHeader]) -> None:
        super().__init__()
        self.records = records

    def _lookup(self, name, cls, kind, timeout):
        return succeed(([self.records[name.lower()]], [], []))
