"""Has nothing happened for too long?"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.deadline import IdleTimer


class IdleTimerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.expired: list[float] = []

    def timer(self, timeout: float, clock=None) -> IdleTimer:
        return IdleTimer(
            self.clock, clock or self.clock.seconds, timeout, lambda: self.expired.append(self.clock.seconds())
        )

    def test_expires_once(self) -> None:
        """It expires when the time is over, once, and leaves no delayed call."""
        self.timer(10)
        self.clock.pump([9, 1, 20])
        self.assertEqual(self.expired, [10])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_touch_puts_off(self) -> None:
        """The time runs from the last touch."""
        timer = self.timer(10)
        self.clock.pump([3, 4])
        timer.touch()
        self.clock.pump([3, 6.9])
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [17])

    def test_touch_makes_no_calls(self) -> None:
        """Any number of touches costs one delayed call."""
        timer = self.timer(10)
        before = self.clock.getDelayedCalls()
        for _ in range(100):
            timer.touch()
        self.assertEqual(self.clock.getDelayedCalls(), before)

    def test_cancelled(self) -> None:
        """A cancelled timer leaves no delayed call and never expires, however often it is cancelled."""
        timer = self.timer(10)
        timer.cancel()
        timer.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(20)
        self.assertEqual(self.expired, [])

    def test_cancelled_after_expiry(self) -> None:
        """Whoever has expired can be cancelled."""
        timer = self.timer(10)
        self.clock.advance(10)
        timer.cancel()
        self.assertEqual(self.expired, [10])

    def test_zero_is_never(self) -> None:
        """A timeout of 0 is none."""
        self.timer(0).touch()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reactor_time_jumps(self) -> None:
        """When somebody puts the reactor's clock forward, the monotonic clock still decides."""
        monotonic = Clock()
        self.timer(10, monotonic.seconds)
        monotonic.advance(1)
        self.clock.advance(3600)
        self.assertEqual(self.expired, [])
        monotonic.advance(9)
        self.clock.advance(9)
        self.assertEqual(self.expired, [3609])
