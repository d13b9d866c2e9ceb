"""Checks of servers that others wrote: what befalls one of two is found out once, and clients get to see the other."""

from __future__ import annotations

import re
from typing import Any

import dns.message
from twisted.internet import reactor
from twisted.names.dns import EREFUSED
from twisted.web.client import Agent, readBody

from tests.backends import until
from tests.functional.checked import CheckedRig
from tests.functional.real import Chronyd, GrpcHealth, NameServer, Redis, WebServer
from tests.functional.rig import all_at_once, ask_http, ask_tcp, ask_udp, free_port

CHECK = {"interval": "50ms", "timeout": "500ms", "fails": 2, "passes": 2}
#: At once: http.server lets no more than five wait.
CLIENTS = 4
ROUNDS = 3

LATE = "no answer within 0.5 s"
REFUSED = "Connection was refused by other side: 111: Connection refused"
REFUSED_DATAGRAM = "refused the datagram: Connection refused"


class RealServersTestCase(CheckedRig):
    """pylb between clients and two servers of a kind."""

    async def begin(self, kind: type, check: dict[str, Any], **listener: Any) -> None:
        self.servers = [kind(self, number) for number in (1, 2)]
        await all_at_once(server.start() for server in self.servers)
        self.port = free_port()
        addresses = [server.address for server in self.servers]
        self.program = await self.pylb(
            pools={"p": {"servers": addresses, "health_check": {**check, **CHECK}}},
            listeners={"l": {"listen": f"127.0.0.1:{self.port}", "pool": "p", **listener}},
        )

    async def ask(self) -> str:
        """As a client; the name of the server that answers."""
        raise NotImplementedError

    async def served_by(self, *servers: Any) -> None:
        """Every client is served well, by these servers and no others."""
        answers: set[str] = set()
        for _ in range(ROUNDS):
            answers.update(await all_at_once(self.ask() for _ in range(CLIENTS)))
        self.assertEqual(answers, {server.name for server in servers})

    async def every_trouble(self, wrong: str, gone: str) -> None:
        """What befalls one server is told, once; `wrong` and `gone` are reasons."""
        first, second = self.servers
        await self.troubles()
        await self.ends(self.program)
        self.assertEqual([why for state, why in self.log(first) if state == "unhealthy"], [LATE, wrong, gone])
        self.assertEqual((self.changes(first), self.changes(second)), (["unhealthy", "healthy"] * 3, []))

    async def troubles(self) -> None:
        """One server hangs, answers wrongly and is killed, and is well again after each."""
        first, second = self.servers
        changes: list[str] = []
        for happens, ends in (
            (first.hang, first.wake),
            (first.go_wrong, first.go_right),
            (first.kill, first.start),
        ):
            await self.served_by(first, second)
            await happens()
            changes.append("unhealthy")
            await self.changed(first, *changes)
            await self.served_by(second)
            await ends()
            changes.append("healthy")
            await self.changed(first, *changes)
        await self.served_by(first, second)


class RedisTests(RealServersTestCase):
    async def ask(self) -> str:
        answer = await ask_tcp(self.port, b"PING\r\nCONFIG GET port\r\nQUIT\r\n")
        return re.fullmatch(r"\+PONG\r\n\*2\r\n\$4\r\nport\r\n\$5\r\n(\d+)\r\n\+OK\r\n", answer.decode())[1]

    async def test_every_trouble(self) -> None:
        """A server that wants a password is no use for who has none."""
        check = {"type": "tcp", "send": r"PING\r\n", "expect": r"~ ^\+PONG\r\n"}
        await self.begin(Redis, check, protocol="tcp")
        await self.every_trouble(wrong=r'nothing but "-NOAUTH Authentication required.\r\n" within 0.5 s', gone=REFUSED)


