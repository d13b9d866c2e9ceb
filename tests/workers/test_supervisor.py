"""pylb.workers.supervisor, with workers that are not processes; the real ones are in tests/functional/test_workers.py."""

from __future__ import annotations

import gc
import os
import socket
from math import inf
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.application.service import IService
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pylb.balance.scoreboard import Row
from pylb.model import (
    AccessLog,
    Certificate,
    Config,
    InetAddress,
    ListenerTLS,
    PoolSpec,
    StickyLearn,
    TcpCheck,
    TcpListener,
    UnixAddress,
)
from pylb.proxy.listen import BindError
from pylb.workers import supervisor
from pylb.workers.supervisor import BEAT, GRACE, LONGEST_PAUSE, MISSED, SOON, Supervisor, WorkerEnded, pause
from pylb.workers.wire import Start
from tests.functional.rig import free_port


class Reactor(Clock):
    """Runs from the beginning."""

    def callWhenRunning(self, call: Any) -> None:
        call()


class Channel:
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def send(self, *message: Any) -> None:
        self.told.append(message)

    offer = send


class Child:
    """A worker that does what the test says."""

    def __init__(self, number: int, parent: Supervisor) -> None:
        self.number, self.parent = number, parent
        self.since = inf
        self.serves = self.killed = False
        self.silent = self.pid = 0
        self.beat = 0.0
        self.channel = Channel()

    def come(self) -> None:
        self.serves = True
        self.parent.came(self)

    def go(self) -> None:
        self.parent.went(self, "a reason")

    def kill(self) -> None:
        self.killed = True


