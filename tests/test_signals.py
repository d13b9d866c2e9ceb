"""pylb.signals: what they do, and that none is lost or deadly."""

from __future__ import annotations

import signal

from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from pylb.signals import SIGNALS, Signals, hold
from tests.fakes import keep_signals


class Reactor(Clock):
    """Runs at once what is to be run in its thread or when it runs."""

    stopped = 0

    def __init__(self):
        super().__init__()
        self.triggers = []

    def addSystemEventTrigger(self, *trigger):
        self.triggers.append(trigger)

    def callWhenRunning(self, call):
        call()

    def callFromThread(self, call, *arguments):
        call(*arguments)

    def stop(self):
        if self.stopped:
            raise ReactorNotRunning
        self.stopped += 1


class Balancer:
    def __init__(self):
        self.calls = []

    def reload(self):
        self.calls.append("reload")

    def abort(self):
        self.calls.append("abort")

    def reopen_log(self):
        self.calls.append("reopen_log")


class SignalsTests(SynchronousTestCase):
    def setUp(self):
        self.rotated = []
        keep_signals(self)
        signal.signal(signal.SIGUSR1, lambda number, frame: self.rotated.append(number))
        self.reactor, self.balancer = Reactor(), Balancer()
        Signals(self.balancer, self.balancer.reload, self.reactor).startService()

    def said(self, *numbers) -> list[str]:
        with capturedLogs() as logs:
            for number in numbers:
                signal.raise_signal(number)
        return [formatEvent(log) for log in logs]

    def test_stop(self):
        """The first signal stops the reactor, each further one cuts what still runs."""
        for first, second in ((signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)):
            self.setUp()
            self.assertEqual(self.said(first), [f"{first.name}: stopping; once more to close at once"])
            self.assertEqual((self.reactor.stopped, self.balancer.calls), (1, []))
            self.assertEqual(self.said(second), [f"{second.name} again: closing what still runs"])
            self.assertEqual((self.reactor.stopped, self.balancer.calls), (1, ["abort"]))

    def test_reload(self):
        """Each time anew."""
        self.assertEqual(self.said(signal.SIGHUP, signal.SIGHUP), [])
        self.assertEqual((self.reactor.stopped, self.balancer.calls), (0, ["reload", "reload"]))

    def test_reopen(self):
        """The access log is reopened, and twistd's own handler still rotates its log."""
        self.said(signal.SIGUSR1)
        self.assertEqual((self.balancer.calls, self.rotated), (["reopen_log"], [signal.SIGUSR1]))

    def test_reopen_alone(self):
        """twistd has no handler when it logs to standard output."""
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        Signals(self.balancer, self.balancer.reload, self.reactor).startService()
        self.said(signal.SIGUSR1)
        self.assertEqual(self.balancer.calls, ["reopen_log"])

    def test_they_wait_until_the_reactor_runs(self):
        """What came before is answered then."""
        running = []
        self.reactor.callWhenRunning = running.append
        Signals(self.balancer, self.balancer.reload, self.reactor).startService()
        self.assertEqual(self.said(signal.SIGINT), [])
        with capturedLogs() as logs:
            running[0]()
        self.assertEqual([formatEvent(log) for log in logs], ["SIGINT: stopping; once more to close at once"])

    def test_they_wait_after_its_end(self):
        """Python's own end must not be the end by a signal."""
        self.assertEqual(self.reactor.triggers, [("after", "shutdown", hold)])
        hold()
        self.assertLessEqual(SIGNALS, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        self.assertEqual(self.said(*SIGNALS), [])
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: None)  # they still wait