class NtpTests(RealServersTestCase):
    async def ask(self) -> str:
        answer = await ask_udp(self.port, b"\x23" + bytes(47))
        self.assertEqual((len(answer), answer[0]), (48, 0x24), "a synchronised server of version 4")
        return str(answer[1])

    async def test_every_trouble(self) -> None:
        """A clock that has lost its source still answers, and says so."""
        await self.begin(Chronyd, {"type": "udp", "preset": "ntp"}, protocol="udp", responses=1)
        await self.every_trouble(wrong="its clock is not synchronised", gone=REFUSED_DATAGRAM)


class DnsTests(RealServersTestCase):
    async def begin_dns(self) -> None:
        await self.begin(NameServer, {"type": "udp", "preset": "dns"}, protocol="udp", responses=1)

    async def ask(self) -> str:
        question = dns.message.make_query("who.test", "A")
        answer = dns.message.from_wire(await ask_udp(self.port, question.to_wire()))
        return answer.answer[0][0].to_text()

    async def test_every_trouble(self) -> None:
        """A name server that fails is no use, though it answers."""
        await self.begin_dns()
        await self.every_trouble(wrong="DNS server failure", gone=REFUSED_DATAGRAM)

    async def several_checks(self) -> None:
        """Wait until the first server has been asked so often that any threshold has been passed long ago."""
        names = self.servers[0].names
        enough = names.asked + 10
        await until(lambda: names.asked > enough)

    async def test_told_once(self) -> None:
        """However many checks find the same."""
        await self.begin_dns()
        first, _ = self.servers
        await first.go_wrong()
        await self.several_checks()
        await first.go_right()
        await self.several_checks()
        await self.ends(self.program)
        self.assertEqual(self.changes(first), ["unhealthy", "healthy"])

    async def test_refusal(self) -> None:
        """One that refuses to look for what is not its own is well."""
        await self.begin_dns()
        first, second = self.servers
        await first.go_wrong(EREFUSED)
        await self.several_checks()
        await first.go_right()
        await self.served_by(first, second)
        await self.ends(self.program)
        self.assertEqual(self.changes(first), [])


class GrpcTests(RealServersTestCase):
    async def ask(self) -> str:
        """All servers that are well have one name: that all clients hear it shows that nobody else was asked."""
        self.asked += 1
        number = self.asked
        self.client.transport.write(b"\n")
        found = await self.client.says(rf"(?:[A-Z_]+\n){{{number}}}")
        return found[0].split()[-1]

    async def test_every_trouble(self) -> None:
        """A server that says that it does not serve is believed."""
        await self.begin(GrpcHealth, {"type": "grpc"}, protocol="tcp")
        self.asked = 0
        self.client = GrpcHealth.client(self, self.port)
        await self.every_trouble(wrong="it says that it is not serving", gone=REFUSED)


class HttpTests(RealServersTestCase):
    PAGE = {"type": "http", "uri": "/health"}

    async def ask(self) -> str:
        status, name = await ask_http(self.port, "/name")
        self.assertEqual(status, 200)
        return name.decode()

    async def test_every_trouble(self) -> None:
        """A server that lacks the page of its health is not well, though others are there."""
        await self.begin(WebServer, self.PAGE, protocol="http")
        await self.every_trouble(wrong="status 404", gone=REFUSED)

    async def test_no_client_notices(self) -> None:
        """Nor those who ask a server that hangs or is gone before that is found out: the other one answers them."""
        await self.begin(WebServer, self.PAGE, protocol="http", read_timeout="1s", next_upstream=["error", "timeout"])
        self.over, self.served = False, 0
        clients = all_at_once(self.asks_on() for _ in range(2))
        await self.troubles()
        self.over = True
        await clients
        self.assertGreater(self.served, 10)
        await self.ends(self.program)

    async def asks_on(self) -> None:
        """For heads only: a server that is killed in the midst of a body leaves half of it, which nobody can mend."""
        while not self.over:
            response = await Agent(reactor).request(b"HEAD", f"http://127.0.0.1:{self.port}/name".encode())
            self.assertEqual((response.code, await readBody(response)), (200, b""))
            self.served += 1
