"""pylb.workers.supervisor: others take over, with workers that are not processes; real ones are in tests/functional."""

from __future__ import annotations

import gc
import os
from functools import partial
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent

import pylb.pools
from pylb.check.findings import Finding
from pylb.model import (
    AccessLog,
    InetAddress,
    PoolSpec,
    ServerSpec,
    TcpCheck,
    UdpListener,
    UnixAddress,
)
from pylb.proxy.dns.follow import Found, Target
from pylb.proxy.resolve import PATIENCE, Name, Names
from pylb.workers.sessions import Item
from pylb.workers.supervisor import Supervisor
from tests.backends import socket_path
from tests.functional.rig import free_port
from tests.proxy.test_resolve import Reactor, Resolver
from tests.workers.reloading import ITEM, LEARN, Reloaded, pool


class Hearing(Reactor):
    """Hears what threads say."""

    callWhenRunning = staticmethod(lambda call: call())


def named(host: str) -> ServerSpec:
    return ServerSpec(address=InetAddress(host, 80))


class TurnTests(Reloaded):
    """Who serves, and who does not any more."""

    def test_all_serve(self) -> None:
        """The old ones retire when all new ones serve, and not before; then it is said."""
        self.serving()
        done = self.reload(shutdown_timeout=7.0)
        self.assertEqual(self.numbers(), [1, 2, 1, 2])
        self.started[2].come()
        self.assertNoResult(done)
        self.assertEqual((self.told(), self.made.config.shutdown_timeout), ([[]] * 4, 30.0))
        with capturedLogs() as logs:
            self.started[3].come()
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual((self.told(), self.made.config.shutdown_timeout), ([["retire"]] * 2 + [[]] * 2, 7.0))
        said = [formatEvent(log) for log in logs if log["log_namespace"] == "pylb.announce"]
        self.assertEqual(said, ["reloaded: shutdown_timeout changed"])

    def test_two_crews(self) -> None:
        """Who retires has no successor; who serves does, with the configuration of now, and hears of others as before."""
        self.serving(pool(sticky=LEARN))
        self.reloaded(pool(sticky=LEARN), shutdown_timeout=7.0)
        self.started[0].go()
        self.started[2].go()
        self.reactor.advance(0)
        self.assertEqual(self.numbers(), [1, 2, 1, 2, 1])
        self.assertEqual([each.config.shutdown_timeout for each in self.starts], [30.0, 30.0, 7.0, 7.0, 7.0])
        self.made._crew.learned(self.started[3], [ITEM])
        self.assertEqual(self.told()[1:], [["retire", "learn"], [], ["serve"], ["learn"]])

    def test_over(self) -> None:
        """The end waits for those that retire, too, who are told to stop."""
        self.serving()
        self.reloaded()
        gone = self.made.stopService()
        self.assertEqual(self.told(), [["retire", "stop"]] * 2 + [["stop"]] * 2)
        for child in self.started[:3]:
            child.go()
        self.assertNoResult(gone)
        self.started[3].go()
        self.successResultOf(gone)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_crews_go(self) -> None:
        """Those of which nobody is left are forgotten, and told nothing more."""
        self.serving()
        self.reloaded()
        for child in self.started[:2]:
            child.go()
        self.assertEqual(self.made._crews, {self.made._crew})

    def test_too_late(self) -> None:
        """Those that retire and do not stop in time are killed, as the others."""
        self.serving()
        self.reloaded()
        self.made.stopService()
        self.made.abort()
        self.assertEqual([words[-1] for words in self.told()], ["abort"] * 4)
        self.reactor.advance(1.0)
        self.assertTrue(all(child.killed for child in self.started))

    def test_one_after_the_other(self) -> None:
        """A second one begins when the first is over, and goes on from there."""
        self.serving()
        first = self.reload(shutdown_timeout=7.0)
        second = self.reload(shutdown_timeout=8.0)
        self.assertEqual(len(self.started), 4)
        self.come()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertEqual((len(self.started), self.made.config.shutdown_timeout), (6, 7.0))
        self.come()
        self.successResultOf(second)
        self.assertEqual((self.told(), self.made.config.shutdown_timeout), ([["retire"]] * 4 + [[]] * 2, 8.0))

    def test_after_a_mistake(self) -> None:
        """One that fails is no obstacle to the next."""
        self.serving()
        self.failureResultOf(self.reload(workers=3), ValueError)
        self.reloaded()

    def test_before_the_start(self) -> None:
        """It waits until all serve."""
        self.made = Supervisor(self.config(), self.reactor, self.reactor.seconds)
        self.addCleanup(self.made.close)
        self.made.startService()
        done = self.reload(shutdown_timeout=7.0)
        self.assertEqual(len(self.started), 2)
        self.come()
        self.assertEqual(len(self.started), 4)
        self.come()
        self.successResultOf(done)


