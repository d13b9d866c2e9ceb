"""pylb.workers.supervisor: a reload that fails, or is given up."""

from __future__ import annotations

import gc
import os
import socket
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError

from pylb.check.monitor import Monitor
from pylb.model import (
    AccessLog,
    Balance,
    Certificate,
    InetAddress,
    ListenerTLS,
    OwnCheck,
    PoolSpec,
    ServerSpec,
    StickyLearn,
    TcpCheck,
    UdpListener,
    UnixAddress,
)
from pylb.proxy.listen import BindError
from pylb.reloads import ReloadBroke
from pylb.workers.crew import WorkerEnded
from pylb.workers.sessions import Item
from pylb.workers.supervisor import Supervisor
from tests.backends import socket_path
from tests.functional.rig import free_port
from tests.workers.reloading import ITEM, LEARN, Reloaded, pool


def own(name: str = "p") -> PoolSpec:
    """A pool with a check that cannot be made."""

    class Broken:
        def __init__(self, **options: object) -> None:
            raise ValueError("cannot be made")

    return pool(name, health_check=(OwnCheck(name="x:Broken", own=Broken),))


class Fickle:
    """A balancing method that cannot be made when it is `broken`."""

    broken = False

    def __init__(self, servers: object) -> None:
        if self.broken:
            raise ValueError("not again")

    def add(self, server: object) -> None: ...

    remove = choose = add


class MistakeTests(Reloaded):
    """Whatever is wrong, all is as it was."""

    def state(self) -> object:
        made = self.made
        estate = made._crew.estate
        gc.collect()
        return (
            (made.config, made._crew, set(made._crews)),
            [[(bound.socket.fileno(), bound.listener) for bound in row] for row in estate.rows],
            (estate.log, estate.log.fd),
            (made._checks.pools, made._checks.known()),
            (set(made._sessions), self.learned()),
            [(child.told, child.killed) for child in made._crew._children.values()],
            sorted(os.listdir("/proc/self/fd"), key=int),
            len(self.reactor.getDelayedCalls()),
        )

    def refused(self, kind: type[Exception], *pools: PoolSpec, **more: Any) -> str:
        """A reload fails before anybody is started, and nothing has changed."""
        before, count = self.state(), len(self.started)
        message = str(self.failureResultOf(self.reload(*pools, **more), kind).value)
        self.assertEqual((self.state(), len(self.started)), (before, count))
        return message

    def settled(self, **more: Any) -> Supervisor:
        self.path = socket_path(self)
        self.log = AccessLog(path=str(Path(self.mktemp()).absolute()))
        self.both = (self.where, UnixAddress(str(self.path)))
        made = self.serving(
            pool(sticky=LEARN, health_check=(TcpCheck(),)), access_log=self.log, listen=self.both, **more
        )
        made._crew.learned(self.started[0], [ITEM])
        return made

    def test_workers(self) -> None:
        self.settled()
        self.assertIn("a reload cannot make it 3", self.refused(ValueError, workers=3))

    def test_parts(self) -> None:
        """Certificates, checks and logs that cannot be used."""
        self.settled()
        path = self.mktemp()
        Path(path).write_text("no certificate")
        tls = ListenerTLS(certificates=(Certificate(cert=path, key=path),))
        self.refused(SSL.Error, listener={"tls": tls})
        self.refused(ValueError, own())
        self.refused(OSError, access_log=AccessLog(path="/nowhere/at/all.log"))
        self.refused(ValueError, access_log=AccessLog(path=self.mktemp(), format="$nothing"))

    def test_sockets(self) -> None:
        """An address that cannot be had; those that could be are closed again, and so is another log."""
        self.settled()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            free, path = InetAddress("127.0.0.1", free_port()), socket_path(self)
            listen = (*self.both, free, UnixAddress(str(path)), InetAddress(*taken.getsockname()))
            for log in (self.log, AccessLog(path=self.mktemp())):
                self.assertIn("Address already in use", self.refused(BindError, listen=listen, access_log=log))
        self.assertEqual((path.exists(), self.path.is_socket()), (False, True))
        with socket.socket() as probe:
            probe.bind((free.host, free.port))

    def ends(self, *pools: PoolSpec, **more: Any) -> None:
        """One of the new workers ends before all serve: those that came retire, and nothing has changed."""
        before, count = self.state(), len(self.started)
        failed = self.reload(*pools, **more)
        self.assertEqual(len(self.started), count + 2)
        self.started[count].come()
        self.leave(self.started[count + 1 :])
        self.failureResultOf(failed, WorkerEnded)
        self.assertEqual(self.started[count].channel.told[-1], ("retire",))
        self.leave(self.started[count:])
        self.assertEqual((self.state(), len(self.started)), (before, count))

    def test_one_ends(self) -> None:
        """Sockets that were new are closed, those that were there are not; the old workers serve, and are replaced still."""
        self.settled()
        self.ends(
            pool(sticky=LEARN, health_check=(TcpCheck(interval=3.0),)),
            pool("q", sticky=LEARN, health_check=(TcpCheck(),)),
            listen=(self.where, InetAddress("127.0.0.1", free_port())),
            access_log=AccessLog(path=self.mktemp()),
        )
        self.assertTrue(self.path.is_socket())
        self.started[0].go()
        self.reactor.advance(0)
        self.assertEqual(self.starts[-1].config.listeners["a"].listen, self.both)

    def test_one_ends_with_datagrams(self) -> None:
        """Those that came answer none any more where nobody serves now: the next reload may ask for the address again."""
        made = self.serving()
        udp = UdpListener(name="u", listen=(InetAddress("127.0.0.1", free_port()),), pool="p")
        failed = self.reload(listeners={**made.config.listeners, "u": udp})
        self.started[2].come()
        self.started[3].go()
        self.failureResultOf(failed, WorkerEnded)
        self.assertEqual(self.started[2].told, [("retire",), ("drop", [str(udp.listen[0])])])
        self.assertEqual(self.told()[:2], [[], []])

    def test_sessions_of_a_smaller_table(self) -> None:
        """What would not have had room is known still."""
        self.settled()
        more: Iterable[Item] = [("p", f"{number:032x}", *ITEM[2:]) for number in range(20)]
        self.made._crew.learned(self.started[0], list(more))
        self.ends(pool(sticky=StickyLearn(create=LEARN.create, lookup=LEARN.lookup, size=10)))
        self.assertEqual(len(self.learned()), 21)

    def test_sockets_as_they_were(self) -> None:
        """Also in what clients have from them, and in the rights of their files."""
        self.settled(listener={"mode": 0o600})
        self.ends(listen=self.both, listener={"mode": 0o666, "tcp_nodelay": False})
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        inet = [each for row in self.sockets() for each in row if each.family == socket.AF_INET]
        nodelay = [bool(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) for each in inet]
        self.assertEqual(nodelay, [True, True])

    def test_none_can_be_started(self) -> None:
        self.settled()
        self.error = 11
        self.assertIn("cannot be started", self.refused(WorkerEnded))


