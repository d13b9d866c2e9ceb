"""pylb.workers.checks: one process checks for all."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from pylb.balance.server import Server
from pylb.check.findings import Finding
from pylb.model import Config, InetAddress, PoolSpec, ServerSpec, TcpCheck
from pylb.workers.checks import Checks
from tests.backends import Backend, dead_address, until


class ChecksTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.told: list[Finding] = []

    def checks(self, *servers: InetAddress, **asked) -> Checks:
        specs = tuple(ServerSpec(address=where) for where in servers)
        pools = {
            "p": PoolSpec(name="p", servers=specs, health_check=(TcpCheck(interval=0.02, **asked),)),
            "unchecked": PoolSpec(name="unchecked", servers=specs),
        }
        checks = Checks(Config(pools=pools, listeners={}, workers=2), reactor, reactor.seconds, self.told.append)
        self.addCleanup(checks.stop)
        return checks

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

    async def test_who_comes(self) -> None:
        """A server that a name brings later is checked, too."""
        checks = self.checks(dead_address(self))
        checks.start()
        [pool] = checks._pools
        where = dead_address(self)
        pool.replace([Server(ServerSpec(address=where))])
        checks._names._changed(pool)
        await until(lambda: Finding("p", str(where), "unhealthy", "up", 1.0) in self.told)