class Supervised(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        #: All that were ever started.
        self.started: list[Child] = []
        self.patch(supervisor, "Child", Child)
        self.patch(supervisor, "spawn", lambda child, *more: self.started.append(child))

    def make(self, workers: int = 2, where: Any = None, **more: Any) -> Supervisor:
        listener = TcpListener(
            name="a", listen=(where or InetAddress("127.0.0.1", free_port()),), pool="p", tls=more.pop("tls", None)
        )
        pool = PoolSpec(name="p", servers=(), sticky=more.pop("sticky", None), health_check=more.pop("checks", ()))
        config = Config(pools={"p": pool}, listeners={"a": listener}, workers=workers, **more)
        self.made = Supervisor(config, self.reactor, self.reactor.seconds)
        self.addCleanup(self.made.close)
        return self.made

    def begun(self, workers: int = 2, **more: Any) -> Supervisor:
        made = self.make(workers, **more)
        made.startService()
        return made

    def serving(self, workers: int = 2) -> Supervisor:
        made = self.begun(workers)
        for child in list(self.started):
            child.come()
        return made

    def row(self, worker: int) -> Row:
        """Of the scoreboard."""
        return self.made._estate.board.rows[worker - 1]

    def numbers(self) -> list[int]:
        return [child.number for child in self.started]


class MakingTests(Supervised):
    def test_service(self) -> None:
        made = self.make()
        verifyObject(IService, made)
        self.assertEqual(self.started, [])

    def test_addresses(self) -> None:
        """Each once, until they are given back."""
        where = InetAddress("127.0.0.1", free_port())
        made = self.make(3, where)
        self.assertEqual(made.addresses("a"), [where])
        made.close()
        self.assertEqual(made.addresses("a"), [])

    def test_mistakes(self) -> None:
        """What a worker would find wrong, the supervisor finds when it is made; nothing is left open then."""
        path = self.mktemp()
        Path(path).write_text("no certificate")
        unix = UnixAddress(str(Path(self.mktemp()).name))
        gc.collect()
        before = os.listdir("/proc/self/fd")
        tls = ListenerTLS(certificates=(Certificate(cert=path, key=path),))
        with self.assertRaises(SSL.Error):
            self.make(where=unix, tls=tls)
        with self.assertRaises(OSError):
            self.make(where=unix, access_log=AccessLog(path="/nowhere/at/all.log"))
        with self.assertRaises(ValueError):
            self.make(where=unix, access_log=AccessLog(path=self.mktemp(), format="$nothing"))
        self.assertFalse(Path(unix.path).exists())
        gc.collect()
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with self.assertRaises(BindError):
                self.make(where=InetAddress(*taken.getsockname()))


class StartTests(Supervised):
    def test_start(self) -> None:
        """All begin at once; it is ready, and says so, when all serve."""
        with capturedLogs() as logs:
            made = self.begun(3)
            self.assertEqual(self.numbers(), [1, 2, 3])
            for child in self.started[:2]:
                child.come()
            self.assertNoResult(made.ready)
            self.started[2].come()
        self.successResultOf(made.ready)
        said = [formatEvent(log) for log in logs if log["log_namespace"] == "pylb.service"]
        self.assertEqual(len(said), 3)
        self.assertIn(", in each of 3 workers", said[-1])
        self.assertEqual([child.channel.told for child in self.started], [[]] * 3)

    def test_one_cannot_serve(self) -> None:
        """It gives up, whether others do serve or not."""
        for serving in ([], [0]):
            self.setUp()
            made = self.begun()
            for number in serving:
                self.started[number].come()
            self.started[1].go()
            if not serving:
                self.started[0].come()
            self.started[0].go()
            self.failureResultOf(made.ready, WorkerEnded)
            self.reactor.advance(100)
            self.assertEqual(self.numbers(), [1, 2])

    def test_cannot_be_started(self) -> None:
        """By an error of the system, at the start or later."""
        made = self.serving()

        def spawn(*arguments: Any) -> None:
            raise OSError(11, "no more processes")

        self.patch(supervisor, "spawn", spawn)
        with capturedLogs() as logs:
            self.started[0].go()
            self.reactor.advance(0)
            self.reactor.advance(0)
        self.assertIn("no more processes", formatEvent(logs[-1]))
        self.started[0].go()  # a process that was there nevertheless
        other = self.begun()
        self.failureResultOf(other.ready, WorkerEnded)
        self.successResultOf(made.ready)


class DeathTests(Supervised):
    def test_replaced(self) -> None:
        """At once; another one serves its sockets until the successor does."""
        self.serving()
        one, two = self.started
        one.go()
        self.assertEqual(two.channel.told, [("serve", 1)])
        self.reactor.advance(0)
        self.assertEqual(self.numbers(), [1, 2, 1])
        self.started[2].come()
        self.assertEqual(two.channel.told, [("serve", 1), ("leave", 1)])

    def go(self, made: Supervisor) -> float:
        """The worker that was started last ends; how long its successor waits, which is there then."""
        self.started[-1].go()
        [call] = made._due.values()
        waits = call.getTime() - self.reactor.seconds()
        self.reactor.advance(waits)
        return round(waits, 3)

    def test_again_and_again(self) -> None:
        """The second time soon after it came it waits, and longer each time, until it has lasted."""
        made, waits = self.serving(), []
        for lasted in (0.0, SOON - 0.1, 0.0, 0.0, SOON + 0.1, 0.0, 0.0):
            self.reactor.advance(lasted)
            waits.append(self.go(made))
            self.reactor.advance(SOON)  # however long it takes to come
            self.started[-1].come()
        self.assertEqual(waits, [0.0, 0.1, 0.2, 0.4, 0.0, 0.0, 0.1])
        self.assertEqual(self.numbers(), [1] + 8 * [2])

    def test_never_comes(self) -> None:
        """That is soon, however long it took."""
        made, waits = self.serving(), []
        for _ in range(3):
            waits.append(self.go(made))
            self.reactor.advance(SOON)
        self.assertEqual(waits, [0.0, 0.1, 0.2])

    def test_pauses(self) -> None:
        self.assertEqual([pause(hasty) for hasty in range(5)], [0.0, 0.0, 0.1, 0.2, 0.4])
        self.assertEqual(pause(10_000), LONGEST_PAUSE)

    def test_stalled(self) -> None:
        """Who gives no sign of life is killed, who gives one is not."""
        self.serving()
        one, two = self.started
        for _ in range(MISSED - 1):  # it has been looked at once
            self.row(2).heartbeat = self.reactor.seconds() + 1.0
            self.assertFalse(one.killed)
            self.reactor.advance(BEAT)
        self.assertEqual((one.killed, two.killed), (True, False))

    def test_row_is_cleared(self) -> None:
        """What a dead worker has told the others is forgotten before its successor starts."""
        self.serving()
        self.row(1).heartbeat = self.row(2).heartbeat = 7.0
        self.started[0].go()
        self.assertEqual((self.row(1).heartbeat, self.row(2).heartbeat), (0.0, 7.0))
        self.assertEqual(self.numbers(), [1, 2])

    def test_slow_start(self) -> None:
        """Before it serves a worker may take its time."""
        self.begun()
        self.reactor.pump([BEAT] * 2 * MISSED)
        self.assertFalse(any(child.killed for child in self.started))
        self.reactor.pump([BEAT] * 60)
        self.assertTrue(all(child.killed for child in self.started))

    def test_whole_machine_stopped(self) -> None:
        """However long a time has passed since it looked, it counts as once."""
        self.serving()
        self.reactor.advance(1000 * BEAT)
        self.assertFalse(any(child.killed for child in self.started))


class SessionTests(Supervised):
    def setUp(self) -> None:
        super().setUp()
        self.starts: list[Start] = []

        def spawn(child: Child, start: Start, *more: Any) -> None:
            self.started.append(child)
            self.starts.append(start)

        self.patch(supervisor, "spawn", spawn)
        self.made = self.begun(3, sticky=StickyLearn(create=("$remote_addr",), lookup=("$remote_addr",)))
        for child in self.started:
            child.come()

    def test_passed_on(self) -> None:
        """What one learns the others hear, and those that start later know it."""
        items = [("p", "aa", "10.0.0.1:80", 1.0, True)]
        self.made.learned(self.started[1], items)
        self.assertEqual([child.channel.told for child in self.started], [[("learn", items)], [], [("learn", items)]])
        self.started[1].go()
        self.reactor.advance(0)
        self.assertEqual([start.sessions for start in self.starts], [(), (), (), tuple(items)])


class EndTests(Supervised):
    def test_end(self) -> None:
        """Sockets are given back, workers are told; it is over when the last has ended, and nobody is replaced."""
        made = self.serving()
        gone = made.stopService()
        self.assertEqual(made.addresses("a"), [])
        self.assertEqual([child.channel.told for child in self.started], [[("stop",)]] * 2)
        self.started[0].go()
        self.assertNoResult(gone)
        self.started[1].go()
        self.successResultOf(gone)
        self.assertEqual((self.numbers(), self.reactor.getDelayedCalls()), ([1, 2], []))

    def test_checks(self) -> None:
        """Health checks end with it."""
        made = self.begun(checks=(TcpCheck(),))
        stopped: list[bool] = []
        self.patch(made._checks, "stop", lambda: stopped.append(True))
        made.stopService()
        self.assertEqual(stopped, [True])

    def test_too_late(self) -> None:
        """Who does not end in time is killed."""
        made = self.serving()
        made.stopService()
        self.made._look = lambda: None
        self.reactor.advance(made.config.shutdown_timeout + GRACE)
        self.assertEqual([child.killed for child in self.started], [True, True])

    def test_abort(self) -> None:
        """They are told; who does not end at once is killed."""
        made = self.serving()
        made.stopService()
        made.abort()
        self.assertEqual([child.channel.told for child in self.started], [[("stop",), ("abort",)]] * 2)
        self.assertFalse(self.started[0].killed)
        self.reactor.advance(1.0)
        self.assertTrue(self.started[0].killed)

    def test_during_the_start(self) -> None:
        """Who does not serve yet is killed, who was to be started is not."""
        made = self.serving()
        for _ in range(2):
            self.started[-1].go()
            self.reactor.advance(0)
        self.assertEqual(self.numbers(), [1, 2, 2])
        gone = made.stopService()
        self.started[0].go()
        self.successResultOf(gone)
        self.reactor.advance(100)
        self.assertEqual(self.numbers(), [1, 2, 2])
        self.setUp()
        made = self.begun()
        made.stopService()
        self.assertTrue(all(child.killed for child in self.started))
        for child in self.started:
            child.come()  # which was said before
        self.assertNoResult(made.ready)

    def test_at_once(self) -> None:
        """When it was stopped before it began, nothing begins."""
        self.reactor.callWhenRunning = lambda call: self.reactor.callLater(0, call)
        made = self.begun()
        self.successResultOf(made.stopService())
        self.reactor.advance(0)
        self.assertEqual((self.started, self.reactor.getDelayedCalls()), ([], []))


class LogTests(Supervised):
    def test_reopen(self) -> None:
        """The supervisor's own, and that of all workers."""
        path = Path(self.mktemp())
        made = self.begun(access_log=AccessLog(path=str(path)))
        path.unlink()
        made.reopen_log()
        self.assertTrue(path.exists())
        self.assertEqual([child.channel.told for child in self.started], [[("reopen",)]] * 2)
