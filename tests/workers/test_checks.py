"""pylb.workers.checks: one process checks for all."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from pylb.balance.server import Server
from pylb.check.findings import Finding
from pylb.model import Balance, Config, InetAddress, PoolSpec, ServerSpec, TcpCheck
from pylb.workers.checks import Checks
from tests.backends import Backend, dead_address, until


class Checked(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.told: list[Finding] = []
        self.gone: list[str] = []

    def forget(self, pool: str, server: str) -> None:
        self.gone.append(f"{pool} {server}")

    def config(self, *servers: InetAddress, **asked) -> Config:
        specs = tuple(ServerSpec(address=where) for where in servers)
        pools = {
            "p": PoolSpec(name="p", servers=specs, health_check=(TcpCheck(interval=0.02, **asked),)),
            "unchecked": PoolSpec(name="unchecked", servers=specs),
        }
        return Config(pools=pools, listeners={}, workers=2)

    def checks(self, *servers: InetAddress, **asked) -> Checks:
        checks = Checks(self.config(*servers, **asked), reactor, reactor.seconds, self.told.append, self.forget)
        self.addCleanup(checks.stop)
        return checks


class ChecksTests(Checked):
    async def test_told(self) -> None:
        """Each change of a server of a pool with checks is told once, and logged; the rest is known to who asks."""
        server = Backend()
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        where, dead = InetAddress("127.0.0.1", port.getHost().port), dead_address(self)
        checks = self.checks(where, dead)
        with capturedLogs() as logs:
            checks.start()
            await until(lambda: self.told and len(server.peers) > 2)
        news = Finding("p", str(dead), "unhealthy", "up", 1.0)
        self.assertEqual((self.told, len([log for log in logs if "is unhealthy" in formatEvent(log)])), ([news], 1))
        self.assertEqual(checks.known(), (Finding("p", str(where), "passed", "up", 1.0), news))

    async def test_panic(self) -> None:
        """That few are well is for those to say who serve: pools that serve nobody do not speak of it."""
        config = self.config(dead_address(self), dead_address(self))
        config.pools["p"] = replace(config.pools["p"], panic_threshold=50)
        checks = Checks(config, reactor, reactor.seconds, self.told.append, self.forget)
        self.addCleanup(checks.stop)
        with capturedLogs() as logs:
            checks.start()
            await until(lambda: len(self.told) == 2)
        [pool] = checks.pools.by_name.values()
        self.assertTrue(pool._tier_of[pool.servers[0]].panics)
        self.assertEqual({formatEvent(log).rpartition(" is ")[2].partition(":")[0] for log in logs}, {"unhealthy"})

    async def test_mandatory(self) -> None:
        """What is not known yet is said to be so."""
        [known] = self.checks(dead_address(self), mandatory=True).known()
        self.assertEqual(known.checked, "checking")

    async def test_names(self) -> None:
        """Servers that a name stands for are checked, and known by their addresses."""
        where = dead_address(self)
        checks = self.checks(InetAddress("localhost", where.port))
        checks.start()
        await until(lambda: Finding("p", str(where), "unhealthy", "up", 1.0) in self.told)

    async def test_names_of_others(self) -> None:
        """Names of pools without checks are looked up, too; of their servers nothing is found."""
        hosts = {"named": "localhost", "literal": "127.0.0.1"}
        pools = {
            name: PoolSpec(name=name, servers=(ServerSpec(address=InetAddress(host, 1)),))
            for name, host in hosts.items()
        }
        config = Config(pools=pools, listeners={}, workers=2)
        checks = Checks(config, reactor, reactor.seconds, self.told.append, self.forget)
        self.addCleanup(checks.stop)
        checks.start()
        await until(lambda: checks.pools.found())
        [(found, (targets, _))] = checks.pools.found().items()
        self.assertIn(("localhost", "127.0.0.1"), [(found.text, target.host) for target in targets])
        self.assertEqual((list(checks.pools.by_name), checks.known(), self.told), (["named"], (), []))

    def test_what_takes_long(self) -> None:
        """The rings of large pools are made by those that serve, and not here."""
        ring = Balance(method="hash", key="$remote_addr", consistent=True)
        server = ServerSpec(address=InetAddress("localhost", 1), weight=10_000)
        config = Config(pools={"p": PoolSpec(name="p", servers=(server,), balance=ring)}, listeners={}, workers=2)
        checks = Checks(config, reactor, reactor.seconds, self.told.append, self.forget)
        tier, *_ = checks.pools.by_name["p"]._tiers
        self.assertIsNone(tier.method._layout.places)

    async def test_who_comes(self) -> None:
        """A server that a name brings later is checked, too."""
        checks = self.checks(dead_address(self))
        checks.start()
        [pool] = checks.pools.by_name.values()
        where = dead_address(self)
        pool.replace([Server(ServerSpec(address=where))])
        checks.pools._names._changed(pool)
        await until(lambda: Finding("p", str(where), "unhealthy", "up", 1.0) in self.told)

    async def test_who_comes_and_goes(self) -> None:
        """Who comes is told at once, as not found out yet, and who goes; who returns begins anew, who stays is no news."""
        checks = self.checks(stays := dead_address(self), mandatory=True)
        checks.start()
        [pool] = checks.pools.by_name.values()
        where = dead_address(self)
        news = [Finding("p", str(where), checked, "up", 1.0) for checked in ("checking", "unhealthy")]
        await until(lambda: self.told)
        for times in (1, 2):
            pool.replace([pool.servers[0], Server(ServerSpec(address=where))])
            checks.pools._names._changed(pool)
            self.assertEqual((self.told[1:], len(self.gone)), (news * (times - 1) + news[:1], times - 1))
            await until(lambda times=times: self.told[1:] == news * times)
            pool.replace(pool.servers[:1])
            checks.pools._names._changed(pool)
            self.assertEqual(self.gone, [f"p {where}"] * times)
        self.assertEqual([each.server for each in checks.known()], [str(stays)])


class ReloadTests(Checked):
    """Other checks are prepared beside those that run, and gone on with, or stopped."""

    def unhealthy(self, where: InetAddress) -> Finding:
        return Finding("p", str(where), "unhealthy", "up", 1.0)

    async def found(self) -> tuple[Checks, InetAddress]:
        """Checks that have found a server unhealthy."""
        checks = self.checks(dead := dead_address(self))
        checks.start()
        await until(lambda: self.told)
        self.told.clear()
        return checks, dead

    async def test_go_on(self) -> None:
        """What was found is known still, and not told again; who is new is checked, who is gone is not known any more."""
        checks, dead = await self.found()
        other = dead_address(self)
        following = checks.prepare(self.config(dead, other))
        self.assertEqual(checks.known(), (self.unhealthy(dead),))
        self.successResultOf(following.look_up())
        checks.go_on(following)
        self.assertEqual(checks.known(), (self.unhealthy(dead), Finding("p", str(other), "passed", "up", 1.0)))
        await until(lambda: len(self.told) > 1)
        self.assertEqual(self.told, [Finding("p", str(other), "passed", "up", 1.0), self.unhealthy(other)])
        self.assertEqual(self.gone, [])
        checks.go_on(checks.prepare(self.config(other)))
        self.assertEqual((checks.known(), self.gone), ((self.unhealthy(other),), [f"p {dead}"]))

    async def test_other_pools(self) -> None:
        """What was found of a pool that is called something else now, or is not checked any more, is nobody's."""
        checks, dead = await self.found()
        config = self.config(dead)
        other = replace(config.pools["p"], name="q")
        checks.go_on(checks.prepare(replace(config, pools={"q": other})))
        news = Finding("q", str(dead), "passed", "up", 1.0)
        self.assertEqual((self.gone, self.told, checks.known()), ([f"p {dead}"], [news], (news,)))
        checks.go_on(checks.prepare(replace(config, pools={"q": replace(other, health_check=())})))
        self.assertEqual((self.gone[1:], checks.known()), ([f"q {dead}"], ()))

    async def test_given_up(self) -> None:
        """Then those that run go on, and hear nothing of it."""
        checks, dead = await self.found()
        following = checks.prepare(self.config(dead_address(self)))
        following.look_up()
        following.stop()
        [pool] = checks.pools.by_name.values()
        before = checks.pools.checks.tally(pool, pool.servers[0]).checks
        await until(lambda: checks.pools.checks.tally(pool, pool.servers[0]).checks > before)
        self.assertEqual((checks.known(), self.told), ((self.unhealthy(dead),), []))

    async def test_stop(self) -> None:
        """It ends those that run now; the ones before have ended already."""
        checks, dead = await self.found()
        first = checks.pools.checks
        checks.go_on(checks.prepare(self.config(dead)))
        second = checks.pools.checks
        self.assertEqual([len(monitor._watches) for monitor in (first, second)], [0, 1])
        checks.stop()
        self.assertEqual([len(monitor._watches) for monitor in (first, second)], [0, 0])

    async def test_before_names_are_found(self) -> None:
        """Those that have not begun because of a name that is looked up still never do, and the others do."""
        checks = self.checks(InetAddress("localhost", 1))
        checks.start()
        checks.go_on(checks.prepare(self.config(dead := dead_address(self))))
        await until(lambda: len(self.told) > 1)
        self.assertEqual(self.told[1:], [self.unhealthy(dead)])
        self.assertEqual(checks.known(), (self.unhealthy(dead),))
