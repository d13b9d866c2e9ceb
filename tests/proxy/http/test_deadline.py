"""One delayed call for all deadlines of a connection."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.deadline import Deadline


class DeadlineTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.expired = []
        self.deadline = Deadline(self.clock, self.clock.seconds, lambda: self.expired.append(self.clock.seconds()))

    def test_expires_once(self):
        """What was set expires once, at its time."""
        self.deadline.set(5)
        self.clock.pump([1] * 20)
        self.assertEqual((self.expired, self.clock.getDelayedCalls()), ([5], []))

    def test_later(self):
        """Setting it again moves it; there is never more than one delayed call, and not a new one each time."""
        self.deadline.set(5)
        (call,) = self.clock.getDelayedCalls()
        for _ in range(4):
            self.clock.advance(1)
            self.deadline.set(5)
            self.assertEqual(self.clock.getDelayedCalls(), [call])
        self.clock.pump([1] * 10)
        self.assertEqual(self.expired, [9])

    def test_earlier(self):
        """It can be moved to an earlier time."""
        self.deadline.set(60)
        self.deadline.set(2)
        self.clock.pump([1] * 70)
        self.assertEqual(self.expired, [2])

    def test_clear(self):
        """After clear it never expires, but can be set again."""
        self.deadline.set(2)
        self.deadline.clear()
        self.clock.advance(10)
        self.assertEqual(self.expired, [])
        self.deadline.set(3)
        self.clock.advance(3)
        self.assertEqual(self.expired, [13])

    def test_zero(self):
        """0 is no deadline."""
        self.deadline.set(2)
        self.deadline.set(0)
        self.clock.advance(10)
        self.assertEqual(self.expired, [])

    def test_stop(self):
        """stop leaves no delayed call."""
        self.deadline.set(2)
        self.deadline.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_clock_and_reactor_apart(self):
        """The clock decides: when the reactor's time runs ahead, nothing expires before its time."""
        now = [0.0]
        deadline = Deadline(self.clock, lambda: now[0], lambda: self.expired.append("expired"))
        deadline.set(5)
        self.clock.advance(5)
        self.assertEqual(self.expired, [])
        now[0] = 5.0
        self.clock.advance(5)
        self.assertEqual(self.expired, ["expired"])
