"""pylb.check.monitor: who is checked when, and what follows, on a clock that stands still."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.health import Change
from pylb.balance.pool import Pool
from pylb.balance.server import Server
from pylb.check.interface import Report, Unhealthy
from pylb.check.monitor import Monitor
from pylb.check.target import Target
from pylb.check.watch import Tally
from pylb.model import HealthCheck, InetAddress, OwnCheck, PoolSpec, ServerSpec, TcpCheck


class Scene:
    """What the servers are, by address, and who asks them; `held` ones do not answer."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.reports: dict[str, Report] = {}
        self.held: dict[str, Deferred[Any]] = {}
        self.holds = False
        self.asked: list[str] = []

    def make(self, name: str = "") -> Any:
        return lambda: _Check(self, name)


class _Check:
    def __init__(self, scene: Scene, name: str) -> None:
        self._scene = scene
        self._name = name

    async def check(self, target: Target) -> Report | None:
        scene, name = self._scene, f"{self._name}{target.name}"
        scene.asked.append(name)
        if scene.holds:
            scene.held[name] = Deferred()
            await scene.held[name]
        if name in scene.faults:
            raise Unhealthy(scene.faults[name])
        return scene.reports.get(name)


class Heard:
    """A PoolObserver that keeps what it heard of checks and switches."""

    def __init__(self) -> None:
        self.news: list[str] = []

    def server_changed(self, pool: Pool, server: Server, change: Change, reason: str) -> None:
        state = server.checked if change is Change.CHECKED else change.value
        self.news.append(f"{server.name} {state}: {reason}")

    def pool_changed(self, pool: Pool, usable: bool, reason: str) -> None: ...


def server(number: int) -> Server:
    return Server(ServerSpec(address=InetAddress(f"10.0.{number // 250}.{number % 250 + 1}", 80)))


A, B = "10.0.0.1:80", "10.0.0.2:80"


class MonitorTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.scene = Scene()
        self.heard = Heard()
        self.monitor: Any = None
        self.addCleanup(self.ended)

    def ended(self) -> None:
        """Nothing is left of a monitor that was stopped."""
        if self.monitor is not None:
            self.monitor.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def own(self, name: str = "", **asked: Any) -> HealthCheck:
        return OwnCheck(name="tests:Own", own=self.scene.make(name), **asked)

    def pool(self, *checks: HealthCheck, count: int = 2, name: str = "web") -> Pool:
        spec = PoolSpec(name=name, servers=(), health_check=checks)
        return Pool(spec, [server(number) for number in range(count)], self.clock.seconds, self.heard)

    def start(self, *pools: Pool, most: int = 1000) -> Monitor:
        self.monitor = Monitor(pools, self.clock, self.clock, self.clock.seconds, most, Random(0))
        self.monitor.start()
        return self.monitor

    def pass_by(self, seconds: float, step: float = 0.05) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def most_at_once(self, seconds: float, step: float) -> int:
        """The most checks that began within one step."""
        counts = []
        for _ in range(round(seconds / step)):
            before = len(self.scene.asked)
            self.clock.advance(step)
            counts.append(len(self.scene.asked) - before)
        return max(counts)


