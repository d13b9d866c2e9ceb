"""pylb.workers.child; real processes are in tests/functional/test_workers.py."""

from __future__ import annotations

import json
import signal
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pylb.signals import SIGNALS
from pylb.workers.child import Child, _blocked


class Process:
    """A process that has ended when it is to be killed, or not."""

    pid = 7

    def __init__(self, ended: bool = False) -> None:
        self._ended = ended
        self.signals: list[str] = []

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)
        if self._ended:
            raise ProcessExitedAlready


class ChildTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.child = Child(2, self)

    def came(self, child: Child) -> None:
        self.told.append(("came", child))

    def went(self, child: Child, reason: str) -> None:
        self.told.append(("went", child, reason))

    def learned(self, child: Child, items: list[Any]) -> None:
        self.told.append(("learned", child, items))

    def hears(self, *message: Any) -> None:
        self.child.channel.stringReceived(json.dumps(message).encode())

    def test_comes(self) -> None:
        self.assertFalse(self.child.serves)
        self.hears("ready")
        self.assertTrue(self.child.serves)
        self.assertEqual(self.told, [("came", self.child)])

    def test_learns(self) -> None:
        self.hears("learn", [["p", "aa", "10.0.0.1:80", 1.0, True]])
        self.assertEqual(self.told, [("learned", self.child, [["p", "aa", "10.0.0.1:80", 1.0, True]])])

    def test_logs(self) -> None:
        """Under its own name and level, and with the worker's number; braces are nothing special."""
        with capturedLogs() as logs:
            self.hears("log", "warn", "pylb.fortunes", "pool {p} is out")
        [event] = logs
        self.assertEqual(formatEvent(event), "worker 2: pool {p} is out")
        self.assertEqual((event["log_level"], event["log_namespace"]), (LogLevel.warn, "pylb.fortunes"))

    def test_standard_error(self) -> None:
        """Line by line, however the pieces are cut."""
        with capturedLogs() as logs:
            for piece in (b"Trace", b"back\n  File\nEr", b"ror\n"):
                self.child.errReceived(piece)
        self.assertEqual(
            [formatEvent(event) for event in logs], [f"worker 2: {line}" for line in ("Traceback", "  File", "Error")]
        )

    def test_ends(self) -> None:
        """By a signal, or with a status."""
        for reason in (ProcessTerminated(None, signal.SIGSEGV), ProcessTerminated(1), ProcessDone(0)):
            self.child.processExited(Failure(reason))
        self.assertEqual([reason for _, _, reason in self.told], ["SIGSEGV", "exit status 1", "exit status 0"])

    def test_done(self) -> None:
        """Each question has its answer, in order; who has ended has done all."""
        answers = [self.child.done() for _ in range(4)]
        self.hears("done")
        self.successResultOf(answers[0])
        self.assertNoResult(answers[1])
        answers[1].cancel()
        self.failureResultOf(answers[1], CancelledError)
        self.hears("done")
        self.assertNoResult(answers[2])
        self.child.processExited(Failure(ProcessDone(0)))
        for answer in answers[2:]:
            self.successResultOf(answer)
        self.hears("done")  # which was on its way

    def test_kill(self) -> None:
        """Also one that was not started, or has ended."""
        self.child.kill()
        for process in (Process(), Process(ended=True)):
            self.child.makeConnection(process)
            self.child.kill()
            self.assertEqual((process.signals, self.child.pid), (["KILL"], 7))


class BlockedTests(SynchronousTestCase):
    def test_blocked(self) -> None:
        """For a while, and then as before."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        self.addCleanup(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        with _blocked(SIGNALS):
            meanwhile = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.assertEqual(meanwhile, before | SIGNALS | {signal.SIGUSR2})
        self.assertEqual(signal.pthread_sigmask(signal.SIG_BLOCK, ()), before | {signal.SIGUSR2})
