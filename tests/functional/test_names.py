"""Names and services in DNS, of which twisted.names is the server: traffic follows them, and nobody notices."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.names import dns
from twisted.names.server import DNSServerFactory
from twisted.web.server import Site

from tests.backends import Peer, until
from tests.functional.rig import NamedPage, Program, Rig, all_at_once, ask_http, free_port
from tests.functional.test_workers import MANY, workers
from tests.functional.zone import Zone

HOSTS = ("127.0.0.2", "127.0.0.3")
APP = b"app.test"
SERVICE = b"_http._tcp.app.test"


#: A system without DNS servers.
NO_SERVERS = """
import functools, pylb.proxy.resolve
pylb.proxy.resolve.nameservers = functools.partial(pylb.proxy.resolve.nameservers, "/dev/null")
"""


class NamesRig(Rig):
    def setUp(self) -> None:
        super().setUp()
        self.zone = Zone()
        self.dns = free_port()
        factory = DNSServerFactory(authorities=[self.zone])
        factory.noisy = False
        protocol = dns.DNSDatagramProtocol(factory)
        protocol.noisy = False
        self.ports = [
            reactor.listenUDP(self.dns, protocol, interface="127.0.0.1"),
            reactor.listenTCP(self.dns, factory, interface="127.0.0.1"),
        ]
        self.addCleanup(self.dns_dies)

    async def dns_dies(self) -> None:
        for port in self.ports:
            await maybeDeferred(port.stopListening)

    async def follow(self, *servers: dict[str, Any], workers: int = 1, **resolver: str) -> Program:
        """pylb with servers that are followed, over HTTP and TCP."""
        self.http_port, self.tcp_port = free_port(), free_port()
        return await self.pylb(
            workers=workers,
            resolver={"addresses": [f"127.0.0.1:{self.dns}"], **resolver},
            pools={"p": {"servers": [{"resolve": True, **server} for server in servers]}},
            listeners={
                "http": {"protocol": "http", "listen": f"127.0.0.1:{self.http_port}", "pool": "p"},
                "tcp": {"protocol": "tcp", "listen": f"127.0.0.1:{self.tcp_port}", "pool": "p"},
            },
        )

    def sites(self) -> int:
        """Servers on all `HOSTS`, which say where they are; their port."""
        number = free_port()
        for host in HOSTS:
            factory = Site(NamedPage(host))
            factory.noisy = False
            port = reactor.listenTCP(number, factory, interface=host)
            self.addCleanup(port.stopListening)
        return number

    async def who(self) -> set[str]:
        """Who answers four requests, none of which may fail."""
        answers = [await ask_http(self.http_port) for _ in range(4)]
        self.assertEqual({status for status, _ in answers}, {200})
        return {body.decode() for _, body in answers}

    async def until_served_by(self, *hosts: str) -> None:
        while await self.who() != set(hosts):
            pass

    async def client(self) -> Peer:
        """A TCP connection through pylb to a server of HTTP, in the middle of its first request."""
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.tcp_port), Peer())
        self.addCleanup(until, lambda: client.lost)
        self.addCleanup(client.transport.abortConnection)
        client.transport.write(b"GET / HTTP/1.0\r\n")
        return client


class NamesTests(NamesRig):
    async def test_servers_come_and_go(self) -> None:
        """No request fails, and a connection to a server that is gone lives on."""
        self.zone.has(APP, HOSTS[0])
        program = await self.follow({"address": f"app.test:{self.sites()}"})
        self.assertEqual(await self.who(), {HOSTS[0]})
        old = await self.client()
        self.zone.has(APP, *HOSTS)
        await self.until_served_by(*HOSTS)
        self.zone.has(APP, HOSTS[1])
        await self.until_served_by(HOSTS[1])
        old.transport.write(b"\r\n")
        await until(lambda: old.lost)
        self.assertTrue(old.heard.endswith(HOSTS[0].encode()), old.heard)
        await self.ends(program)

    async def test_dns_dies(self) -> None:
        """The last servers go on, and so they do when the name is gone."""
        self.zone.has(APP, *HOSTS)
        program = await self.follow({"address": f"app.test:{self.sites()}"}, valid="1s")
        del self.zone.records[APP]
        await program.says(r"app.test: the name does not exist \(NXDOMAIN\); what was known stays")
        self.assertEqual(await self.who(), set(HOSTS))
        self.zone.has(APP, HOSTS[1])
        await program.says("app.test is 127.0.0.3")
        await self.dns_dies()
        await program.says(r"app.test: app.test A+: Connection refused \(127.0.0.1:\d+\); what was known stays")
        self.assertEqual(await self.who(), {HOSTS[1]})
        await self.ends(program)

    async def test_service(self) -> None:
        """Ports are the records'; the second priority serves when the first does not."""
        first, second = self.http("first"), self.http("second")
        self.zone.has(b"n.test", "127.0.0.1")
        self.zone.offers(SERVICE, (10, 1, first.number, b"n.test"), (20, 1, second.number, b"n.test"))
        program = await self.follow({"address": "app.test", "service": "http"})
        self.assertEqual(await self.who(), {"first"})
        await first.kill()
        self.assertEqual(await self.who(), {"second"})
        await self.ends(program)

    async def test_nobody_to_ask(self) -> None:
        """Without a resolver, and with none of the system, it is said what to do, before anything starts."""
        listen = f"127.0.0.1:{free_port()}"
        path = self.configure(
            pools={"p": {"servers": [{"address": "app.test:80", "resolve": True}]}},
            listeners={"tcp": {"protocol": "tcp", "listen": listen, "pool": "p"}},
        )
        program = self.run_twistd("-n", "--pidfile=", "pylb", "--config", str(path), prelude=NO_SERVERS)
        self.assertEqual(await program.ended(), 1)
        text = 'no DNS servers for "resolve": name them in resolver.addresses (/dev/null names none)'
        self.assertEqual(program.said, f"{path}: {text}\n")

    async def test_sixty_records(self) -> None:
        """An answer that fits into no datagram."""
        self.zone.has(APP, *(f"127.0.1.{place}" for place in range(60)), HOSTS[0])
        number = self.sites()
        program = await self.follow({"address": f"app.test:{number}"})
        await program.says(r"app.test is 127.0.0.2, (127\.0\.1\.\d+(, )?){60}\n")
        self.assertEqual(await self.who(), {HOSTS[0]})
        await self.ends(program)