class RotaTests(MonitorTestCase):
    def test_everybody(self) -> None:
        """Every server of every pool that has checks is asked once an interval."""
        self.start(self.pool(self.own(interval=2.0), count=3), self.pool(count=5, name="unchecked"))
        self.pass_by(2.05)
        self.assertEqual(len(self.scene.asked), 3)
        self.pass_by(2.0)
        self.assertEqual(len(self.scene.asked), 6)

    def test_spread(self) -> None:
        """A thousand servers are not asked all at once, in one pool or in as many."""
        check = self.own(interval=5.0)
        for pools in ([self.pool(check, count=1000)], [self.pool(check, count=1, name=str(n)) for n in range(1000)]):
            self.start(*pools)
            self.assertLessEqual(self.most_at_once(15.0, 0.05), 25)
            self.assertLess(abs(len(self.scene.asked) - 3000), 30)
            self.monitor.stop()
            self.scene.asked.clear()

    def test_together(self) -> None:
        """What is due within 50 ms, or a hundredth of the interval, begins together: waking up costs as much as asking."""
        for interval, moments in ((5.0, 100), (1.0, 100), (20.0, 400)):
            self.start(self.pool(self.own(interval=interval), count=1000))
            times = 0
            for _ in range(round(interval / 0.001)):
                before = len(self.scene.asked)
                self.clock.advance(0.001)
                times += len(self.scene.asked) > before
            self.assertIn(times, (moments, moments + 1))
            self.monitor.stop()

    def test_long_interval(self) -> None:
        """However long the interval is, the first mandatory check is made at once."""
        self.start(self.pool(self.own(mandatory=True, interval=3600.0)))
        self.pass_by(0.1)
        self.assertEqual(len(self.scene.asked), 2)

    def test_mandatory(self) -> None:
        """Where clients wait for them first checks follow close behind one another."""
        pools = [self.pool(self.own(mandatory=True), count=500, name=str(n)) for n in range(2)]
        self.start(*pools)
        self.assertLessEqual(self.most_at_once(2.1, 0.05), 55)
        self.assertEqual(len(self.scene.asked), 1000)

    def test_bounded(self) -> None:
        """No more at once than there is room for; who waits has its turn before who is due later."""
        self.scene.holds = True
        pool = self.pool(self.own(interval=1.0, timeout=60.0), count=10)
        self.start(pool, most=3)
        self.pass_by(1.5)
        self.assertEqual(len(self.scene.held), 3)
        for _ in range(20):
            name, answer = next(iter(self.scene.held.items()))
            del self.scene.held[name]
            answer.callback(None)
            self.pass_by(0.1)
            self.assertEqual(len(self.scene.held), 3)
        self.assertEqual(len(set(self.scene.asked)), 10)

    def test_over_at_once(self) -> None:
        """However many wait, and are over when they have hardly begun, all have their turns, and go on."""
        self.scene.holds = True
        slow = self.pool(self.own("slow ", mandatory=True, timeout=60.0), count=1, name="slow")
        quick = self.pool(self.own(interval=1.0), count=1000)
        self.start(slow, quick, most=1)
        self.clock.advance(0.001)
        self.scene.holds = False
        self.pass_by(1.05)
        self.assertEqual(self.scene.asked, [f"slow {A}"])
        self.scene.held[f"slow {A}"].callback(None)
        self.assertEqual(len(self.scene.asked), 1001)
        self.pass_by(1.05)
        self.assertEqual(len(self.scene.asked), 2001)

    def test_stop(self) -> None:
        """Whoever runs is given up, whoever waits is forgotten, and none begins meanwhile."""
        self.scene.holds = True
        self.start(self.pool(self.own(interval=1.0), count=10), most=3)
        self.pass_by(1.5)
        self.monitor.stop()
        self.pass_by(10.0)
        self.assertEqual(len(self.scene.asked), 3)

    def test_before_the_start(self) -> None:
        """Names that are found before the start make nobody check."""
        pool = self.pool(self.own(mandatory=True))
        self.monitor = Monitor([pool], self.clock, self.clock, self.clock.seconds, 10)
        self.monitor.follow(pool)
        self.pass_by(6.0)
        self.assertEqual(self.scene.asked, [])


class MakingTests(MonitorTestCase):
    def test_cannot_be_made(self) -> None:
        """A check that cannot be made is told at once, before there is anybody to check."""
        broken = OwnCheck(name="mine:Own", own=lambda: 1 / 0)
        pool = self.pool(self.own(), broken, count=0)
        self.assertRaises(ValueError, Monitor, [pool], self.clock, self.clock, self.clock.seconds, 10)

    def test_cannot_be_made_for_a_server(self) -> None:
        """One that can be made for some servers only is a failure of the others, and no other pool minds."""
        made: list[object] = []

        def make() -> Any:
            made.append(None)
            return 1 / 0 if len(made) > 1 else self.scene.make()()

        pools = [self.pool(OwnCheck(name="mine:Own", own=make)), self.pool(self.own(), name="other")]
        self.start(*pools)
        self.pass_by(5.05)
        self.assertEqual([[each.status for each in pool.servers] for pool in pools], [["unhealthy"] * 2, ["up"] * 2])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)


