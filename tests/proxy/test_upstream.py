"""How does a client get to a server that takes it?"""

from __future__ import annotations

import errno
import os

from twisted.internet.error import ConnectBindError, ConnectError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.server import Server
from pylb.model import InetAddress, PoolSpec, ServerSpec
from pylb.proxy.accesslog import Record
from pylb.proxy.dial import OWN_FAULTS, ServerSide
from pylb.proxy.upstream import Attempts, Limits, Upstream
from tests.fakes import FakeReactor


def spec(name: str, **asked: bool) -> ServerSpec:
    return ServerSpec(address=InetAddress(name, 80), **asked)


class Side(ServerSide):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def lost(self, reason: Failure) -> None:
        self.told.append("lost")


class Search(Attempts):
    """Tells its test what it hears; `idle` is the connection that it has to every server."""

    def __init__(self, case: UpstreamCase, upstream: Upstream) -> None:
        super().__init__(upstream, case.record)
        self.idle: Side | None = None
        self.connected = case.connected.append  # type: ignore[method-assign]
        self.unreachable = case.failed.append  # type: ignore[method-assign]
        self._sides = case.sides

    def build(self) -> Side:
        self._sides.append(Side())
        return self._sides[-1]

    def take_idle(self, server: Server) -> Side | None:
        return self.idle


