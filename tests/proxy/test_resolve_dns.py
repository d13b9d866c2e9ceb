"""pylb.proxy.resolve: names and services that are followed in DNS, by a real server; time in the test's hand."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

import pylb.proxy.resolve
from pylb import model
from pylb.balance.pool import NoServerAvailable, make_pool
from pylb.model import InetAddress, PoolSpec, ServerSpec
from pylb.proxy.resolve import PATIENCE, Names
from tests.backends import round_trips, until
from tests.proxy.dns.servers import DnsServer, Time


def said(logs):
    return [formatEvent(log) for log in logs if log["log_namespace"] == "pylb.proxy.resolve"]


class Followed(TestCase):
    timeout = 20

    def setUp(self):
        self.time = Time()
        self.server = DnsServer(self)

    async def start(self, *pools, changed=lambda pool: None):
        names = Names(
            self.time,
            pools,
            changed=changed,
            resolver=model.Resolver(addresses=(self.server.address,)),
            clock=self.time.seconds,
            random=lambda: 0.0,
        )
        self.addCleanup(names.stop)
        await names.start()
        return names

    async def after(self, seconds):
        """Let so much time pass, and what is asked then be answered."""
        self.server.asked.clear()
        self.time.advance(seconds)
        await until(lambda: self.server.asked)
        await round_trips()

    def pool(self, *specs, **more):
        return make_pool(PoolSpec(name="web", servers=specs, **more), self.time.seconds)

    def names_of(self, pool):
        return [server.name for server in pool.servers]


class FollowedTests(Followed):
    async def test_servers_come_and_go(self):
        """In the place of their line and with its parameters; those that stay are the same, and `changed` is told."""
        self.server.has("app.test", "A", "10.0.0.2", "10.0.0.1", ttl=10)
        line = ServerSpec(address=InetAddress("app.test", 80), resolve=True, weight=3, backup=True)
        pool = self.pool(ServerSpec(address=InetAddress("10.0.0.9", 80)), line)
        changed = []
        await self.start(pool, changed=changed.append)
        self.assertEqual(self.names_of(pool), ["10.0.0.9:80", "10.0.0.1:80", "10.0.0.2:80"])
        self.assertEqual([server.spec for server in pool.servers[1:]], [line, line])
        first, stays = pool.servers[0], pool.servers[2]
        self.server.has("app.test", "A", "10.0.0.2", "10.0.0.3", ttl=10)
        await self.after(10)
        self.assertEqual(self.names_of(pool), ["10.0.0.9:80", "10.0.0.2:80", "10.0.0.3:80"])
        self.assertEqual(pool.servers[:2], [first, stays])
        self.assertEqual(changed, [pool, pool])

    async def test_nothing_new(self):
        """The same addresses in another order are no change: the pool is left alone, and nothing is logged."""
        self.server.has("app.test", "A", "10.0.0.2", "10.0.0.1", ttl=10)
        pool = self.pool(ServerSpec(address=InetAddress("app.test", 80), resolve=True))
        changed = []
        await self.start(pool, changed=changed.append)
        self.server.has("app.test", "A", "10.0.0.1", "10.0.0.2", ttl=10)
        with capturedLogs() as logs:
            await self.after(10)
        self.assertEqual((changed, said(logs)), ([pool], []))

    async def test_who_goes_drains(self):
        """A server that is gone gets nobody new; the lease that is held on it stays good."""
        self.server.has("app.test", "A", "10.0.0.1", "10.0.0.2", ttl=10)
        pool = self.pool(ServerSpec(address=InetAddress("app.test", 80), resolve=True))
        await self.start(pool)
        lease = pool.acquire()
        self.assertEqual(lease.server.name, "10.0.0.1:80")
        self.server.has("app.test", "A", "10.0.0.2", ttl=10)
        await self.after(10)
        self.assertEqual({pool.acquire().server.name for _ in range(4)}, {"10.0.0.2:80"})
        lease.succeeded()
        lease.release()
        self.assertEqual(lease.server.active, 0)

    async def test_last_servers_stay(self):
        """When DNS fails or the name is gone; one line says so, however long it lasts, and one that it is over."""
        self.server.has("app.test", "A", "10.0.0.1", ttl=10)
        pool = self.pool(ServerSpec(address=InetAddress("app.test", 80), resolve=True))
        await self.start(pool)
        del self.server.records["app.test", "A"]
        with capturedLogs() as logs:
            for _ in range(3):
                await self.after(10)
            self.assertEqual(self.names_of(pool), ["10.0.0.1:80"])
            self.server.has("app.test", "A", "10.0.0.1", ttl=10)
            await self.after(10)
            await self.after(10)
        self.assertEqual(
            said(logs),
            [
                "app.test: the name does not exist (NXDOMAIN); what was known stays; it is asked for again",
                "app.test is answered for again",
            ],
        )

    async def test_not_found(self):
        """A name that never was found is one server that is down."""
        pool = self.pool(ServerSpec(address=InetAddress("app.test", 80), resolve=True))
        with capturedLogs() as logs:
            await self.start(pool)
            self.assertRaises(NoServerAvailable, pool.acquire)
            self.server.has("app.test", "A", "10.0.0.1")
            await self.after(10)
        self.assertEqual(pool.acquire().server.name, "10.0.0.1:80")
        self.assertEqual(
            said(logs),
            [
                "app.test was not found: the name does not exist (NXDOMAIN); it is asked for again",
                "app.test is 10.0.0.1",
            ],
        )

    async def test_patience(self):
        """Without an answer it goes on after five seconds, like with other names."""
        self.server.instead = [lambda question: None] * 9
        pool = self.pool(ServerSpec(address=InetAddress("app.test", 80), resolve=True))
        names = Names(self.time, [pool], resolver=model.Resolver(addresses=(self.server.address,), timeout=60.0))
        ready = names.start()
        self.assertNoResult(ready)
        self.time.advance(PATIENCE)
        self.successResultOf(ready)
        names.stop()
        self.assertEqual(self.time.getDelayedCalls(), [])

    async def test_asked_once(self):
        """A name in several pools and lines is one question, beside the same one that the system is asked for."""
        self.server.has("app.test", "A", "10.0.0.1")
        followed = [ServerSpec(address=InetAddress("app.test", port), resolve=True) for port in (80, 81)]
        one, two = self.pool(*followed), self.pool(followed[0])
        await self.start(one, two)
        self.assertEqual(sorted(self.server.asked), ["udp app.test A", "udp app.test AAAA"])
        self.assertEqual((self.names_of(one), self.names_of(two)), (["10.0.0.1:80", "10.0.0.1:81"], ["10.0.0.1:80"]))

    async def test_no_servers_to_ask(self):
        """Said when it is made; without names that are followed nobody needs them."""

        def none():
            raise ValueError("no DNS servers")

        self.patch(pylb.proxy.resolve, "nameservers", none)
        followed = self.pool(ServerSpec(address=InetAddress("app.test", 80), resolve=True))
        self.assertRaises(ValueError, Names, self.time, [followed])
        Names(self.time, [self.pool(ServerSpec(address=InetAddress("app.test", 80)))])


class ServiceTests(Followed):
    NAME = "_http._tcp.app.test"

    def setUp(self):
        super().setUp()
        for place in range(1, 5):
            self.server.has(f"n{place}.test", "A", f"10.0.0.{place}")

    def line(self, **more):
        return ServerSpec(**{"address": InetAddress("app.test", 0), "resolve": True, "service": "http", **more})

    def offers(self, *records):
        self.server.has(self.NAME, "SRV", *records, ttl=10)

    def shown(self, pool):
        return [
            (server.name, server.spec.weight, "backup" if server.spec.backup else "primary") for server in pool.servers
        ]

    async def test_priorities_and_weights(self):
        """The lowest number is for primaries, all others are backups; weights and ports are the records'."""
        self.offers("10 60 8001 n1.test.", "10 0 8002 n2.test.", "20 5 8003 n3.test.", "30 5 8004 n4.test.")
        pool = self.pool(self.line())
        await self.start(pool)
        self.assertEqual(
            self.shown(pool),
            [
                ("10.0.0.1:8001", 60, "primary"),
                ("10.0.0.2:8002", 1, "primary"),
                ("10.0.0.3:8003", 5, "backup"),
                ("10.0.0.4:8004", 5, "backup"),
            ],
        )

    async def test_what_it_is_called(self):
        """Its own address, and by its line the name with the port that was found."""
        pool = self.pool(self.line())
        self.assertEqual(repr(pool.servers), "[<Server app.test not found, 0 active>]")
        self.offers("0 1 8001 n1.test.")
        await self.start(pool)
        self.assertEqual(
            [(server.name, str(server.spec.address)) for server in pool.servers], [("10.0.0.1:8001", "app.test:8001")]
        )

    async def test_a_backup(self):
        """On a line that is a backup the first priority is, and the rest is left out."""
        self.offers("10 1 8001 n1.test.", "20 1 8002 n2.test.")
        pool = self.pool(ServerSpec(address=InetAddress("10.0.0.9", 80)), self.line(backup=True))
        await self.start(pool)
        self.assertEqual(self.shown(pool)[1:], [("10.0.0.1:8001", 1, "backup")])

    async def test_a_weight_of_the_line(self):
        """It wins over the records'."""
        self.offers("10 60 8001 n1.test.", "20 5 8002 n2.test.")
        pool = self.pool(self.line(weight=2))
        await self.start(pool)
        self.assertEqual([server.weight for server in pool.servers], [2, 2])

    async def test_large_weights(self):
        """They are scaled down, so that a ring stays small; nobody falls to 0."""
        self.offers("0 65535 80 n1.test.", "0 65535 80 n2.test.", "0 1 80 n3.test.")
        pool = self.pool(self.line())
        await self.start(pool)
        self.assertEqual([server.weight for server in pool.servers], [4999, 4999, 1])

    async def test_changes(self):
        """Another weight or priority makes no other server of it: its failures stay, and it serves as it should now."""
        self.offers("10 1 80 n1.test.", "10 1 80 n2.test.")
        pool = self.pool(self.line(max_fails=3))
        await self.start(pool)
        lease = pool.acquire()
        one, two = pool.servers
        lease.failed("broken")
        self.offers("10 5 80 n1.test.", "20 1 80 n2.test.")
        await self.after(10)
        self.assertEqual(pool.servers, [one, two])
        self.assertEqual(self.shown(pool), [("10.0.0.1:80", 5, "primary"), ("10.0.0.2:80", 1, "backup")])
        self.assertEqual((lease.server.failures, lease.server.active), (1, 1))
        self.assertEqual({pool.acquire().server for _ in range(9)}, {one})

    async def test_name_of_a_service(self):
        """A word gets its underscores; what has a dot is all that stands before the name."""
        self.offers("0 1 80 n1.test.")
        self.server.has("x.y.app.test", "SRV", "0 1 80 n2.test.")
        pool = self.pool(self.line(), self.line(service="x.y"))
        await self.start(pool)
        self.assertEqual(self.names_of(pool), ["10.0.0.1:80", "10.0.0.2:80"])

    async def test_in_the_log(self):
        """One line for each change of what it stands for, also if that is a weight."""
        self.offers("10 1 80 n1.test.")
        with capturedLogs() as logs:
            await self.start(self.pool(self.line()))
            self.offers("10 2 80 n1.test.")
            await self.after(10)
        self.assertEqual(
            said(logs),
            [f"{self.NAME} is 10.0.0.1:80 (priority 10, weight {weight})" for weight in (1, 2)],
        )
