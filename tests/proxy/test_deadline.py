"""When must something have happened?"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.deadline import Deadline, Deadlines


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.readings = 0
        self.expired: list[float] = []
        self.deadline = Deadline(Deadlines(self.clock, self.read), lambda: self.expired.append(self.clock.seconds()))

    def read(self) -> float:
        self.readings += 1
        return self.clock.seconds()

    def test_expires_once(self) -> None:
        """What was set expires once, at its time, and leaves no delayed call."""
        self.deadline.set(5)
        self.clock.pump([1] * 20)
        self.assertEqual((self.expired, self.clock.getDelayedCalls()), ([5], []))

    def test_later(self) -> None:
        """Setting it again moves it."""
        self.deadline.set(10)
        self.clock.pump([3, 4])
        self.deadline.set(10)
        self.clock.pump([3, 6.9])
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [17])

    def test_later_is_cheap(self) -> None:
        """Putting it off takes one reading of the clock and no delayed call."""
        self.deadline.set(5)
        calls, readings = self.clock.getDelayedCalls(), self.readings
        for _ in range(100):
            self.clock.advance(0.01)
            self.deadline.set(5)
        self.assertEqual((self.clock.getDelayedCalls(), self.readings - readings), (calls, 100))

    def test_earlier(self) -> None:
        """It can be moved to an earlier time, and there is one delayed call even so."""
        self.deadline.set(60)
        self.deadline.set(2)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([1] * 70)
        self.assertEqual(self.expired, [2])

    def test_clear(self) -> None:
        """After clear it never expires, but can be set again."""
        self.deadline.set(2)
        self.deadline.clear()
        self.clock.advance(10)
        self.assertEqual(self.expired, [])
        self.deadline.set(3)
        self.clock.advance(3)
        self.assertEqual(self.expired, [13])

    def test_end(self) -> None:
        """end is stop for good: nobody is known any more, nor told."""
        self.deadline.set(2)
        self.deadline.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deadline.set(3)
        self.clock.advance(3)
        self.assertEqual(self.expired, [])

    def test_zero(self) -> None:
        """0 is no deadline."""
        self.deadline.set(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deadline.set(2)
        self.deadline.set(0)
        self.clock.advance(10)
        self.assertEqual(self.expired, [])

    def test_stop(self) -> None:
        """stop leaves no delayed call, however often, and also after it has expired."""
        self.deadline.set(2)
        self.deadline.stop()
        self.deadline.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deadline.set(3)
        self.clock.advance(3)
        self.deadline.stop()
        self.assertEqual(self.expired, [3])

    def test_something_else(self) -> None:
        """What happens then may change while it is waited for."""
        self.deadline.set(2)
        self.deadline.expired = lambda: self.expired.append(-1)
        self.clock.advance(2)
        self.assertEqual(self.expired, [-1])

    def test_set_when_it_expires(self) -> None:
        """Whoever is told may set the next one."""
        self.deadline.expired = lambda: (self.expired.append(self.clock.seconds()), self.deadline.set(3))
        self.deadline.set(2)
        self.clock.pump([1] * 6)
        self.assertEqual(self.expired, [2, 5])
        self.deadline.stop()

    def test_reactor_time_jumps(self) -> None:
        """When somebody puts the reactor's clock forward, the monotonic clock still decides."""
        monotonic = Clock()
        Deadline(Deadlines(self.clock, monotonic.seconds), lambda: self.expired.append(self.clock.seconds())).set(10)
        monotonic.advance(1)
        self.clock.advance(3600)
        self.assertEqual(self.expired, [])
        monotonic.advance(9)
        self.clock.advance(9)
        self.assertEqual(self.expired, [3609])


class DeadlinesTests(SynchronousTestCase):
    """Many deadlines, and what they share."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.expired: list[str] = []

    def deadline(self, name: str, seconds: float) -> Deadline:
        deadline = Deadline(self.deadlines, lambda: self.expired.append(name))
        deadline.set(seconds)
        return deadline

    def test_in_order(self) -> None:
        """They expire in the order of their times, by one delayed call for all, and by none when nothing is awaited."""
        for name, seconds in (("b", 2), ("c", 3), ("a", 1), ("b2", 2)):
            self.deadline(name, seconds)
        calls = []
        for _ in range(4):
            calls.append(len(self.clock.getDelayedCalls()))
            self.clock.advance(1)
        self.assertEqual((self.expired, calls, len(self.deadlines)), (["a", "b", "b2", "c"], [1, 1, 1, 0], 0))

    def test_the_last_one_stops(self) -> None:
        """The delayed call goes with the last one that is stopped."""
        first, last = self.deadline("a", 1), self.deadline("b", 2)
        first.stop()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        last.stop()
        self.assertEqual((self.clock.getDelayedCalls(), len(self.deadlines)), ([], 0))
        self.deadline("c", 1)
        self.clock.advance(1)
        self.assertEqual(self.expired, ["c"])

    def test_the_last_one_expires(self) -> None:
        """So it does with the last one that expires, if only some that were stopped would come later."""
        last, stopped = self.deadline("a", 1), self.deadline("b", 2)
        stopped.stop()
        self.clock.advance(1)
        self.assertEqual((self.expired, self.clock.getDelayedCalls(), len(self.deadlines)), (["a"], [], 0))
        last.set(1)
        stopped.set(2)
        self.clock.pump([1, 1])
        self.assertEqual((self.expired, len(self.deadlines)), (["a", "a", "b"], 0))

    def test_stopped_ones_go(self) -> None:
        """Those that come and go take no more room than a few and the living do, and the living lose nothing by it."""
        living = [self.deadline(f"{n}", 100 + n) for n in range(10)]
        for _ in range(1000):
            self.deadline("gone", 600).stop()
        self.assertLess(len(self.deadlines._queue), 100)
        self.assertEqual(len(self.deadlines), len(living))
        self.clock.pump([100] + 9 * [1])
        self.assertEqual(self.expired, [f"{n}" for n in range(10)])

    def test_set_again(self) -> None:
        """One that was stopped and set again expires at its new time, and is one."""
        self.deadline("other", 10)
        again = self.deadline("again", 1)
        again.stop()
        again.set(5)
        self.clock.pump([1, 1])
        self.assertEqual((self.expired, len(self.deadlines)), ([], 2))
        self.clock.pump([3, 5])
        self.assertEqual((self.expired, len(self.deadlines)), (["again", "other"], 0))

    def test_stopped_when_another_expires(self) -> None:
        """One that expires may stop others that are due."""
        stopped = Deadline(self.deadlines, lambda: self.expired.append("stopped"))
        Deadline(self.deadlines, stopped.stop).set(1)
        stopped.set(1)
        self.clock.advance(1)
        self.assertEqual((self.expired, self.clock.getDelayedCalls(), len(self.deadlines)), ([], [], 0))

    def test_exception(self) -> None:
        """When one raises an exception the others expire all the same."""
        Deadline(self.deadlines, lambda: 1 / 0).set(1)
        self.deadline("a", 1)
        self.deadline("b", 2)
        self.assertRaises(ZeroDivisionError, self.clock.advance, 1)
        self.clock.pump([0, 1])
        self.assertEqual(self.expired, ["a", "b"])
