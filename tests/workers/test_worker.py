"""pylb.workers.worker, in the test's own process; real ones are in tests/functional/test_workers.py."""

from __future__ import annotations

import json
import os
import socket
from mmap import mmap
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import make_pool
from pylb.balance.scoreboard import Scoreboard
from pylb.balance.sticky import Learned, LearnedSessions
from pylb.check.findings import Findings
from pylb.model import (
    Config,
    InetAddress,
    PoolSpec,
    ServerSpec,
    StickyLearn,
    TcpCheck,
    TcpListener,
    UdpListener,
    UnixAddress,
)
from pylb.proxy.dns.follow import Found, Target
from pylb.proxy.listen import Bound
from pylb.proxy.resolve import Name, Names
from pylb.service import Inherited
from pylb.workers.wire import Channel, Socket, Start
from pylb.workers.worker import LONGEST, Telling, Worker

ANY = InetAddress("127.0.0.1", 0)
UNIX = UnixAddress("s")
FOUND = Found([Target("10.0.0.1")])
LEARN = StickyLearn(create=("$remote_addr",), lookup=("$remote_addr",))


class Reactor(Clock):
    stopped = 0

    def stop(self) -> None:
        self.stopped += 1
        if self.stopped > 1:
            raise ReactorNotRunning


class Balancer:
    """Notes what it is told."""

    def __init__(self, config: Config, reactor: Any, clock: Any, inherited: Inherited) -> None:
        self.inherited = inherited
        self.ready: Deferred[None] = Deferred()
        self.stopped: Deferred[None] = Deferred()
        self.retired: Deferred[None] = Deferred()
        self.calls: list[tuple[Any, ...]] = []
        self.sessions = {"p": LearnedSessions(LEARN)}

    def __getattr__(self, name: str) -> Any:
        return lambda *more: self.calls.append((name, *more))

    def stopService(self) -> Deferred[None]:
        self.calls.append(("stopService",))
        return self.stopped

    def retire(self) -> Deferred[None]:
        self.calls.append(("retire",))
        return self.retired


class Wire(StringTransport):
    """What a worker has said."""

    def said(self) -> list[Any]:
        messages, data = [], self.value()
        while data:
            size = int.from_bytes(data[:4], "big")
            messages.append(json.loads(data[4 : 4 + size]))
            data = data[4 + size :]
        self.clear()
        return messages


class WorkerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        listener = TcpListener(name="a", listen=(ANY, UNIX), pool="p")
        config = Config(pools={"p": PoolSpec(name="p", servers=())}, listeners={"a": listener}, workers=2)
        sockets = [self.bound() for _ in range(4)]
        rows = tuple(
            (Socket("a", ANY, inet.detach()), Socket("a", UNIX, unix.detach()))
            for inet, unix in (sockets[:2], sockets[2:])
        )
        memory = os.memfd_create("test")
        os.ftruncate(memory, Scoreboard.size(2, 1))
        self.board = Scoreboard.lay_out(memoryview(mmap(memory, 0)), 2, 1)
        self.reactor.advance(100.0)
        sessions = (("p", "aa", "10.0.0.1:80", 50.0, True),)
        start = Start(2, config, 1.0, rows, memory, 9, sessions, names={Name("app.test"): FOUND})
        self.worker = Worker(start, self.reactor, self.reactor.seconds, Balancer)
        os.close(memory)
        self.balancer: Any = self.worker._balancer
        self.wire = Wire()
        self.worker.channel.makeConnection(self.wire)
        self.worker.start()
        self.fds = [[each.fd for each in row] for row in rows]
        self.addCleanup(self.close)

    def bound(self) -> socket.socket:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        return sock

    def close(self) -> None:
        for row in self.worker._rows:
            for bound in row:
                bound.socket.close()

    def hears(self, *message: Any) -> None:
        self.worker.channel.stringReceived(json.dumps(message).encode())

    def test_inherited(self) -> None:
        """Its own row is what it serves; Python knows that the sockets do not block, and the files are not its own."""
        bounds: list[Bound] = self.balancer.inherited.sockets
        self.assertEqual([bound.socket.fileno() for bound in bounds], self.fds[1])
        self.assertEqual([bound.address for bound in bounds], [ANY, UNIX])
        self.assertEqual([(bound.socket.gettimeout(), bound.owns_file) for bound in bounds], [(0.0, False)] * 2)
        self.assertEqual(self.balancer.inherited.log, 9)
        self.assertEqual(self.balancer.inherited.names, {Name("app.test"): FOUND})

    def test_colleagues(self) -> None:
        """Its pools count in its own row, and look at the others'."""
        colleagues = self.balancer.inherited.colleagues
        spec = PoolSpec(name="p", servers=(ServerSpec(address=ANY),))
        pool = make_pool(spec, self.reactor.seconds, colleagues=colleagues)
        pool.acquire()
        self.assertEqual([row.leases.tolist() for row in self.board.rows], [[0], [1]])
        self.assertEqual(colleagues.due, 100.02)

    def test_signs_of_life(self) -> None:
        """In its row of the scoreboard, from the first moment, also while it stops."""
        seen = [self.board.rows[1].heartbeat]
        for _ in range(2):
            self.reactor.advance(1.0)
            seen.append(self.board.rows[1].heartbeat)
            self.worker.finish()
        self.assertEqual(seen, [100.0, 101.0, 102.0])
        self.assertEqual(self.board.rows[0].heartbeat, 0.0)

    def test_ready(self) -> None:
        self.balancer.ready.callback(None)
        self.assertEqual(self.wire.said(), [["ready"]])

    def test_cannot_serve(self) -> None:
        self.balancer.ready.errback(OSError("no way"))
        self.assertEqual((self.worker.failed, self.reactor.stopped), (True, 1))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_others_sockets(self) -> None:
        """Not those that all have in common."""
        self.balancer.calls.clear()
        self.hears("serve", 1)
        self.hears("leave", 1)
        theirs = self.worker._rows[0][:1]
        self.assertEqual(theirs[0].socket.fileno(), self.fds[0][0])
        self.assertEqual(self.balancer.calls, [("serve", theirs), ("leave", theirs)])

    def test_sessions(self) -> None:
        """It knows those that were learned before it started, hears of others, and tells of its own, the last at the end."""
        self.hears("learn", [("p", "bb", "10.0.0.2:80", 60.0, True)])
        table = self.balancer.sessions["p"]
        self.assertEqual([learned.session for learned in table.learned()], [b"\xaa", b"\xbb"])
        self.assertEqual(self.wire.said(), [])
        own = [Learned(bytes([number]), "10.0.0.3:80", 70.0 + number, True) for number in range(2)]
        table.tell(own[0])
        self.reactor.advance(1.0)
        table.tell(own[1])
        self.balancer.stopped.callback(None)
        self.worker.finish()
        self.assertEqual(
            self.wire.said(),
            [["learn", [["p", f"0{number}", "10.0.0.3:80", 70.0 + number, True]]] for number in range(2)],
        )

    def test_found(self) -> None:
        """It hears what the supervisor's checks find, and whom they leave."""
        spec = PoolSpec(name="p", servers=(), health_check=(TcpCheck(),))
        self.balancer.checks = Findings({"p": make_pool(spec, self.reactor.seconds)})
        for server in ("10.0.0.1:80", "10.0.0.2:80"):
            self.hears("found", "p", server, "passed", "up", 1.0)
        self.hears("gone", "p", "10.0.0.1:80")
        self.assertEqual(list(self.balancer.checks._known), [("p", "10.0.0.2:80")])

    def test_orders(self) -> None:
        self.balancer.calls.clear()
        for word in ("reopen", "abort", "stop"):
            self.hears(word)
        self.assertEqual(self.balancer.calls, [("reopen_log",), ("abort",)])
        self.assertEqual(self.reactor.stopped, 1)

    def test_drop(self) -> None:
        """Datagrams at these addresses, and nothing else, whoever serves them; that it was done is said when asked."""
        self.balancer.calls.clear()
        listeners = [kind(name="b", listen=(), pool="p") for kind in (UdpListener, TcpListener)]
        places = [InetAddress("127.0.0.1", port) for port in (7, 9)]
        theirs, stream, other = (
            Bound(listeners[kind], places[place], self.bound()) for kind, place in ((0, 0), (1, 0), (0, 1))
        )
        self.worker._rows[0] += [theirs, stream, other]
        self.hears("drop", ["127.0.0.1:7"])
        [(word, dropped)] = self.balancer.calls
        self.assertEqual((word, list(dropped)), ("drop", [theirs]))
        self.assertEqual(self.wire.said(), [["ready"]] if self.balancer.ready.called else [])
        self.hears("ask")
        self.assertEqual(self.wire.said(), [])
        self.reactor.advance(0)
        self.assertEqual(self.wire.said(), [["done"]])

    def test_retire(self) -> None:
        """All sockets are closed, so that clients come to others; it lives, and hears, until its last client has gone."""
        self.balancer.calls.clear()
        self.hears("retire")
        self.assertEqual([bound.socket.fileno() for row in self.worker._rows for bound in row], [-1] * 4)
        self.assertEqual(self.balancer.calls, [("retire",)])
        self.reactor.advance(7.0)
        self.hears("reopen")
        self.assertEqual((self.balancer.calls[1:], self.board.rows[1].heartbeat), ([("reopen_log",)], 107.0))
        self.assertEqual((self.reactor.stopped, self.wire.disconnecting), (0, False))
        self.balancer.retired.callback(None)
        self.assertEqual(self.reactor.stopped, 1)

    def test_stopped_while_it_retires(self) -> None:
        """It stops in time as any other, and once."""
        self.hears("retire")
        self.hears("stop")
        self.assertEqual(self.reactor.stopped, 1)
        finished = self.worker.finish()
        self.assertEqual(self.balancer.calls[-1], ("stopService",))
        self.balancer.retired.callback(None)  # as stopService brings about
        self.balancer.stopped.callback(None)
        self.assertTrue(self.wire.disconnecting)
        self.worker.channel.connectionLost()
        self.successResultOf(finished)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_supervisor_is_gone(self) -> None:
        """It stops, even if it is stopping already."""
        self.hears("stop")
        self.worker.channel.connectionLost()
        self.assertEqual(self.reactor.stopped, 2)

    def test_finish(self) -> None:
        """All sockets are closed at once, so that new clients are refused; the channel when all that runs is finished."""
        finished = self.worker.finish()
        self.assertEqual([bound.socket.fileno() for row in self.worker._rows for bound in row], [-1] * 4)
        self.assertFalse(self.wire.disconnecting)
        self.balancer.stopped.callback(None)
        self.assertTrue(self.wire.disconnecting)
        self.assertNoResult(finished)
        self.worker.channel.connectionLost()
        self.successResultOf(finished)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class TellingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wire = Wire()
        channel = Channel({})
        channel.makeConnection(self.wire)
        self.telling = Telling(channel)

    def test_events(self) -> None:
        """Their text with the traceback, their level and namespace."""
        log = Logger("pylb.test", observer=self.telling)
        log.warn("{what} is out", what="a server")
        try:
            raise ValueError("no way")
        except ValueError:
            log.failure("it broke")
        warning, failure = self.wire.said()
        self.assertEqual(warning, ["log", "warn", "pylb.test", "a server is out"])
        self.assertEqual(failure[:3], ["log", "critical", "pylb.test"])
        self.assertRegex(failure[3], r"(?s)it broke.*Traceback.*ValueError: no way")

    def test_ports(self) -> None:
        """What Twisted says of each port is left out, but not its errors."""
        log = Logger("log_legacy", observer=self.telling)
        log.emit(LogLevel.info, "starting on 80")
        log.emit(LogLevel.critical, "broken")
        self.assertEqual([text for *_, text in self.wire.said()], ["broken"])

    def test_names(self) -> None:
        """What is found of names the supervisor says itself."""
        Logger(Names.__module__, observer=self.telling).warn("app.test was not found")
        self.assertEqual(self.wire.said(), [])

    def test_long(self) -> None:
        """A text is cut rather than refused."""
        Logger("pylb.test", observer=self.telling).info("{text}", text="x" * 10 * LONGEST)
        [[*_, text]] = self.wire.said()
        self.assertEqual(len(text), LONGEST)
