"""pylb.service: health checks of real servers, in the test's own reactor."""

from __future__ import annotations

from twisted.internet import reactor

from pylb.model import Config, InetAddress, OwnCheck, PoolSpec, ServerSpec, TcpCheck, UnixAddress
from pylb.service import LoadBalancer
from tests.backends import Backend, dead_address, echo, until
from tests.served import ANY, Served, tcp

QUICK = {"interval": 0.02, "timeout": 5.0}


class CheckedTests(Served):
    def checked(self, *checks, servers, listener=None) -> LoadBalancer:
        specs = tuple(ServerSpec(address=where, max_fails=0) for where in servers)
        pool = PoolSpec(name="p", servers=specs, health_check=checks)
        balancer = LoadBalancer(Config(pools={"p": pool}, listeners={"tcp": listener or tcp()}))
        self.pool = balancer.pools["p"]
        return self.start(balancer)

    def states(self) -> list[str]:
        return [server.status for server in self.pool.servers]

    async def test_out_and_in(self):
        """A server that goes is found out without a client, and found again when it is back."""
        where = self.listening(Backend(echo))
        gone = reactor.listenTCP(0, Backend(echo), interface="127.0.0.1")
        port = gone.getHost().port
        balancer = self.checked(TcpCheck(**QUICK), servers=[where, InetAddress("127.0.0.1", port)])
        await balancer.ready
        await gone.stopListening()
        await until(lambda: self.states() == ["up", "unhealthy"])
        back = reactor.listenTCP(port, Backend(echo), interface="127.0.0.1")
        self.addCleanup(back.stopListening)
        await until(lambda: self.states() == ["up", "up"])
        self.assertEqual([server.picked for server in self.pool.servers], [0, 0])

    async def test_mandatory(self):
        """Clients are accepted, and wait for no check: those who come too early are sent away."""
        balancer = self.checked(TcpCheck(mandatory=True, **QUICK), servers=[self.listening(Backend(echo))])
        self.assertEqual(self.states(), ["checking"])
        await balancer.ready
        await until(lambda: self.states() == ["up"])
        client = await self.client(balancer)
        client.transport.write(b"hello")
        await client.hears(b"hello")

    async def test_names(self):
        """The servers that a name stands for are checked once it is found."""
        where = self.listening(Backend(echo))
        balancer = self.checked(TcpCheck(mandatory=True, **QUICK), servers=[InetAddress("localhost", where.port)])
        await balancer.ready
        await until(lambda: "up" in self.states())

    async def test_stopped(self):
        """Nothing is checked after the end, and nothing is left of what was under way."""
        server = Backend()
        balancer = self.checked(TcpCheck(send=b"?", **QUICK), servers=[self.listening(server), dead_address(self)])
        await balancer.ready
        await until(lambda: len(server.peers) > 3)
        await balancer.stopService()
        await until(lambda: all(peer.lost for peer in server.peers))
        self.assertFalse(balancer._streams.getReaders())

    async def test_not_started(self):
        """One that was made and not started asks nobody."""
        server = Backend()
        specs = (ServerSpec(address=self.listening(server)),)
        pool = PoolSpec(name="p", servers=specs, health_check=(TcpCheck(mandatory=True, **QUICK),))
        LoadBalancer(Config(pools={"p": pool}, listeners={"tcp": tcp(listen=(ANY,))})).close()
        self.assertEqual(server.peers, [])

    async def test_stopped_before_ready(self):
        balancer = self.checked(TcpCheck(**QUICK), servers=[UnixAddress("/nowhere/a"), InetAddress("localhost", 1)])
        await balancer.stopService()
        self.assertEqual(self.states(), ["up", "down"])

    async def test_own(self):
        """A class of somebody's own sees its server."""
        seen = []

        class Mine:
            async def check(self, target):
                seen.append(target.name)
                raise ValueError("broken")

        where = self.listening(Backend(echo))
        balancer = self.checked(OwnCheck(name="mine:Mine", own=Mine, **QUICK), servers=[where])
        await balancer.ready
        await until(lambda: self.states() == ["unhealthy"])
        self.assertEqual(set(seen), {str(where)})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