class UpstreamCase(SynchronousTestCase):
    """A pool of servers `a`, `b`, ... (backups in capitals) behind a reactor that reaches nobody by itself."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.record = Record("web", "tcp", "192.0.2.7", 4711, 0.0)
        self.connected: list[ServerSide] = []
        self.failed: list[Exception] = []
        self.sides: list[Side] = []

    def attempts(self, names: str, **limits: object) -> Search:
        return self.attempts_at(*(spec(name, backup=name.isupper()) for name in names), **limits)

    def attempts_at(self, *specs: ServerSpec, max_pending: int = 0, **limits: object) -> Search:
        servers = [Server(spec) for spec in specs]
        pool = PoolSpec(name="web", servers=specs, max_pending=max_pending)
        self.pool = Pool(pool, servers, self.reactor.seconds)
        upstream = Upstream(self.reactor, self.pool, Limits(**limits), self.reactor.seconds)
        return Search(self, upstream)

    def refuse_all(self, error: Exception | None = None) -> str:
        """Refuse every connection that is asked for, one after the other; to whom they were."""
        while self.reactor.pending:
            self.reactor.pending[0].refuse(error)
        return "".join(connector.address for connector in self.reactor.dialled)

    @property
    def active(self) -> dict[str, int]:
        return {server.name[0]: server.active for server in self.pool.servers}

    def assert_nothing_left(self) -> None:
        self.assertEqual(self.pool.pending, 0)
        self.assertEqual(sum(self.active.values()), 0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.pending, [])


class ConnectTests(UpstreamCase):
    def test_reached(self) -> None:
        """The asker hears once, of an established protocol, while the lease is held and nothing else is left."""
        attempts = self.attempts("a")
        attempts.start()
        self.reactor.advance(0.25)
        self.reactor.dialled[0].accept()
        self.assertEqual((self.connected, self.failed), (self.sides, []))
        self.assertEqual(self.active, {"a": 1})
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual([(t.server, t.connect_time) for t in self.record.tries], [("a:80", 0.25)])
        attempts.stop()
        self.assert_nothing_left()

    def test_lost_later(self) -> None:
        """The end of an established connection is told to its protocol, and nobody is blamed."""
        attempts = self.attempts("ab")
        attempts.start()
        self.reactor.dialled[0].accept().lose()
        self.assertEqual(self.sides[0].told, ["lost"])
        self.assertEqual((self.failed, self.pool.servers[0].failures), ([], 0))
        attempts.stop()
        self.assert_nothing_left()

    def test_nobody(self) -> None:
        """Without a usable server the asker hears so at once, and the pool counts it."""
        self.attempts_at(spec("a", down=True), spec("b", down=True)).start()
        self.assertEqual([type(error) for error in self.failed], [NoServerAvailable])
        self.assertEqual(self.pool.refused, 1)
        self.assert_nothing_left()


class RetryTests(UpstreamCase):
    def test_every_server_once(self) -> None:
        """0 tries are one of every server, the backups last; the asker hears of the last failure."""
        self.attempts("abcDE").start()
        self.assertEqual(self.refuse_all(), "abcDE")
        self.assertEqual([str(error) for error in self.failed], ["Connection was refused by other side"])
        self.assertEqual([server.failures for server in self.pool.servers], [1] * 5)
        self.assertEqual([t.status for t in self.record.tries], [502] * 5)
        self.assert_nothing_left()

    def test_second_server(self) -> None:
        """The lease that is left is that of the server that took it."""
        attempts = self.attempts("ab")
        attempts.start()
        self.reactor.dialled[0].refuse()
        self.assertEqual(self.active, {"a": 0, "b": 1})
        self.reactor.dialled[1].accept()
        self.assertEqual((len(self.connected), self.failed), (1, []))
        attempts.stop()
        self.assert_nothing_left()

    def test_tries(self) -> None:
        """`tries` counts the first one."""
        for tries, tried in [(1, "a"), (2, "ab"), (9, "abc")]:
            self.setUp()
            self.attempts("abc", tries=tries).start()
            self.assertEqual(self.refuse_all(), tried)
            self.assertEqual(len(self.failed), 1)
            self.assert_nothing_left()

    def test_off(self) -> None:
        """Without retries the first failure is the last, and counts against the server all the same."""
        self.attempts("ab", next_upstream=frozenset()).start()
        self.assertEqual(self.refuse_all(), "a")
        self.assertEqual([server.failures for server in self.pool.servers], [1, 0])
        self.assert_nothing_left()

    def test_one_kind(self) -> None:
        """A listener may try elsewhere after a timeout and not after an error."""
        self.attempts("ab", next_upstream=frozenset({"timeout"})).start()
        self.assertEqual(self.refuse_all(), "a")
        self.assertEqual(len(self.failed), 1)
        self.assert_nothing_left()

    def test_time_is_up(self) -> None:
        """After `timeout` seconds no other server is tried; the one that is being tried may go on."""
        self.attempts("abc", timeout=2.0).start()
        self.reactor.advance(1.9)
        self.reactor.dialled[0].refuse()
        self.reactor.advance(0.1)
        self.assertEqual(self.refuse_all(), "ab")
        self.assertEqual(len(self.failed), 1)
        self.assert_nothing_left()

    def test_connect_timeout(self) -> None:
        """Each server has `connect_timeout` seconds; who takes longer has failed, and is not connected to any more."""
        self.attempts("ab", connect_timeout=3.0).start()
        self.reactor.advance(2.9)
        self.assertEqual(len(self.reactor.dialled), 1)
        self.reactor.advance(0.1)
        self.assertEqual([connector.address for connector in self.reactor.pending], ["b"])
        self.reactor.advance(3.0)
        self.assertEqual([error.timed_out for error in self.failed], [True])
        self.assertEqual([t.status for t in self.record.tries], [504, 504])
        self.assertEqual([server.failures for server in self.pool.servers], [1, 1])
        self.assert_nothing_left()

    def test_no_connect_timeout(self) -> None:
        """0 is no limit."""
        attempts = self.attempts("a", connect_timeout=0.0)
        attempts.start()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        attempts.stop()
        self.assert_nothing_left()

    def test_own_fault(self) -> None:
        """Lack of descriptors, ports or memory is nobody's fault but ours: no server is blamed and no other tried."""
        for code in OWN_FAULTS:
            self.setUp()
            self.attempts("ab").start()
            self.assertEqual(self.refuse_all(ConnectBindError(code, os.strerror(code))), "a")
            self.assertEqual([server.failures for server in self.pool.servers], [0, 0])
            self.assertEqual([error.ours for error in self.failed], [True])
            self.assert_nothing_left()

    def test_unreachable_network(self) -> None:
        """A server without a route to it has failed."""
        self.attempts("ab").start()
        self.assertEqual(self.refuse_all(ConnectError(errno.EHOSTUNREACH, "no route")), "ab")
        self.assertEqual([server.failures for server in self.pool.servers], [1, 1])

    def test_own_fault_ends_no_pause(self) -> None:
        """A trial that failed by our own fault says nothing: the server stays ejected."""
        self.attempts("ab").start()
        self.refuse_all()
        self.reactor.advance(10.1)
        attempts = Search(self, Upstream(self.reactor, self.pool, Limits(), self.reactor.seconds))
        attempts.start()
        self.refuse_all(ConnectBindError(errno.EMFILE, "too many"))
        self.assertIsNotNone(self.pool.servers[0].health.retry_at)
        self.assert_nothing_left()