class BreakTests(Reloaded):
    """What breaks where nothing was to fail."""

    def test_start(self) -> None:
        """Nobody would be checked: it gives up."""

        def broken(monitor: Monitor, before: Monitor | None = None) -> None:
            raise ZeroDivisionError

        self.patch(Monitor, "start", broken)
        self.failureResultOf(self.begun().ready, ZeroDivisionError)

    def test_reload(self) -> None:
        """A method of somebody's own that cannot be made a second time leaves nothing as it was, and that is said."""
        checked = pool(health_check=(TcpCheck(),))
        self.serving(checked)
        failed = self.reload(replace(checked, balance=Balance(method="m:Fickle", own=Fickle)))
        self.patch(Fickle, "broken", True)
        self.come()
        self.assertIn("not again", str(self.failureResultOf(failed, ReloadBroke).value.__cause__))


class StopTests(Reloaded):
    def test_stop(self) -> None:
        """A reload that is under way is given up: who serves stops as the others do, who does not is killed."""
        self.serving()
        path = socket_path(self)
        failed = self.reload(listen=(self.where, UnixAddress(str(path))))
        self.started[2].come()
        gone = self.made.stopService()
        self.failureResultOf(failed, CancelledError)
        self.assertEqual([child.killed for child in self.started], [False, False, False, True])
        self.assertEqual([child.channel.told[-1:] for child in self.started], [[("stop",)]] * 3 + [[]])
        self.assertFalse(path.exists())
        self.started[3].come()
        for child in self.started[:3]:
            child.go()
        self.assertNoResult(gone)
        self.started[3].go()
        self.successResultOf(gone)
        self.assertEqual((self.told()[:2], self.reactor.getDelayedCalls()), ([["stop"]] * 2, []))

    def test_others_wait(self) -> None:
        """Those that wait never begin, however many there are."""
        self.serving()
        failed = [self.reload() for _ in range(8)]
        self.made.stopService()
        for each in failed:
            self.failureResultOf(each, CancelledError)
        self.assertEqual(len(self.started), 4)

    def test_too_late(self) -> None:
        """Who asks when the service stops already is told so, and nobody is started."""
        self.serving()
        self.made.stopService()
        self.failureResultOf(self.reload(), CancelledError)
        self.assertEqual((len(self.started), self.made.addresses("a")), (2, []))

    def test_while_names_are_looked_up(self) -> None:
        """Nobody has been started then."""
        self.serving()
        failed = self.reload(
            pool(servers=(ServerSpec(address=InetAddress("app.invalid", 80)),), health_check=(TcpCheck(),))
        )
        self.assertNoResult(failed)
        gone = self.made.stopService()
        self.failureResultOf(failed, CancelledError)
        for child in self.started:
            child.go()
        self.successResultOf(gone)
        self.assertEqual((len(self.started), self.reactor.getDelayedCalls()), (2, []))
