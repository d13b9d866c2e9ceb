"""Tests of pylb.proxy.waiting, and of those who wait in pylb.proxy.upstream."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb import model
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.server import Server
from pylb.model import InetAddress, PoolSpec, ServerSpec
from pylb.proxy.accesslog import Record
from pylb.proxy.upstream import Attempts, Limits, Upstream
from tests.fakes import FakeReactor
from tests.proxy.test_upstream import Side


class Search(Attempts):
    """One client; what it heard is in its test's `log`."""

    def __init__(self, case: WaitingTests, upstream: Upstream, name: str) -> None:
        super().__init__(upstream, Record("web", "tcp", "192.0.2.7", 4711, 0.0))
        self._case = case
        self._name = name

    def build(self) -> Side:
        return Side()

    def connected(self, side: object) -> None:
        assert self.lease is not None
        self._case.log.append(f"{self._name}@{self.lease.server.name[0]}")

    def unreachable(self, error: Exception) -> None:
        self._case.log.append(f"{self._name}: {type(error).__name__}")


class WaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.log: list[str] = []

    def pool(self, size: int = 9, timeout: float = 60.0, down: bool = False, **asked: Any) -> None:
        """Two servers, the first of which serves one client at a time, and the second nobody."""
        specs = (
            ServerSpec(address=InetAddress("a", 80), max_conns=1, down=down),
            ServerSpec(address=InetAddress("b", 80), down=True),
        )
        spec = PoolSpec(name="web", servers=specs, queue=model.Queue(size=size, timeout=timeout), **asked)
        self.servers = [Server(spec) for spec in specs]
        self.balancer = Pool(spec, self.servers, self.reactor.seconds)
        # Two listeners use it.
        self.upstream, _ = (
            Upstream(self.reactor, self.balancer, Limits(connect_timeout=3.0), self.reactor.seconds) for _ in range(2)
        )

    def client(self, name: str) -> Search:
        search = Search(self, self.upstream, name)
        search.start()
        return search

    def answer(self) -> None:
        """The next turn, in which all servers that are dialled answer."""
        self.reactor.advance(0)
        for connector in list(self.reactor.pending):
            connector.accept()

    def assert_quiet(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual((len(self.balancer.queue), self.balancer.pending), (0, 0))
        self.assertEqual([server.active for server in self.servers], [0, 0])

    def test_turn_by_turn(self) -> None:
        """Who has waited is connected as soon as the one before has finished, and the log says how long it took."""
        self.pool()
        searches = [self.client(name) for name in ("one", "two", "three")]
        self.answer()
        for search in searches:
            self.reactor.advance(0.5)
            search.stop()
            self.answer()
        self.assertEqual(self.log, ["one@a", "two@a", "three@a"])
        self.assertEqual([search.record.queue_time for search in searches], [None, 0.5, 1.0])
        self.assertEqual(self.balancer.refused, 0)
        self.assert_quiet()

    def test_too_many(self) -> None:
        self.pool(size=1)
        one, two, three = (self.client(name) for name in ("one", "two", "three"))
        self.assertEqual(self.log, ["three: NoServerAvailable"])
        self.assertEqual((self.balancer.queue.overflows, self.balancer.refused), (1, 1))
        for search in (one, two, three):
            search.stop()
        self.assert_quiet()

    def test_too_long(self) -> None:
        """After the queue's timeout the client hears that there is no server; its place is free."""
        self.pool(size=1, timeout=5.0)
        one = self.client("one")
        self.client("two")
        self.answer()
        self.reactor.advance(4.9)
        self.assertEqual(self.log, ["one@a"])
        self.reactor.advance(0.1)
        self.assertEqual(self.log, ["one@a", "two: NoServerAvailable"])
        self.assertEqual((self.balancer.queue.timeouts, self.balancer.refused), (1, 1))
        self.client("three")
        one.stop()
        self.answer()
        self.assertEqual(self.log[2:], ["three@a"])

    def test_who_leaves(self) -> None:
        """A client that leaves frees its place, and is not served."""
        self.pool(size=1)
        one, two = self.client("one"), self.client("two")
        two.stop()
        self.client("three")
        one.stop()
        self.answer()
        self.assertEqual(self.log, ["three@a"])

    def test_time_brings_a_server_back(self) -> None:
        """Nothing else happens: the timer of the queue looks when the ejected server may be tried."""
        self.pool()
        lease = self.balancer.acquire()
        lease.failed("refused")
        lease.release()
        search = self.client("one")
        self.reactor.advance(9.9)
        self.assertEqual(self.reactor.pending, [])
        self.reactor.advance(0.2)
        self.answer()
        self.assertEqual(self.log, ["one@a"])
        search.stop()
        self.assert_quiet()

    def test_a_switch(self) -> None:
        self.pool(down=True)
        search = self.client("one")
        self.answer()
        self.balancer.switch(self.servers[0], "up")
        self.answer()
        self.assertEqual(self.log, ["one@a"])
        search.stop()
        self.assert_quiet()

    def test_connecting_is_another_wait(self) -> None:
        """The time for a connection begins when the wait is over; a failure then is the end, without a second wait."""
        self.pool(timeout=5.0)
        one, two = self.client("one"), self.client("two")
        self.answer()
        self.reactor.advance(4.0)
        one.stop()
        self.reactor.advance(0)
        self.reactor.advance(2.9)
        self.assertEqual(self.log, ["one@a"])
        self.reactor.advance(0.2)
        self.assertEqual(self.log, ["one@a", "two: UpstreamError"])
        two.stop()
        self.assert_quiet()

    def test_everybody_leaves(self) -> None:
        """Then nothing is left that waits for anything."""
        self.pool()
        searches = [self.client(name) for name in "abcdef"]
        for search in searches[::-1]:
            search.stop()
        self.assert_quiet()
        self.assertEqual(self.log, [])

    def test_in_vain(self) -> None:
        """The log says how long somebody has waited who was not served, or has left."""
        self.pool(timeout=5.0)
        self.client("one")
        two, three = self.client("two"), self.client("three")
        self.reactor.advance(2)
        three.stop()
        self.reactor.advance(3)
        self.assertEqual((two.record.queue_time, three.record.queue_time), (5.0, 2.0))

    def test_crowded(self) -> None:
        """Who waits stays while as many connections are being made as may be, and nothing turns round meanwhile."""
        self.pool(max_pending=1)
        one, two, three = (self.client(name) for name in ("one", "two", "three"))
        self.answer()
        self.balancer.pending += 1
        one.stop()
        for _ in range(5):
            self.reactor.advance(0.01)
        self.assertEqual((self.log, len(self.balancer.queue)), (["one@a"], 2))
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.balancer.pending -= 1
        self.balancer.queue.tell()
        self.answer()
        self.assertEqual(self.log, ["one@a", "two@a"])
        for search in (two, three):
            search.stop()
        self.assert_quiet()

    def test_ejected_and_crowded(self) -> None:
        """A moment that has passed while no connection may be made is not looked for again and again."""
        self.pool(max_pending=1)
        self.servers[1].switch = "up"
        self.balancer.replace(self.servers)
        for _ in range(2):
            lease = self.balancer.acquire()
            lease.failed("refused")
            lease.release()
        self.client("one")
        self.balancer.pending += 1
        looks: list[None] = []
        serve = self.balancer.serve_waiting
        self.balancer.serve_waiting = lambda: (looks.append(None), serve())
        for _ in range(200):
            self.reactor.advance(0.1)
        self.assertLess(len(looks), 10)

    def test_time_for_retries(self) -> None:
        """It begins when the wait is over."""
        self.pool()
        self.upstream = Upstream(self.reactor, self.balancer, Limits(timeout=2.0), self.reactor.seconds)
        one, two = self.client("one"), self.client("two")
        self.answer()
        self.reactor.advance(10)
        one.stop()
        self.answer()
        self.assertTrue(two.may_try_another())
        self.reactor.advance(2)
        self.assertFalse(two.may_try_another())

    def test_without_a_queue(self) -> None:
        """Nobody waits."""
        self.pool()
        pool = Pool(PoolSpec(name="web", servers=()), self.servers[1:], self.reactor.seconds)
        self.upstream = Upstream(self.reactor, pool, Limits(), self.reactor.seconds)
        self.client("one")
        self.assertEqual(self.log, [f"one: {NoServerAvailable.__name__}"])
