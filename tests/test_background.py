"""pylb.background: real threads, and a reactor that goes on turning."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pylb.background import Background
from pylb.balance.methods import at_once
from pylb.balance.pool import make_pool
from pylb.model import Balance, InetAddress, PoolSpec, ServerSpec
from tests.backends import until


class BackgroundTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.background = Background(reactor)
        self.done: list[Any] = []

    def take(self, result: Any) -> None:
        self.done.append((result, threading.current_thread()))

    async def test_a_thread_of_its_own(self) -> None:
        """The work is done in a thread that holds up nobody's end, the result comes in the reactor's."""
        self.background.start()
        self.background(threading.current_thread, self.take)
        self.assertEqual(self.done, [])
        await until(lambda: self.done)
        [(worker, here)] = self.done
        self.assertIs(here, threading.current_thread())
        self.assertIsNot(worker, here)
        self.assertTrue(worker.daemon)

    async def test_start(self) -> None:
        """Nothing begins before the start, and what waited for it is done when the start is over."""
        begun: list[int] = []
        for number in range(3):
            self.background(lambda number=number: begun.append(number) or number, self.take)
        self.assertEqual(begun, [])
        await self.background.start()
        self.assertEqual(sorted(result for result, _ in self.done), [0, 1, 2])

    def test_nothing_to_do(self) -> None:
        """A start without work is over at once."""
        self.successResultOf(self.background.start())

    async def test_stop(self) -> None:
        """What comes after the end is dropped, and the start that waited for it never ends."""
        go_on = threading.Event()
        self.background(go_on.wait, self.take)
        started = self.background.start()
        self.background.stop()
        go_on.set()
        # The thread's word comes before that of whoever speaks after its end.
        for thread in threading.enumerate():
            if thread.name == "pylb-background":
                thread.join(5)
        over: Deferred[None] = Deferred()
        reactor.callFromThread(over.callback, None)
        await over
        self.assertEqual(self.done, [])
        self.assertNoResult(started)

    async def test_idle(self) -> None:
        """It is idle when the last of what is under way is done, in whatever order, and what that begins in turn."""
        self.successResultOf(self.background.idle())
        await self.background.start()
        events = [threading.Event() for _ in range(3)]

        def more(result: Any) -> None:
            self.take(result)
            self.background(events[2].wait, self.take)

        self.background(events[0].wait, self.take)
        self.background(events[1].wait, more)
        idle = self.background.idle()
        for event, count in ((events[1], 1), (events[0], 2)):
            event.set()
            await until(lambda count=count: len(self.done) == count)
            self.assertNoResult(idle)
        events[2].set()
        await idle
        self.assertEqual(len(self.done), 3)
        self.successResultOf(self.background.idle())

    async def test_idle_after_a_failure(self) -> None:
        """A work that fails is done, too, also one whose result nobody can use."""
        await self.background.start()
        for work, done in ((lambda: 1 // 0, self.take), (lambda: 0, lambda result: 1 // result)):
            self.background(work, done)
            await self.background.idle()
        logged: list[Any] = []
        await until(lambda: logged.extend(self.flushLoggedErrors(ZeroDivisionError)) or len(logged) == 2)

    async def test_idle_given_up(self) -> None:
        """Who does not want to wait any more disturbs neither the work nor the next who waits."""
        await self.background.start()
        go_on = threading.Event()
        self.background(go_on.wait, self.take)
        given_up = self.background.idle()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        idle = self.background.idle()
        go_on.set()
        await idle
        self.assertEqual(len(self.done), 1)

    async def test_failure(self) -> None:
        """A work that fails is logged, and holds up neither the start nor the others."""
        with capturedLogs() as logs:
            self.background(lambda: 1 // 0, self.take)
            self.background(lambda: 7, self.take)
            await self.background.start()
        self.assertEqual([result for result, _ in self.done], [7])
        [said] = [log for log in logs if log["log_namespace"] == "pylb.background"]
        self.assertIs(said["log_failure"].type, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_the_reactor_goes_on(self) -> None:
        """It turns many times while a ring of 3,000 servers is made; meanwhile the pool serves, afterwards by the ring."""
        self.background.start()
        servers = tuple(ServerSpec(address=InetAddress(f"10.0.{n >> 8}.{n & 255}", 80)) for n in range(3000))
        balance = Balance(method="hash", key="$remote_addr", consistent=True)
        spec = PoolSpec(name="large", servers=servers, balance=balance)
        made: list[Any] = []

        def elsewhere(work: Callable[[], Any], done: Callable[[Any], None]) -> None:
            self.background(work, lambda result: made.append(done(result)))

        pool = make_pool(spec, reactor.seconds, elsewhere=elsewhere)
        self.assertEqual([pool.acquire(Client()).server.spec for _ in range(3)], list(servers[:3]))
        turns = 0
        while not made:
            turns += 1
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
        self.assertGreater(turns, 20)
        expected = make_pool(spec, reactor.seconds, elsewhere=at_once).acquire(Client()).server.name
        self.assertEqual({pool.acquire(Client()).server.name for _ in range(3)}, {expected})


class Client:
    def variable(self, name: str) -> bytes:
        return b"10.1.2.3"


class EarlyTests(SynchronousTestCase):
    def test_no_thread_before_the_start(self) -> None:
        """Where a process forks there is no thread yet."""
        before = threading.active_count()
        Background(reactor)(threading.Event().wait, print)
        self.assertEqual(threading.active_count(), before)