class PendingTests(UpstreamCase):
    """No more than `max_pending` connections are being made at once, of all who use the pool."""

    def test_one_too_many(self) -> None:
        """It ends at once, and no server is blamed."""
        first = self.attempts("ab", max_pending=1)
        first.start()
        second = Search(self, first._upstream)
        second.start()
        told = "pool web: 1 connections are being made already (max_pending)"
        self.assertEqual([str(error) for error in self.failed], [told])
        self.assertEqual((self.pool.refused, len(self.record.tries)), (1, 1))
        self.assertEqual(([server.failures for server in self.pool.servers], self.active), ([0, 0], {"a": 1, "b": 0}))
        self.assertEqual(len(self.reactor.dialled), 1)
        first.stop()
        self.assert_nothing_left()

    def test_room_again(self) -> None:
        """However a connection is made or not, it leaves room."""
        attempts = self.attempts("a", max_pending=1)
        ends = {
            "made": lambda: self.reactor.pending[0].accept(),
            "refused": lambda: self.reactor.pending[0].refuse(ConnectBindError(errno.EMFILE, "")),
            "late": lambda: self.reactor.advance(3.0),
            "given up": lambda: None,
        }
        for what, end in ends.items():
            attempts = Search(self, attempts._upstream)
            attempts.start()
            self.assertEqual(self.pool.pending, 1, what)
            end()
            attempts.stop()
            self.assert_nothing_left()

    def test_kept_connections(self) -> None:
        """They are there already."""
        first = self.attempts("ab", max_pending=1)
        first.start()
        second = Search(self, first._upstream)
        second.idle = Side()
        second.start()
        self.assertEqual((self.connected, self.failed), ([second.idle], []))
        first.stop()
        second.stop()

    def test_not_elsewhere(self) -> None:
        """Who has a server that was reached, and would leave it, keeps it."""
        attempts = self.attempts("ab", max_pending=1)
        attempts.start()
        self.reactor.pending[0].accept()
        second = Search(self, attempts._upstream)
        second.start()
        self.assertFalse(attempts.again("status 503"))
        self.assertEqual(([server.failures for server in self.pool.servers], self.active), ([0, 0], {"a": 1, "b": 1}))
        attempts.stop()
        second.stop()
        self.assert_nothing_left()

    def test_elsewhere(self) -> None:
        """Who tries another server takes the room of the first try."""
        attempts = self.attempts("ab", max_pending=1)
        attempts.start()
        self.reactor.pending[0].refuse()
        self.reactor.pending[0].accept()
        self.assertEqual((len(self.connected), self.failed), (1, []))
        attempts.stop()
        self.assert_nothing_left()


class AskerTests(UpstreamCase):
    def test_leaves_while_connecting(self) -> None:
        """A client that leaves stops the connecting and releases the lease, without a verdict."""
        attempts = self.attempts("ab")
        attempts.start()
        attempts.stop()
        attempts.stop()
        self.assertEqual(([], [], 0), (self.connected, self.failed, self.pool.servers[0].failures))
        self.assert_nothing_left()

    def test_again(self) -> None:
        """An asker may leave a server that it has judged for another, as long as there is one."""
        attempts = self.attempts("ab")
        attempts.start()
        self.reactor.dialled[0].accept()
        self.lease_of(attempts).failed("no answer")
        self.assertTrue(attempts.again())
        self.assertEqual(self.active, {"a": 0, "b": 1})
        self.reactor.dialled[1].accept()
        self.assertFalse(attempts.again())
        self.assertEqual(self.active, {"a": 0, "b": 1})
        attempts.stop()
        self.assert_nothing_left()

    def test_again_with_a_failure(self) -> None:
        """A verdict that is passed along counts only if another server takes over."""
        attempts = self.attempts("ab")
        attempts.start()
        self.reactor.dialled[0].accept()
        self.assertTrue(attempts.again("status 500"))
        self.reactor.dialled[1].accept()
        self.assertFalse(attempts.again("status 500"))
        self.assertEqual([server.failures for server in self.pool.servers], [1, 0])
        attempts.stop()

    def test_again_within_limits(self) -> None:
        """The limits of tries and time hold for those, too."""
        for limits in ({"tries": 1}, {"timeout": 5.0}):
            self.setUp()
            attempts = self.attempts("ab", **limits)
            attempts.start()
            self.reactor.dialled[0].accept()
            self.reactor.advance(5)
            self.assertFalse(attempts.again("late"))
            self.assertEqual((self.active, self.pool.servers[0].failures), ({"a": 1, "b": 0}, 0))
            attempts.stop()

    def test_idle_connection(self) -> None:
        """An idle connection is used instead of a new one; it took no time to connect."""
        idle = Side()
        attempts = self.attempts("a")
        attempts.idle = idle
        attempts.start()
        self.assertEqual((self.connected, self.reactor.dialled), ([idle], []))
        self.assertEqual(self.record.tries[0].connect_time, 0.0)
        attempts.stop()
        self.assert_nothing_left()

    def test_fresh(self) -> None:
        """A stale one is replaced by a new connection to the same server, under the same lease and the same try."""
        attempts = self.attempts("ab")
        attempts.idle = Side()
        attempts.start()
        lease = attempts.lease
        attempts.fresh()
        self.reactor.dialled[0].accept()
        self.assertEqual((len(self.connected), attempts.lease), (2, lease))
        self.assertEqual((self.active, len(self.record.tries)), ({"a": 1, "b": 0}, 1))
        attempts.stop()
        self.assert_nothing_left()

    def lease_of(self, attempts: Search) -> Lease:
        assert attempts.lease is not None
        return attempts.lease