class GivenUpTests(Reloaded):
    """What is not asked for any more."""

    def test_datagrams(self) -> None:
        """All who retire answer them no more, however long ago they began to; not so those of streams, nor what stays."""
        udp, stays = (
            UdpListener(name=name, listen=(InetAddress("127.0.0.1", free_port()),), pool="p") for name in ("u", "s")
        )
        tcp = self.config().listeners["a"]
        self.serving(listeners={"a": tcp, "u": udp, "s": stays})
        self.reloaded(listeners={"u": udp, "s": stays})
        self.assertEqual(self.told()[:2], [["retire"]] * 2)
        self.reloaded(listeners={"s": stays})
        drop = ("drop", [str(udp.listen[0])])
        self.assertEqual([child.told[-1:] for child in self.started], [[drop]] * 4 + [[]] * 2)

    def test_waits(self) -> None:
        """The next reload begins when all who retire have given up what they were told to."""
        self.serving()
        self.reloaded(shutdown_timeout=7.0)
        self.started[1].busy = Deferred()
        done = self.reload(shutdown_timeout=8.0)
        self.assertEqual(len(self.started), 4)
        self.started[1].busy.callback(None)
        self.come()
        self.successResultOf(done)

    def test_mistake(self) -> None:
        """A configuration that is wrong is not waited with."""
        self.serving()
        self.reloaded(shutdown_timeout=7.0)
        self.started[0].busy = Deferred()
        self.failureResultOf(self.reload(workers=3), ValueError)

    def test_stopped_while_it_waits(self) -> None:
        self.serving()
        self.reloaded(shutdown_timeout=7.0)
        self.started[0].busy = Deferred()
        done = self.reload(listen=(InetAddress("127.0.0.1", free_port()),))
        self.assertNoResult(done)
        self.made.stopService()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(len(self.started), 4)


class EstateTests(Reloaded):
    """What the workers inherit."""

    def test_what_stays(self) -> None:
        """Sockets and log that are asked for still are the same descriptors, whoever asks."""
        log = AccessLog(path=str(Path(self.mktemp()).absolute()))
        path = socket_path(self)
        self.serving(access_log=log, listen=(self.where, UnixAddress(str(path))))
        sockets, file = self.sockets(), self.made._crew.estate.log
        self.reloaded(access_log=log, listen=(UnixAddress(str(path)), self.where), listener={"backlog": 7})
        self.assertEqual(list(map(set, self.sockets())), list(map(set, sockets)))
        self.assertTrue(all(each.fileno() > 0 for row in sockets for each in row))
        self.assertIs(self.made._crew.estate.log, file)
        self.assertIsNotNone(file.fd)
        self.made.close()
        self.assertFalse(path.exists())

    def test_what_goes(self) -> None:
        """What nobody asks for any more is closed, with the files of Unix sockets, and another log is opened."""
        logs = [AccessLog(path=str(Path(self.mktemp()).absolute())) for _ in range(2)]
        path = socket_path(self)
        self.serving(access_log=logs[0], listen=(self.where, UnixAddress(str(path))))
        sockets = self.sockets()
        fresh = InetAddress("127.0.0.1", free_port())
        with capturedLogs() as said:
            self.reloaded(access_log=logs[1], listen=(self.where, fresh))
        closed = [[each.fileno() == -1 for each in row] for row in sockets]
        self.assertEqual(closed, [[False, True], [True, False]])  # all others share the first one's Unix socket
        self.assertFalse(path.exists())
        self.assertEqual(self.made.addresses("a"), [self.where, fresh])
        self.assertTrue(Path(logs[1].path).exists())
        self.assertIn(f"listener a: tcp on {fresh}", [formatEvent(log) for log in said])
        self.assertNotIn(f"listener a: tcp on {self.where}", [formatEvent(log) for log in said])

    def test_nothing_is_left(self) -> None:
        """However often it is done there are no more descriptors than before."""
        self.serving(access_log=AccessLog(path=self.mktemp()))
        counts = []
        for _ in range(6):
            listen = (self.where, InetAddress("127.0.0.1", free_port()))
            self.reloaded(access_log=AccessLog(path=self.mktemp()), listen=listen)
            self.leave(self.started[:2])
            gc.collect()
            counts.append(len(os.listdir("/proc/self/fd")))
        self.assertEqual(len(set(counts)), 1, counts)

    def test_reopen(self) -> None:
        """All are told, those that retire, too."""
        self.serving()
        self.reloaded()
        self.made.reopen_log()
        self.assertEqual([words[-1] for words in self.told()], ["reopen"] * 4)

    def test_reopen_meanwhile(self) -> None:
        """A log of another format that is moved away before all serve is left behind, also for workers to come."""
        path = Path(self.mktemp()).absolute()
        self.serving(access_log=AccessLog(path=str(path)))
        new = pool(servers=(named("app.invalid"),))
        done = self.reload(new, access_log=AccessLog(path=str(path), format="json"))
        for moment in "looks the name up", "starts workers":
            path.rename(path.with_suffix(f".{moment}"))
            self.made.reopen_log()
            self.assertNoResult(done)
            self.reactor.advance(PATIENCE)
        self.come()
        self.successResultOf(done)
        self.assertTrue(path.samefile(f"/dev/fd/{self.made._crew.estate.log.fd}"))


