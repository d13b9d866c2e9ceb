"""pylb.fortunes: what the log says, line by line."""

from __future__ import annotations

from dataclasses import replace

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import NoServerAvailable, make_pool
from pylb.fortunes import Fortunes
from pylb.model import Balance, InetAddress, PoolSpec, ServerSpec


class FortunesTests(SynchronousTestCase):
    def setUp(self):
        self.now = 0.0
        servers = tuple(ServerSpec(address=InetAddress(f"10.0.0.{number}", 80)) for number in (1, 2))
        self.pool = make_pool(PoolSpec(name="web", servers=servers), lambda: self.now, Fortunes())

    def lines(self, act):
        with capturedLogs() as logs:
            act()
        return [(log["log_level"], formatEvent(log)) for log in logs]

    def use(self, problem=""):
        lease = self.pool.acquire()
        if problem:
            lease.failed(problem)
        else:
            lease.succeeded()
        lease.release()

    def test_silent_about_requests(self):
        self.assertEqual(self.lines(lambda: [self.use() for _ in range(5)]), [])

    def test_out_and_back(self):
        """One line when a server is out, with the pause and the reason, and one when it is back."""
        line = "pool web: 10.0.0.1:80 is out for 10 s: Connection refused"
        self.assertEqual(self.lines(lambda: self.use("Connection refused")), [(LogLevel.warn, line)])
        self.now = 10.1
        line = "pool web: 10.0.0.1:80 is back: a request succeeded"
        self.assertEqual(self.lines(lambda: [self.use() for _ in range(3)]), [(LogLevel.info, line)])

    def test_switched(self):
        """One line when the operator takes a server out or in."""
        lines = self.lines(
            lambda: [self.pool.switch(self.pool.servers[0], state) for state in ("drain", "drain", "up")]
        )
        expected = [f"pool web: 10.0.0.1:80 is switched to {state}" for state in ("drain", "up")]
        self.assertEqual(lines, [(LogLevel.info, line) for line in expected])

    def test_checked(self):
        """One line when checks take a server out, with their reason, and one when they let it in again."""
        server = self.pool.servers[0]
        reasons = {"unhealthy": "status 503", "passed": "checks passed"}
        lines = self.lines(
            lambda: [
                self.pool.checked(server, to, reasons[to]) for to in ("unhealthy", "unhealthy", "passed", "passed")
            ]
        )
        expected = [
            (LogLevel.warn, "pool web: 10.0.0.1:80 is unhealthy: status 503"),
            (LogLevel.info, "pool web: 10.0.0.1:80 is healthy: checks passed"),
        ]
        self.assertEqual(lines, expected)

    def test_drained_by_its_agent(self):
        """A server whose share becomes nothing, or something again, is said to be switched, and why."""
        server = self.pool.servers[0]
        lines = self.lines(lambda: [self.pool.reweigh(server, share, "its agent") for share in (0.5, 0.0, 0.0, 0.7)])
        expected = [f"pool web: 10.0.0.1:80 is switched to {state}: its agent" for state in ("drain", "up")]
        self.assertEqual(lines, [(LogLevel.info, line) for line in expected])

    def test_orders_of_others(self):
        """Who only does what others have logged says nothing of it."""
        pool = make_pool(self.pool.spec, lambda: self.now, Fortunes(orders=False))

        def obey():
            pool.checked(pool.servers[0], "unhealthy", "")
            pool.switch(pool.servers[1], "drain")
            pool.reweigh(pool.servers[0], 0.0)

        self.assertEqual(self.lines(obey), [])

    def test_panic(self):
        """One line when all servers are used because too few are well, and one when no longer."""
        self.pool = make_pool(replace(self.pool.spec, panic_threshold=100), lambda: self.now, Fortunes(orders=False))
        server = self.pool.servers[0]
        lines = self.lines(lambda: [self.pool.checked(server, to, "") for to in ("unhealthy", "passed")])
        expected = [
            (LogLevel.error, "pool web uses all, well or not: 1 of 2 servers are well"),
            (LogLevel.info, "pool web uses those that are well again: 2 of 2 servers are well"),
        ]
        self.assertEqual(lines, expected)

    def test_lone(self):
        """A server that is never ejected, because it is alone, is said to fail, once, and to work again."""
        self.pool.replace(self.pool.servers[:1])
        line = "pool web: 10.0.0.1:80 fails and stays: Connection refused"
        self.assertEqual(
            self.lines(lambda: [self.use("Connection refused") for _ in range(3)]), [(LogLevel.warn, line)]
        )

    def test_pool_refuses(self):
        """One line when a pool begins to refuse, however many it refuses, and one when it serves again."""
        self.use("gone")
        self.use("gone")

        def refused():
            for _ in range(3):
                self.assertRaises(NoServerAvailable, self.pool.acquire)

        reason = "no usable server: 10.0.0.1:80 ejected 10s, 10.0.0.2:80 ejected 10s"
        self.assertEqual(self.lines(refused), [(LogLevel.error, f"pool web refuses clients: {reason}")])
        self.now = 10.1
        news = self.lines(lambda: [self.use() for _ in range(4)])
        [(level, line)] = [(level, line) for level, line in news if line.startswith("pool web is")]
        self.assertEqual(level, LogLevel.info)
        self.assertRegex(line, r"^pool web is usable again \(3 refused since the start\): 10.0.0.[12]:80 serves$")

    def test_method_breaks(self):
        """One traceback a minute, however many requests meet it, and how many were refused."""

        class Broken:
            def __init__(self, servers):
                pass

            def add(self, server):
                pass

            def choose(self, request, tried, now):
                raise KeyError("nobody thought of that")

        spec = replace(self.pool.spec, balance=Balance(method="mine:Broken", own=Broken))
        self.pool = make_pool(spec, lambda: self.now, Fortunes())

        def refused():
            for _ in range(60):
                self.now += 1.5
                self.assertRaises(NoServerAvailable, self.pool.acquire)

        lines = self.lines(refused)
        self.assertEqual([level for level, _ in lines], [LogLevel.critical] * 2)
        self.assertEqual([type(error.value) for error in self.flushLoggedErrors()], [KeyError] * 2)
        for (_, line), refused_by_now in zip(lines, (1, 41), strict=True):
            self.assertTrue(line.startswith("pool web refuses clients: its balancing method breaks"), line)
            self.assertIn(f"{refused_by_now} refused since the start", line)
