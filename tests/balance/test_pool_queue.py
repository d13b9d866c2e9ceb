"""Tests of pylb.balance.pool: those that wait for a server."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb import model
from pylb.balance.lease import Lease
from pylb.balance.methods.round_robin import RoundRobin
from pylb.balance.pool import NoServerAvailable
from pylb.balance.queue import Place
from pylb.balance.server import Server
from pylb.model import Balance, StickyRoute
from tests.balance.fakes import Bench, host, make_server


class Client:
    """Somebody with a name, who says so in order to reach the server of that name."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.lease: Lease | None = None
        self._log = log

    def variable(self, name: str) -> bytes:
        return self.name.encode()

    def served(self, lease: Lease) -> None:
        self.lease = lease
        self._log.append(f"{self.name}@{host(lease.server)}")

    def refused(self, error: Exception) -> None:
        self._log.append(f"{self.name}: {type(error).__name__}")


class WaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log: list[str] = []

    def bench(self, *servers: Server, size: int = 100, priority: str = "", **asked: Any) -> Bench:
        return Bench(*servers, queue=model.Queue(size=size, priority=priority), **asked)

    def wait(self, bench: Bench, *names: str) -> list[tuple[Client, Place]]:
        """Clients that find nobody and wait."""
        waiting = []
        for name in names:
            client = Client(name, self.log)
            self.assertTrue(self.assertRaises(NoServerAvailable, bench.pool.acquire, client).may_wait)
            waiting.append((client, bench.pool.queue.join(client, bench.clock.seconds())))
        return waiting

    def test_in_order(self) -> None:
        """Each lease that is given back goes to the one who has waited longest."""
        bench = self.bench(make_server("a", max_conns=1))
        lease = bench.pool.acquire()
        (first, _), (second, _) = self.wait(bench, "first", "second")
        bench.pool.serve_waiting()
        self.assertEqual(self.log, [])
        lease.release()
        bench.pool.serve_waiting()
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["first@a"])
        first.lease.release()
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["first@a", "second@a"])
        second.lease.release()
        self.assertEqual((len(bench.pool.queue), bench.server("a").active), (0, 0))

    def test_nobody_goes_before(self) -> None:
        """Who comes when a server is free and others wait for it goes behind them."""
        bench = self.bench(make_server("a", max_conns=1))
        lease = bench.pool.acquire()
        self.wait(bench, "first")
        lease.release()
        self.wait(bench, "second")
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["first@a"])

    def test_priorities(self) -> None:
        bench = self.bench(make_server("a", max_conns=2), priority="$http_x")
        leases = [bench.pool.acquire(), bench.pool.acquire()]
        self.wait(bench, "5", "7", "-1")
        for lease in leases:
            lease.release()
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["-1@a", "5@a"])

    def test_not_refused(self) -> None:
        """Who can wait is not counted as refused, nor reported; who finds the queue full is."""
        bench = self.bench(make_server("a", max_conns=1), size=1)
        bench.pool.acquire()
        self.wait(bench, "first")
        self.assertEqual((bench.pool.refused, bench.heard.news), (0, []))
        error = self.assertRaises(NoServerAvailable, bench.pool.acquire, Client("second", self.log))
        self.assertEqual((error.may_wait, bench.pool.refused, bench.pool.queue.overflows), (False, 1, 1))
        self.assertEqual(bench.heard.news, ["web unusable: the queue is full: a:80 full"])

    def test_in_vain(self) -> None:
        """Who has waited for too long is counted as refused, and reported."""
        bench = self.bench(make_server("a", max_conns=1))
        bench.pool.acquire()
        ((_, place),) = self.wait(bench, "first")
        self.assertIn("waited for 60 s", str(bench.pool.wait_ends(place)))
        self.assertEqual((bench.pool.refused, bench.pool.queue.timeouts, len(bench.pool.queue)), (1, 1, 0))
        self.assertEqual(bench.heard.news, ["web unusable: waited for 60 s in the queue: a:80 full"])

    def test_all_out(self) -> None:
        """Servers that have failed come back in time: one of those who wait tries, the others when it was well."""
        bench = self.bench(make_server("a"), make_server("b", down=True))
        bench.fail("a")
        (first, _), _ = self.wait(bench, "first", "second")
        self.assertEqual(bench.pool.next_change(), 10.0)
        bench.clock.advance(10.5)
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["first@a"])
        first.lease.succeeded()
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["first@a", "second@a"])

    def test_never(self) -> None:
        """Time alone brings back nobody who is not waited for."""
        self.assertIsNone(self.bench(make_server("a", max_conns=1)).pool.next_change())

    def test_retries_do_not_wait(self) -> None:
        """Who has tried a server gets another one, or none."""
        bench = self.bench(make_server("a"), make_server("b", max_conns=1))
        lease, other = bench.pool.acquire(), bench.pool.acquire()
        error = self.assertRaises(NoServerAvailable, bench.pool.acquire, None, lease)
        self.assertFalse(error.may_wait)
        other.release()
        self.assertEqual(host(bench.pool.acquire(None, lease).server), "b")

    def test_strict_sessions(self) -> None:
        """Who waits for a server of one's own is in nobody's way."""
        servers = [make_server("a", max_conns=1, route="a"), make_server("b", max_conns=1, route="b")]
        bench = self.bench(*servers, sticky=StickyRoute(variables=("$cookie_r",), strict=True))
        leases = [bench.pool.acquire(Client(name, self.log)) for name in "ab"]
        self.wait(bench, "a", "b", "b")
        self.assertEqual(bench.pool.refused, 0)
        leases[1].release()
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["b@b"])
        leases[0].release()
        self.wait(bench, "a")  # behind the one who was there before
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["b@b", "a@a"])
        self.assertEqual(bench.pool.refused, 0)

    def test_strict_sessions_of_others(self) -> None:
        """However many wait for one server, the sessions of another one that has room come and go."""
        servers = [make_server("a", max_conns=1, route="a"), make_server("b", max_conns=9, route="b")]
        bench = self.bench(*servers, size=2, sticky=StickyRoute(variables=("$cookie_r",), strict=True))
        bench.pool.acquire(Client("a", self.log))
        self.wait(bench, "a", "a")
        leases = [bench.pool.acquire(Client("b", self.log)) for _ in range(9)]
        leases[0].release()
        self.assertEqual(host(bench.pool.acquire(Client("b", self.log)).server), "b")
        self.assertEqual(bench.pool.refused, 0)

    def test_sessions_of_draining_servers(self) -> None:
        """Who has a server that takes no strangers is not in the way of those who wait, nor they in his."""
        servers = [make_server("a", max_conns=1, route="a"), make_server("b", max_conns=1, route="b")]
        bench = self.bench(*servers, sticky=StickyRoute(variables=("$cookie_r",)))
        bench.pool.switch(bench.server("a"), "drain")
        bench.pool.acquire(Client("x", self.log))
        self.wait(bench, "y")
        bench.pool.serve_waiting()
        lease = bench.pool.acquire(Client("a", self.log))
        self.wait(bench, "z", "a")
        lease.release()
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["a@a"])

    def test_a_method_that_breaks(self) -> None:
        """Who cannot be served at all does not keep the others waiting."""

        class Own(RoundRobin):
            def choose(self, request: Any, tried: Any, now: float) -> Server:
                if request.name == "bad":
                    raise KeyError("bad")
                return super().choose(request, tried, now)

        balance = Balance(method="mine:Own", own=Own)
        bench = self.bench(make_server("a", max_conns=1), balance=balance)
        lease = bench.pool.acquire(Client("first", self.log))
        self.wait(bench, "bad", "good")
        lease.release()
        bench.pool.serve_waiting()
        self.assertEqual((self.log, len(bench.pool.queue)), (["bad: NoServerAvailable", "good@a"], 0))

    def test_crowded(self) -> None:
        """While no more connections may be made nobody is served."""
        bench = self.bench(make_server("a", max_conns=1), max_pending=1)
        lease = bench.pool.acquire()
        self.wait(bench, "first")
        lease.release()
        bench.pool.pending = 1
        bench.pool.serve_waiting()
        self.assertEqual(self.log, [])
        bench.pool.pending = 0
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["first@a"])

    def test_who_leaves(self) -> None:
        """The next one is served."""
        bench = self.bench(make_server("a", max_conns=1))
        lease = bench.pool.acquire()
        (_, place), _ = self.wait(bench, "first", "second")
        bench.pool.queue.leave(place)
        lease.release()
        bench.pool.serve_waiting()
        self.assertEqual(self.log, ["second@a"])


