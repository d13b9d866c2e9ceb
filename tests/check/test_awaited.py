"""pylb.check.awaited: what is found in bytes that come."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from pylb.check.awaited import Awaited


class AwaitedTests(SynchronousTestCase):
    def test_found(self):
        """The first that is not None is the result, and what comes later is not looked at."""
        seen = []

        def found(data: bytes) -> int | None:
            seen.append(data)
            return len(data) if len(data) != 1 else None

        awaited = Awaited(found)
        awaited.look(b"a")
        self.assertNoResult(awaited.result)
        awaited.look(b"")
        awaited.look(b"abc")
        awaited.fail(ValueError())
        self.assertEqual(self.successResultOf(awaited.result), 0)
        self.assertEqual(seen, [b"a", b""])

    def test_raises(self):
        """What is raised is the result."""
        awaited = Awaited(lambda data: 1 // len(data))
        awaited.look(b"")
        awaited.look(b"a")
        self.failureResultOf(awaited.result, ZeroDivisionError)

    def test_fails(self):
        awaited = Awaited(lambda data: data)
        awaited.fail(ValueError())
        awaited.look(b"late")
        self.failureResultOf(awaited.result, ValueError)

    def test_cancelled(self):
        """Whoever waits no more is told nothing."""
        awaited = Awaited(lambda data: data)
        awaited.result.cancel()
        awaited.look(b"late")
        awaited.fail(ValueError())
        self.failureResultOf(awaited.result, CancelledError)