class KnownTests(Reloaded):
    """What the supervisor knows, and workers have to."""

    def found(self, name: str, checked: str = "passed") -> Finding:
        return Finding(name, "127.0.0.1:9", checked, "up", 1.0)

    def checked(self, name: str = "p") -> PoolSpec:
        return pool(name, health_check=(TcpCheck(),))

    def test_found(self) -> None:
        """New workers know it of the pools that have checks then; after the relief all are told what is new, who is gone."""
        self.serving(self.checked("p"), self.checked("q"))
        self.assertEqual([each.pool for each in self.starts[0].found], ["p", "q"])
        self.reload(self.checked("p"), pool("q"), self.checked("r"))
        self.assertEqual([each.pool for each in self.starts[2].found], ["p"])
        self.come()
        found = [[tuple(message[1:2]) for message in child.told if message[0] == "found"] for child in self.started]
        self.assertEqual(found, [[("r",)]] * 4)
        gone = [[message[1:] for message in child.told if message[0] == "gone"] for child in self.started]
        self.assertEqual(gone, [[("q", "127.0.0.1:9")]] * 4)

    def test_found_before_retiring(self) -> None:
        """Who retires hears that last."""
        self.serving(self.checked())
        self.reloaded(self.checked(), self.checked("q"))
        self.assertEqual(self.told(), [["found", "retire"]] * 2 + [["found"]] * 2)

    def test_found_meanwhile(self) -> None:
        """What old checks find while the new workers start, all are told."""
        self.serving(self.checked())
        self.reload(self.checked())
        [present] = self.made._checks.pools.by_name.values()
        present.switch(present.servers[0], "drain")
        self.assertEqual(self.told(), [["found"]] * 4)

    def test_names(self) -> None:
        """Workers begin with what the names of their configuration were found to stand for; new ones are waited for."""
        self.reactor = Hearing()
        resolver = Resolver(app_test=["10.0.0.1"], new_test=["10.0.0.2"])
        self.patch(pylb.pools, "Names", partial(Names, lookup=resolver))
        old, new = (pool(name, servers=(named(f"{name}.test"),)) for name in ("app", "new"))
        self.begun(pool(), old)
        self.assertNoResult(self.made.ready)
        self.reactor.hear()
        self.successResultOf(self.made.ready)
        self.started[0].go()
        self.reactor.advance(0)
        self.come()
        app = {Name("app.test"): Found([Target("10.0.0.1")])}
        self.assertEqual([each.names for each in self.starts], [{}, {}, app])
        resolver.answers["app.test"] = OSError(-3, "no answer")
        self.reload(pool(), old, new)
        self.assertEqual(len(self.starts), 3)
        self.reactor.hear(2)
        both = app | {Name("new.test"): Found([Target("10.0.0.2")])}
        self.assertEqual([each.names for each in self.starts[3:]], [both] * 2)
        self.come()
        self.reloaded(pool(), new)
        self.assertEqual([list(each.names) for each in self.starts[5:]], [[Name("new.test")]] * 2)

    def test_sessions(self) -> None:
        """What was learned stays, new workers begin with it; what belongs to a pool that goes, goes."""
        self.serving(pool(sticky=LEARN), pool("q", sticky=LEARN))
        other: Item = ("q", *ITEM[1:])
        self.made._crew.learned(self.started[0], [ITEM, other])
        self.reloaded(pool(sticky=LEARN))
        self.assertIn(ITEM, self.starts[2].sessions)
        self.assertEqual(self.learned(), [ITEM])
        self.reloaded()
        self.assertEqual(self.learned(), [])

    def test_learned_meanwhile(self) -> None:
        """Of a pool that is new, too, whose sessions are known if one of the new workers ends later."""
        self.serving(pool(sticky=LEARN))
        done = self.reload(pool(sticky=LEARN), pool("q", sticky=LEARN))
        self.started[2].come()
        other: Item = ("q", *ITEM[1:])
        self.started[2].parent.learned(self.started[2], [other])
        self.made._crew.learned(self.started[0], [ITEM])
        self.assertEqual(self.told(), [["learn"], ["learn", "learn"], ["learn"], ["learn", "learn"]])
        self.come()
        self.successResultOf(done)
        self.assertEqual(sorted(self.learned()), [ITEM, other])
