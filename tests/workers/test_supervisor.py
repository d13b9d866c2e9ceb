"""pylb.workers.supervisor, with workers that are not processes; the real ones are in tests/functional/test_workers.py."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.application.service import IService
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

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
from pylb.workers.crew import WorkerEnded
from pylb.workers.supervisor import GRACE, Supervisor
from tests.functional.rig import free_port
from tests.workers.fakes import Mustered


class Supervised(Mustered):
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
        said = [formatEvent(log) for log in logs if log["log_namespace"] == "pylb.announce"]
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


class SessionTests(Supervised):
    def setUp(self) -> None:
        super().setUp()
        self.made = self.begun(3, sticky=StickyLearn(create=("$remote_addr",), lookup=("$remote_addr",)))
        for child in self.started:
            child.come()

    def test_passed_on(self) -> None:
        """What one learns the others hear, and those that start later know it."""
        items = [("p", "aa", "10.0.0.1:80", 1.0, True)]
        self.made._crew.learned(self.started[1], items)
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
        self.made._crew._look = lambda: None
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
        """Who does not serve yet is killed, and it is never ready."""
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