class TellingTests(SynchronousTestCase):
    """Whoever attends to the queue is told of all that may let somebody in."""

    def told(self, bench: Bench, change: Any) -> bool:
        looks: list[None] = []
        bench.pool.queue.changed = lambda: looks.append(None)
        change()
        return bool(looks)

    def waiting(self, *servers: Server, **asked: Any) -> Bench:
        bench = Bench(*servers, queue=model.Queue(size=9), **asked)
        while True:
            try:
                bench.pool.acquire()
            except NoServerAvailable:
                break
        bench.pool.queue.join(Client("x", []), 0.0)
        return bench

    def test_released(self) -> None:
        bench = Bench(make_server("a", max_conns=1), queue=model.Queue(size=9))
        lease = bench.pool.acquire()
        bench.pool.queue.join(Client("x", []), 0.0)
        self.assertTrue(self.told(bench, lease.release))

    def test_switched(self) -> None:
        bench = self.waiting(make_server("a", down=True))
        self.assertTrue(self.told(bench, lambda: bench.pool.switch(bench.server("a"), "up")))

    def test_checked(self) -> None:
        bench = Bench(make_server("a"), make_server("b", down=True), queue=model.Queue(size=9))
        bench.pool.checked(bench.server("a"), "unhealthy", "status 500")
        bench.pool.queue.join(Client("x", []), 0.0)
        self.assertTrue(self.told(bench, lambda: bench.pool.checked(bench.server("a"), "passed", "status 200")))

    def test_added(self) -> None:
        bench = self.waiting(make_server("a", down=True))
        self.assertTrue(self.told(bench, lambda: bench.pool.replace([*bench.pool.servers, make_server("b")])))

    def test_recovered(self) -> None:
        bench = Bench(make_server("a"), make_server("b", down=True), queue=model.Queue(size=9))
        bench.fail("a")
        bench.clock.advance(11)
        lease = bench.pool.acquire()
        bench.pool.queue.join(Client("x", []), 0.0)
        self.assertTrue(self.told(bench, lease.succeeded))

    def test_panic(self) -> None:
        """Servers that are used only because too few are well are to be had."""
        bench = Bench(make_server("a"), make_server("b", max_conns=1), queue=model.Queue(size=9), panic_threshold=50)
        bench.pool.checked(bench.server("a"), "unhealthy", "status 500")
        bench.pool.acquire()
        bench.pool.queue.join(Client("x", []), 0.0)
        self.assertTrue(self.told(bench, lambda: bench.pool.checked(bench.server("b"), "unhealthy", "status 500")))

    def test_empty(self) -> None:
        """While nobody waits nobody is told."""
        bench = Bench(make_server("a", max_conns=1), queue=model.Queue(size=9))
        lease = bench.pool.acquire()
        self.assertFalse(self.told(bench, lease.release))