class VerdictTests(MonitorTestCase):
    def test_out_and_in(self) -> None:
        """A server that fails is taken out, once, and let in when it passes."""
        pool = self.pool(self.own(interval=1.0))
        self.scene.faults[A] = "status 500"
        self.start(pool)
        self.pass_by(5.0)
        self.assertEqual([each.status for each in pool.servers], ["unhealthy", "up"])
        del self.scene.faults[A]
        self.pass_by(5.0)
        self.assertEqual([each.status for each in pool.servers], ["up", "up"])
        self.assertEqual(self.heard.news, [f"{A} unhealthy: status 500", f"{A} passed: checks passed"])

    def test_threshold(self) -> None:
        """A server that flaps faster than its threshold changes nothing."""
        pool = self.pool(self.own(interval=1.0, fails=2))
        self.start(pool)
        for second in range(20):
            self.scene.faults = {A: "status 500"} if second % 2 else {}
            self.pass_by(1.0)
        self.assertEqual(self.heard.news, [])

    def test_mandatory(self) -> None:
        """Nobody serves before it has passed."""
        pool = self.pool(self.own(mandatory=True))
        self.scene.faults[B] = "status 500"
        self.assertEqual({each.status for each in pool.servers}, {"checking"})
        self.start(pool)
        self.pass_by(0.1)
        self.assertEqual([each.status for each in pool.servers], ["up", "unhealthy"])

    def test_any_of_several(self) -> None:
        """One of several checks that fails is enough, and all must pass for a server to come back."""
        pool = self.pool(self.own("one "), self.own("two "), count=1)
        self.start(pool)
        states = []
        for faults in ({"one "}, {"one ", "two "}, {"two "}, set()):
            self.scene.faults = {f"{check}{A}": f"{check}failed" for check in faults}
            self.pass_by(6.0)
            states.append(pool.servers[0].status)
        self.assertEqual(states, ["unhealthy"] * 3 + ["up"])
        self.assertEqual(self.heard.news, [f"{A} unhealthy: one failed", f"{A} passed: checks passed"])

    def test_several_mandatory(self) -> None:
        """A new server must have passed all mandatory ones; until then it is being checked."""
        pool = self.pool(self.own("one ", mandatory=True), self.own("two ", mandatory=True), count=1)
        self.scene.holds = True
        self.start(pool)
        self.pass_by(0.1)
        states = []
        for check in ("one ", "two "):
            self.scene.held[check + A].callback(None)
            states.append(pool.servers[0].status)
        self.assertEqual(states, ["checking", "up"])

    def test_failed_while_another_waits(self) -> None:
        """A mandatory one that fails takes the server out although the other has not answered; and back to waiting."""
        first = self.own("one ", mandatory=True, interval=1.0)
        pool = self.pool(first, self.own("two ", mandatory=True, timeout=60.0), count=1)
        self.scene.holds = True
        self.scene.faults = {f"one {A}": "failed"}
        self.start(pool)
        self.pass_by(0.1)
        states = []
        for faults in (self.scene.faults, {}):
            self.scene.faults = faults
            self.scene.held["one " + A].callback(None)
            states.append(pool.servers[0].status)
            self.pass_by(1.0)
        self.scene.held["two " + A].callback(None)
        states.append(pool.servers[0].status)
        self.assertEqual(states, ["unhealthy", "checking", "up"])

    def test_reports(self) -> None:
        """What servers say of themselves changes their weight, or lets them drain."""
        pool = self.pool(self.own(interval=1.0))
        self.scene.reports = {A: Report(share=0.5), B: Report(switch="drain")}
        self.start(pool)
        self.pass_by(2.0)
        self.assertEqual([(each.share, each.status) for each in pool.servers], [(0.5, "up"), (1.0, "draining")])
        self.scene.reports = {A: Report(share=0.0), B: Report(switch="up")}
        self.pass_by(2.0)
        self.assertEqual([(each.share, each.status) for each in pool.servers], [(0.0, "draining"), (1.0, "up")])

    def test_why_reported(self) -> None:
        """What they say for people is news; if that is nothing, that they said so."""
        pool = self.pool(self.own(interval=1.0), count=1)
        self.scene.reports = {A: Report(switch="down", why="a new\ndisk")}
        self.start(pool)
        self.pass_by(2.0)
        self.scene.reports = {A: Report(switch="up")}
        self.pass_by(2.0)
        self.scene.reports = {A: Report(share=0.0, why="too hot")}
        self.pass_by(2.0)
        said = ["down: a new\\ndisk", "up: says its check", "drain: too hot"]
        self.assertEqual(self.heard.news, [f"{A} switched: {each}" for each in said])

    def test_tally(self) -> None:
        """All checks of a server, together."""
        pool = self.pool(self.own("one ", interval=1.0), self.own("two ", interval=2.0), count=1)
        monitor = self.start(pool)
        subject = pool.servers[0]
        self.assertEqual(monitor.tally(pool, subject), Tally())
        self.pass_by(2.05)
        self.assertEqual(monitor.tally(pool, subject), Tally(3, 0, 0, True))
        self.scene.faults = {f"two {A}": "failed"}
        self.pass_by(2.0)
        self.assertEqual(monitor.tally(pool, subject), Tally(6, 1, 1, False))
        self.assertEqual(monitor.tally(pool, server(7)), Tally())


