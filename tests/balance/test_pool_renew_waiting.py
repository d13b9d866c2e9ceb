"""pylb.balance.pool: those that wait, and sessions, in a pool that gets another configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb import model
from pylb.balance.pool import NoServerAvailable
from pylb.balance.server import Server
from pylb.model import StickyLearn, StickyRoute
from tests.balance.fakes import Bench, host, make_server
from tests.balance.test_pool_queue import Client
from tests.balance.test_sticky import Asks

LEARN = StickyLearn(create=("$arg_s",), lookup=("$arg_s",), timeout=100.0, size=3)
ROUTE = StickyRoute(variables=("$arg_s",))


class QueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log: list[str] = []

    def bench(self, size: int = 2, priority: str = "") -> Bench:
        """All of its only place is taken."""
        bench = Bench(make_server("a", max_conns=1), queue=model.Queue(size=size, priority=priority))
        self.held = bench.pool.acquire()
        return bench

    def wait(self, bench: Bench, *names: str) -> None:
        assert bench.pool.queue is not None
        for name in names:
            client = Client(name, self.log)
            self.assertTrue(self.assertRaises(NoServerAvailable, bench.pool.acquire, client).may_wait)
            bench.pool.queue.join(client, 0.0)

    def test_added(self) -> None:
        """Whoever comes from then on may wait."""
        bench = Bench(make_server("a", max_conns=1))
        bench.pool.acquire()
        bench.again(queue=model.Queue(size=1))
        self.wait(bench, "x")

    def test_goes_on(self) -> None:
        """Those that wait keep their places, in a queue of another size and order, and are attended to."""
        bench = self.bench()
        self.wait(bench, "x", "y")
        looks: list[int] = []
        assert bench.pool.queue is not None
        bench.pool.queue.changed = lambda: looks.append(1)
        bench.again(queue=model.Queue(size=3, priority="$http_x"))
        self.wait(bench, "-1")
        self.assertFalse(self.assertRaises(NoServerAvailable, bench.pool.acquire, Client("z", self.log)).may_wait)
        del looks[:]
        self.held.release()
        self.assertTrue(looks)
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["-1@a"])

    def test_order_ends(self) -> None:
        """Without a priority those who come stand in the order in which they came."""
        bench = self.bench(size=9, priority="$http_x")
        bench.again(queue=model.Queue(size=9))
        self.wait(bench, "7", "-1")
        self.held.release()
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["7@a"])

    def test_smaller(self) -> None:
        """Who waits already is not sent away."""
        bench = self.bench()
        self.wait(bench, "x", "y")
        bench.again(queue=model.Queue(size=1))
        self.held.release()
        bench.pool.serve_waiting()
        self.assertEqual((self.log, len(bench.pool.queue or ())), (["x@a"], 1))

    def test_served(self) -> None:
        """A server that is new, or has more room, is for those that wait."""
        for wanted in ([make_server("a", max_conns=1), make_server("b")], [make_server("a", max_conns=2)]):
            self.log.clear()
            bench = self.bench()
            self.wait(bench, "x")
            bench.renew(*wanted)
            assert bench.pool.queue is not None
            self.assertTrue(bench.pool.queue.due)
            bench.pool.serve_waiting()
            self.assertEqual(self.log, [f"x@{host(wanted[-1])}"])

    def test_removed(self) -> None:
        """Those that wait are refused, each once, also if one takes another along; nobody waits any more."""
        bench = self.bench(size=3)
        self.wait(bench, "x", "y", "z")
        queue = bench.pool.queue
        assert queue is not None
        _, gives_up, *_ = queue.in_order()
        looks: list[int] = []
        queue.changed = lambda: looks.append(len(queue))
        first = next(queue.in_order()).waiter
        refused = first.refused

        def takes_along(error: Exception) -> None:
            refused(error)
            queue.leave(gives_up)

        first.refused = takes_along
        bench.again(queue=None)
        self.assertEqual(self.log, ["x: NoServerAvailable", "z: NoServerAvailable"])
        self.assertEqual((len(queue), looks[-1], bench.pool.queue), (0, 0, None))
        self.assertFalse(self.assertRaises(NoServerAvailable, bench.pool.acquire).may_wait)
        self.held.release()
        self.assertEqual(bench.serve(1), "a")

    def test_removed_empty(self) -> None:
        """A queue in which nobody waits goes unnoticed."""
        bench = self.bench()
        bench.again(queue=None)
        self.held.release()
        self.assertEqual(bench.serve(1), "a")


class SessionTests(SynchronousTestCase):
    def letters(self, route: bool = False) -> list[Server]:
        return [make_server(letter, route=letter if route else None) for letter in "abc"]

    def go(self, bench: Bench, session: str) -> str:
        """Who serves a request of a session."""
        request = Asks(arg_s=session)
        lease = bench.pool.acquire(request)
        lease.bind(request)
        lease.release()
        return host(lease.server)

    def test_learned(self) -> None:
        """What was learned is not forgotten by a table of another kind or size, and told to the same colleagues."""
        bench = Bench(*self.letters(), sticky=LEARN)
        told: list[Any] = []
        bench.pool.sticky.tell = told.append  # type: ignore[union-attr]
        servers = [self.go(bench, session) for session in "xyz"]
        table = bench.pool.sticky
        bench.again()
        self.assertIs(bench.pool.sticky, table)
        bench.again(sticky=replace(LEARN, size=2, timeout=50.0))
        self.assertEqual("".join(servers), "abc")
        self.assertEqual([self.go(bench, session) for session in "zy"], ["c", "b"])
        self.assertEqual((len(bench.pool.sticky), len(told)), (2, 3))  # type: ignore[arg-type]
        self.go(bench, "new")
        self.assertEqual(len(told), 4)

    def test_learned_order(self) -> None:
        """Of more than the new table holds those that were used last stay, and for the new time."""
        bench = Bench(*self.letters(), sticky=LEARN)
        for session in "xyzx":
            bench.clock.advance(10)
            self.go(bench, session)
        bench.again(sticky=replace(LEARN, size=2, timeout=15.0))
        table = bench.pool.sticky
        assert table is not None
        bound = [[host(each) for each in table.bound(Asks(arg_s=s), 41.0)] for s in "xyz"]
        self.assertEqual(bound, [["a"], [], ["c"]])
        self.assertEqual(list(table.bound(Asks(arg_s="z"), 46.0)), [])

    def test_kinds(self) -> None:
        """Another kind of sessions, none, and some again: what is known of none is a new session."""
        bench = Bench(*self.letters(True), sticky=LEARN)
        self.go(bench, "b")
        bench.again(sticky=ROUTE)
        self.assertEqual(self.go(bench, "b"), "b")
        bench.again(sticky=LEARN)
        self.assertEqual(len(bench.pool.sticky), 0)  # type: ignore[arg-type]
        bench.again(sticky=None)
        self.assertIsNone(bench.pool.sticky)
        bench.serve(3)
        bench.again(sticky=LEARN)
        self.assertEqual(self.go(bench, "b"), self.go(bench, "b"))

    def test_strict(self) -> None:
        """Whether others may serve a session counts from then on, in both directions."""
        bench = Bench(*self.letters(True), sticky=ROUTE)
        bench.pool.switch(bench.server("b"), "down")
        bench.again(sticky=replace(ROUTE, strict=True))
        self.assertRaises(NoServerAvailable, self.go, bench, "b")
        bench.again(sticky=ROUTE)
        self.assertIn(self.go(bench, "b"), "ac")

    def test_routes(self) -> None:
        """A server's other name counts, and a new server's."""
        bench = Bench(*self.letters(True), sticky=ROUTE)
        bench.renew(make_server("a", route="x"), make_server("d", route="a"))
        self.assertEqual([self.go(bench, route) for route in "xaxa"], list("adad"))
