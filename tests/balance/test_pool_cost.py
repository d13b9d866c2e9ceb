"""Tests of what pylb.balance.pool costs: lines executed are counted, which no busy machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods import METHODS
from pylb.balance.pool import NoServerAvailable
from tests.balance.fakes import Bench, make_server


def lines(do: Callable[[], object]) -> int:
    """How many lines of Python `do` executes."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        do()
    finally:
        sys.settrace(before)
    return count


def big(count: int, balance: str = "round_robin", **asked: Any) -> Bench:
    """A pool of `count` servers of three weights."""
    servers = (make_server(f"host{number}", 1 + number % 3, **asked) for number in range(count))
    return Bench(*servers, balance=balance)


class CostTests(SynchronousTestCase):
    """At 10,000 servers a request costs at most twice what it costs at 10."""

    def compare(self, do: Callable[[Bench], object], **asked: Any) -> None:
        small, large = (big(count, **asked) for count in (10, 10_000))
        self.assertLess(lines(lambda: do(large)), 2 * lines(lambda: do(small)))

    def test_serving(self) -> None:
        """A request that is served."""
        self.compare(lambda bench: bench.serve(100))

    def test_max_conns(self) -> None:
        """Servers that become full and free again."""
        self.compare(lambda bench: bench.serve(100), max_conns=1)

    def test_failing(self) -> None:
        """A server that fails and is ejected, while the others serve."""
        self.compare(lambda bench: (bench.pool.acquire().failed("refused"), bench.serve(20)))

    def test_retrying(self) -> None:
        """A retry."""
        self.compare(lambda bench: bench.pool.acquire(after=bench.pool.acquire()))

    def test_every_method(self) -> None:
        """A request that is served, a retry and leases that stay, with the other methods."""

        def use(bench: Bench) -> None:
            bench.serve(100)
            for _ in range(5):
                bench.pool.acquire(after=bench.pool.acquire())

        for balance in sorted(METHODS):
            self.compare(use, balance=balance)

    def test_refusing(self) -> None:
        """A refusal."""
        self.compare(lambda bench: self.assertRaises(NoServerAvailable, bench.pool.acquire), down=True)

    def test_after_a_recovery(self) -> None:
        """A recovery leaves nothing behind that a request has to look at."""
        bench = big(10)
        before = lines(lambda: bench.serve(20))
        bench.fail(["host0"])
        for _ in range(3):
            bench.clock.advance(10.5)
            bench.serve(20)
        self.assertLess(lines(lambda: bench.serve(20)), before + 20)

    def test_with_half_of_them_ejected(self) -> None:
        """Serving while many servers wait for their return."""

        def waiting(count: int) -> Bench:
            bench = big(count)
            for _ in range(count // 2):
                bench.pool.acquire().failed("refused")
            bench.clock.advance(5.0)
            return bench

        small, large = waiting(10), waiting(10_000)
        self.assertLess(lines(lambda: large.serve(100)), 2 * lines(lambda: small.serve(100)))

    def test_with_many_weakened(self) -> None:
        """Serving while many gain less than their weight, and while they join the others again, whenever they failed."""

        def weakened(count: int) -> Bench:
            bench = Bench(*(make_server(f"host{number}", 40, max_fails=2) for number in range(count)))
            for server in bench.pool.servers[::2]:
                bench.pool._tier_of[server].method.failed(server)  # type: ignore[attr-defined]
            return bench

        small, large = (
            max(lines(lambda: bench.serve(10)) for _ in range(8))  # noqa: B023
            for bench in (weakened(10), weakened(10_000))
        )
        self.assertLess(large, 2 * small)


class SlowStartTests(SynchronousTestCase):
    """Nor does it cost more while servers start slowly."""

    def warming(self, count: int, apart: float, **asked: Any) -> Bench:
        """Half of the servers start slowly, for 1000 s, all within `apart` seconds, and are half way on."""
        bench = big(count, slow_start=1000.0, **asked)
        for server in bench.pool.servers[::2]:
            bench.clock.advance(apart / count)
            bench.pool._tier_of[server].warm_up(server, bench.clock.seconds())
        bench.clock.advance(500.0 - apart / 2)
        return bench

    def most(self, bench: Bench, seconds: float) -> int:
        """What a request costs at most, when they come so many seconds after one another."""

        def one() -> None:
            bench.clock.advance(seconds)
            bench.serve(1)

        return max(lines(one) for _ in range(100))

    def compare(self, apart: float, seconds: float, **asked: Any) -> None:
        small, large = (self.most(self.warming(count, apart, **asked), seconds) for count in (40, 10_000))
        self.assertLess(large, 2 * small)

    def test_begun_at_once(self) -> None:
        """All of them began in one moment, as after a change of the configuration."""
        self.compare(0.0, 0.001)

    def test_begun_one_by_one(self) -> None:
        """Each has its own line."""
        self.compare(900.0, 0.001)

    def test_step(self) -> None:
        """Each request comes when all weights have grown."""
        self.compare(900.0, 10.0)

    def test_ends(self) -> None:
        """All of them have their whole weight in one moment."""
        self.compare(0.0, 600.0)

    def test_max_conns(self) -> None:
        """They become full and free again."""
        self.compare(0.0, 0.001, max_conns=1)


class FlappingTests(SynchronousTestCase):
    """What is kept does not grow with what happens."""

    def kept(self, bench: Bench) -> int:
        """Items in all the heaps."""
        groups = [group for tier in bench.pool._tiers for group in tier.method._turns.groups.values()]  # type: ignore[attr-defined]
        return len(bench.pool._returns) + sum(len(group.heap) for group in groups)

    def test_trials_abandoned(self) -> None:
        """A thousand clients that leave during the trial leave one entry."""
        bench = Bench(make_server("a", fail_timeout=3600.0), make_server("b", down=True))
        bench.fail("a")
        bench.clock.advance(3601.0)
        for _ in range(1000):
            bench.pool.acquire().release()
        self.assertLessEqual(self.kept(bench), 1 + 17)

    def test_flapping(self) -> None:
        """Nor do a thousand ejections and recoveries."""
        bench = Bench(make_server("a"), make_server("b"))
        for _ in range(1000):
            bench.fail("a")
            bench.clock.advance(10.5)
            bench.serve(2)
        self.assertLessEqual(self.kept(bench), 2 + 2 * 2 + 17)

    def test_full_and_not(self) -> None:
        """Nor a thousand times full and free again."""
        bench = Bench(make_server("a", max_conns=1), make_server("b", max_conns=1))
        bench.serve(1000)
        self.assertLessEqual(self.kept(bench), 2 * 2 + 17)
