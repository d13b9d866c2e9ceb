"""pylb.service: sockets that somebody else has bound, which are lent and taken back."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet import reactor
from twisted.logger import capturedLogs

from pylb.model import AccessLog, Config, InetAddress, PoolSpec, Resolver, ServerSpec
from pylb.proxy.dns.follow import Found, Target
from pylb.proxy.listen import bind
from pylb.proxy.resolve import Name
from pylb.service import Inherited, LoadBalancer
from tests.backends import dead_address, round_trips, until
from tests.proxy.dns.servers import DnsServer
from tests.served import ANY, Echo, Served, tcp, udp


class LentTests(Served):
    def lend(self, listener, server=None, **more) -> LoadBalancer:
        """A load balancer without sockets, which serves; `self.bound` is one for it."""
        pool = PoolSpec(name="p", servers=(ServerSpec(address=server or self.backend()),))
        config = Config(pools={"p": pool}, listeners={listener.name: listener}, workers=2, **more)
        balancer = self.start(LoadBalancer(config, inherited=Inherited([], None)))
        self.successResultOf(balancer.ready)
        [self.bound] = bind([listener])
        self.addCleanup(self.bound.close)
        return balancer

    def addresses(self, name) -> list:
        """Where clients find what is lent, whoever serves it."""
        return [self.bound.where]

    async def test_streams(self):
        """Clients are served while it is lent; those that came then stay, others wait in the kernel's queue."""
        balancer = self.lend(tcp())
        early = await self.client(self)
        early.transport.write(b"hello")
        await round_trips()
        self.assertEqual(early.heard, b"")
        balancer.serve([self.bound])
        await early.hears(b"hello")
        balancer.leave([self.bound])
        late = await self.client(self)
        late.transport.write(b"hello")
        early.transport.write(b" again")
        await early.hears(b"hello again")
        await round_trips()
        self.assertEqual(late.heard, b"")
        balancer.serve([self.bound])
        await late.hears(b"hello")

    async def test_datagrams(self):
        """What clients sent while it was lent is answered; what they send later waits."""
        heard = []
        silent = Echo()
        silent.datagramReceived = lambda datagram, where: heard.append((datagram, where))
        server = reactor.listenUDP(0, silent, interface="127.0.0.1")
        self.addCleanup(server.stopListening)
        balancer = self.lend(udp(), InetAddress("127.0.0.1", server.getHost().port))
        asker = self.asker(self)
        for _ in range(2):
            heard.clear()
            balancer.serve([self.bound])
            asker.ask(b"early")
            await until(lambda: heard)
            balancer.leave([self.bound])
            asker.ask(b"late")
            await round_trips()
            self.assertEqual([datagram for datagram, _ in heard], [b"early"])
            silent.transport.write(b"answer", heard[0][1])
            await until(lambda: asker.heard)
            asker.heard.clear()
            balancer.serve([self.bound])
            await until(lambda: len(heard) == 2)

    async def test_full(self):
        """A load balancer that has no room does not accept more for that."""
        balancer = self.lend(tcp(), max_connections=1)
        [full] = bind([tcp()])
        self.addCleanup(full.close)
        balancer.serve([self.bound])
        first = await self.client(self)
        await self.server.peer()
        self.bound, before = full, self.bound
        balancer.serve([full])
        second = await self.client(self)
        second.transport.write(b"hello")
        await round_trips()
        self.assertEqual(second.heard, b"")
        first.transport.loseConnection()
        await second.hears(b"hello")
        balancer.leave([before, full])

    async def test_end(self):
        """Once it stops it serves nothing more that is lent to it."""
        balancer = self.lend(tcp())
        await balancer.stopService()
        balancer.serve([self.bound])
        balancer.leave([self.bound])
        client = await self.client(self)
        client.transport.write(b"hello")
        await round_trips()
        self.assertEqual(client.heard, b"")


class InheritedTests(Served):
    def test_closed(self):
        """The list of sockets is the giver's, who may still have to do with what was closed."""
        pool = PoolSpec(name="p", servers=(ServerSpec(address=dead_address(self)),))
        sockets = bind([tcp()])
        balancer = LoadBalancer(Config(pools={"p": pool}, listeners={"tcp": tcp()}), inherited=Inherited(sockets, None))
        balancer.close()
        self.assertEqual([bound.socket.fileno() for bound in sockets], [-1])

    async def test_names(self):
        """What names stand for is known from the beginning, while DNS is silent."""
        dns = DnsServer(self)
        dns.instead = [lambda question: None] * 9
        where = self.backend()
        server = ServerSpec(address=InetAddress("app.test", where.port), resolve=True)
        resolver = Resolver(addresses=(dns.address,), ipv6=False)
        pools = {"p": PoolSpec(name="p", servers=(server,))}
        config = Config(pools=pools, listeners={"tcp": tcp()}, workers=2, resolver=resolver)
        names = {Name("app.test", followed=True): Found([Target(where.host)])}
        balancer = self.start(LoadBalancer(config, inherited=Inherited(bind([tcp()]), None, names=names)))
        self.successResultOf(balancer.ready)
        client = await self.client(balancer)
        client.transport.write(b"hello")
        await client.hears(b"hello")
        await until(lambda: dns.asked)

    async def test_sockets_and_log(self):
        """It serves what it inherits, says nothing of it, and writes to the file that it inherits."""
        pool = PoolSpec(name="p", servers=(ServerSpec(address=self.backend()),))
        path = Path(self.mktemp())
        listener = tcp(listen=(ANY,))
        config = Config(
            pools={"p": pool}, listeners={"tcp": listener}, workers=2, access_log=AccessLog(path="/nowhere/at/all.log")
        )
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with capturedLogs() as logs:
            balancer = self.start(LoadBalancer(config, inherited=Inherited(bind([listener]), log)))
            self.successResultOf(balancer.ready)
        self.assertNotIn("pylb.announce", [event["log_namespace"] for event in logs])
        client = await self.client(balancer)
        client.transport.write(b"hello")
        await client.hears(b"hello")
        client.transport.loseConnection()
        await until(lambda: client.lost)
        await balancer.stopService()
        self.assertEqual(len(path.read_text().splitlines()), 1)

    def test_several_workers(self):
        """Are for the program: a service in a process of somebody's own is one."""
        error = self.assertRaises(ValueError, self.make, tcp(), workers=2)
        self.assertEqual(str(error), "workers is 2: only twistd pylb starts several, here it must be 1")