class FollowTests(MonitorTestCase):
    def test_who_comes(self) -> None:
        """A server that joins is checked, and waits for that where it is mandatory."""
        pool = self.pool(self.own(mandatory=True, interval=1.0), count=1)
        monitor = self.start(pool)
        self.pass_by(0.1)
        pool.replace([*pool.servers, server(1)])
        monitor.follow(pool)
        self.assertEqual([each.status for each in pool.servers], ["up", "checking"])
        self.pass_by(0.1)
        self.assertEqual([each.status for each in pool.servers], ["up", "up"])

    def test_who_goes(self) -> None:
        """A server that has left is not asked any more, also if it was just being asked."""
        self.scene.holds = True
        pool = self.pool(self.own(interval=1.0))
        monitor = self.start(pool, most=1)
        self.pass_by(1.0)
        [first] = self.scene.asked
        pool.replace([each for each in pool.servers if each.name != first])
        monitor.follow(pool)
        self.pass_by(10.0)
        self.assertEqual(set(self.scene.asked[1:]), {A, B} - {first})

    def test_who_goes_while_it_waits(self) -> None:
        """One that has left while it waited for its turn has none any more."""
        self.scene.holds = True
        pool = self.pool(self.own(interval=1.0), count=3)
        monitor = self.start(pool, most=1)
        self.pass_by(1.1)
        [first] = self.scene.asked
        stays, goes = (each for each in pool.servers if each.name != first)
        pool.replace([each for each in pool.servers if each is not goes])
        monitor.follow(pool)
        self.scene.held.pop(first).callback(None)
        self.assertEqual(self.scene.asked[1:], [stays.name])
        self.scene.held.pop(stays.name).callback(None)
        self.assertEqual(set(self.scene.asked), {first, stays.name})

    def test_who_stays(self) -> None:
        """Goes on in its rhythm, and with what was found."""
        pool = self.pool(self.own(interval=1.0, fails=3), count=1)
        monitor = self.start(pool)
        self.scene.faults[A] = "status 500"
        self.pass_by(2.0)
        pool.replace([*pool.servers, server(1)])
        monitor.follow(pool)
        self.pass_by(1.0)
        self.assertEqual(pool.servers[0].status, "unhealthy")

    def test_not_found(self) -> None:
        """A name without an address is not asked."""
        spec = ServerSpec(address=InetAddress("app.example.com", 80))
        pool = self.pool(self.own(interval=1.0), count=0)
        pool.replace([Server(spec, missing=True)])
        self.start(pool)
        self.pass_by(3.0)
        self.assertEqual(self.scene.asked, [])

    def test_unchecked(self) -> None:
        """A pool without checks is nobody's concern."""
        pool = self.pool()
        self.start(pool).follow(pool)
        self.pass_by(6.0)
        self.assertEqual({each.status for each in pool.servers}, {"up"})


class FollowedTests(MonitorTestCase):
    def test_followed(self) -> None:
        """Somebody may hear of pools whose servers are checked now, when they already are; of no others."""
        told: list[str] = []
        pools = [self.pool(self.own(interval=1.0), name="web"), self.pool(name="unchecked")]
        self.monitor = monitor = Monitor(
            pools,
            self.clock,
            self.clock,
            self.clock.seconds,
            10,
            Random(0),
            lambda pool: told.append(f"{pool.name} {len(monitor._watches)}"),
        )
        monitor.follow(pools[0])
        self.assertEqual(told, [])
        monitor.start()
        for pool in pools:
            pool.replace([server(2)])
            monitor.follow(pool)
        self.assertEqual(told, ["web 2", "web 1"])


class KeepTests(MonitorTestCase):
    def test_room(self) -> None:
        """Connections are kept only while there is room for one of each check."""
        pool = self.pool(self.own(interval=1.0), count=2)
        monitor = self.start(pool, most=2)
        self.assertTrue(monitor._may_keep())
        pool.replace([*pool.servers, server(2)])
        monitor.follow(pool)
        self.assertFalse(monitor._may_keep())


class ConnectingTests(MonitorTestCase):
    def test_tcp(self) -> None:
        """The checks of the configuration are made, and ask the server itself."""
        from tests.fakes import FakeReactor

        self.clock = FakeReactor()
        pool = self.pool(TcpCheck(interval=1.0), count=1)
        self.start(pool)
        self.pass_by(1.0)
        [dialled] = self.clock.dialled
        self.assertEqual(dialled.address, "10.0.0.1")
        dialled.refuse()
        self.assertEqual(self.heard.news, [f"{A} unhealthy: Connection was refused by other side"])