class WorkersTests(NamesRig):
    async def steady(self, end: Deferred[None]) -> None:
        """No request fails until then, nor afterwards at any worker."""
        while not end.called:
            await self.who()
        await end
        answers = await all_at_once(ask_http(self.http_port) for _ in range(MANY))
        self.assertEqual({status for status, _ in answers}, {200})

    def others(self, program: Program, *numbers: int) -> Deferred[None]:
        """Fires when these workers are others than now."""
        now = workers(program.said)
        return Deferred.fromCoroutine(
            until(lambda: all(workers(program.said)[number] != now[number] for number in numbers))
        )

    async def test_dns_fails(self) -> None:
        """By an error, or silently: the successor of a worker, and those of a reload, serve as the others did."""
        number = self.sites()
        self.zone.has(APP, HOSTS[0])
        self.zone.offers(SERVICE, (10, 1, number, b"app.test"))
        servers = {"address": f"app.test:{number}"}, {"address": "app.test", "service": "http", "backup": True}
        program = await self.follow(*servers, workers=2)
        await program.says("_http._tcp.app.test is ")
        for instead in (partial(fail, OSError()), Deferred):
            self.zone.instead = instead
            os.kill(workers(program.said)[1], signal.SIGKILL)
            await self.steady(self.others(program, 1))
            program.signal(signal.SIGHUP)
            await self.steady(self.others(program, 1, 2))
        await self.steady(Deferred.fromCoroutine(program.says("(?s)(reloaded: .*){2}")))
        # The supervisor says it, and not each worker.
        self.assertRegex(program.said, r"resolve#warn\] app.test: .*SERVFAIL")
        self.assertNotRegex(program.said, "worker [12]: (app|_http)")
        self.zone.instead = None
        self.zone.has(APP, HOSTS[1])
        await self.until_served_by(HOSTS[1])
        await self.ends(program)
        self.flushLoggedErrors(OSError)
