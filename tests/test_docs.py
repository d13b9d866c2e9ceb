"""The examples in the documentation run as they are written, but for the ports, and load."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from pylb.balance.methods import IBalancingMethod
from pylb.balance.pool import NoServerAvailable, make_pool
from pylb.check import IHealthCheck, Report
from pylb.model import InetAddress, PoolSpec, ServerSpec
from tests.backends import Peer, dead_address, until
from tests.check.asking import Asking, says
from tests.config.files import ConfigTestCase
from tests.functional.rig import free_port

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])


def examples(page: str, language: str = "python") -> list[str]:
    """The examples of a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


class ConfigurationTests(ConfigTestCase):
    """What is written in YAML."""

    def test_readme(self) -> None:
        """The first example that anybody sees is whole."""
        [example] = examples("README.md", "yaml")
        self.assertEqual(list(self.load(example).pools), ["backend"])

    def test_pages(self) -> None:
        """The others load once the pools and listeners are there that they leave out."""
        seen = set()
        for page in PAGES:
            for example in examples(page, "yaml"):
                seen.add(page)
                self.load(example + self.rest(example))
        pages = {"access-log", "health", "http", "operations", "sticky", "udp"}
        self.assertEqual(seen, {"README.md", *(f"docs/{page}.md" for page in pages)})

    def rest(self, example: str) -> str:
        text = ""
        if "listeners:" not in example:
            text += "listeners: {l: {protocol: tcp, listen: 9000, pool: p}}\n"
        if "pools:" not in example:
            names = re.findall(r"\bpool: (\w+)", example + text)
            text += "".join(["pools:\n", *(f"  {name}: {{servers: [127.0.0.1:9001]}}\n" for name in names)])
        return text


class EmbeddingTests(TestCase):
    """docs/python.md."""

    async def test_balancer(self) -> None:
        """The dictionary makes a service of an application that listens once it is ready."""
        example = examples("docs/python.md")[0]
        names: dict[str, Any] = {}
        exec(example.replace("127.0.0.1:3306", f"127.0.0.1:{free_port()}"), names)
        balancer = names["balancer"]
        self.assertIsInstance(names["application"], Application(" ").__class__)
        balancer.startService()
        await balancer.ready
        self.assertEqual([address.host for address in balancer.addresses("mysql")], ["127.0.0.1"])
        await maybeDeferred(balancer.stopService)

    async def test_factory(self) -> None:
        """The factory serves on an endpoint; nobody listens at its servers, so that a client is sent away."""
        example = examples("docs/python.md")[1].replace("tcp:9000", "tcp:0")
        for port in ("9001", "9002"):
            self.assertIn(port, example)
            example = example.replace(port, str(dead_address(self).port))
        listening, _, last = example.rstrip().rpartition("\n")
        names: dict[str, Any] = {}
        exec(f"{listening}\nlistening = {last}", names)
        port = await names["listening"]
        self.addCleanup(port.stopListening)
        client = Peer()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client)
        await until(lambda: client.lost)
        self.assertEqual([server.failures for server in names["pool"].servers], [1, 1])


class MethodTests(ConfigTestCase):
    """docs/python.md, a balancing method of your own."""

    def setUp(self) -> None:
        super().setUp()
        self.write("near.py", examples("docs/python.md")[2])
        self.addCleanup(sys.modules.pop, "near", None)
        config = self.load(
            "listeners: {l: {protocol: tcp, listen: 9000, pool: p}}\n"
            "pools: {p: {servers: [10.1.0.1:80, 10.1.0.2:80, 10.2.0.1:80], balance: near:Near}}\n"
        )
        self.pool = make_pool(config.pools["p"], MemoryReactorClock().seconds)

    def serve(self, client: bytes, count: int) -> list[str]:
        return [self.pool.acquire(Client(client)).server.name for _ in range(count)]

    def test_interface(self) -> None:
        """It is a method."""
        verifyObject(IBalancingMethod, self.pool._tiers[0].method)

    def test_near(self) -> None:
        """Clients get servers that are near them, in turn."""
        self.assertEqual(self.serve(b"10.2.0.77", 2), ["10.2.0.1:80"] * 2)
        self.assertEqual(self.serve(b"10.1.0.77", 3), ["10.1.0.1:80", "10.1.0.2:80", "10.1.0.1:80"])

    def test_who_is_left(self) -> None:
        """Others serve when it was tried or cannot."""
        lease = self.pool.acquire(Client(b"10.2.0.77"))
        other = self.pool.acquire(Client(b"10.2.0.77"), after=lease)
        self.assertEqual([lease.server.name, other.server.name], ["10.2.0.1:80", "10.1.0.1:80"])
        self.pool.switch(lease.server, "down")
        self.assertNotIn("10.2.0.1:80", self.serve(b"10.2.0.77", 4))

    def test_nobody(self) -> None:
        """Who does not say where from is served as well."""
        self.assertEqual(len({self.pool.acquire().server for _ in range(3)}), 3)


class CheckTests(Asking):
    """docs/python.md, a health check of your own."""

    def setUp(self) -> None:
        super().setUp()
        names: dict[str, Any] = {}
        exec(examples("docs/python.md")[3], names)
        self.check = names["Lag"]()

    async def says_of(self, metrics: bytes) -> Any:
        return await self.ask(self.check, self.target(self.tcp(says(metrics, close=True))))

    async def test_lag(self) -> None:
        """It is a check; it finds its number, and what follows from that."""
        verifyObject(IHealthCheck, self.check)
        head = b"HTTP/1.0 200 OK\r\n\r\nup 1\n"
        self.assertEqual(await self.says_of(head + b"replication_lag_seconds 3\n"), Report(share=1.0))
        self.assertEqual(await self.says_of(head + b"replication_lag_seconds 12\n"), Report(share=0.25))
        self.assertEqual(await self.says_of(head + b"replication_lag_seconds 61\n"), "61 s behind")
        self.assertRegex(await self.says_of(head), "^closed the connection")


class Client:
    def __init__(self, address: bytes) -> None:
        self.address = address

    def variable(self, name: str) -> bytes:
        return {"remote_addr": self.address}[name]


class LeaseTests(SynchronousTestCase):
    """docs/python.md, balancing by hand."""

    def run_example(self, *failing: str) -> list[str]:
        servers = tuple(ServerSpec(address=InetAddress(host, 1)) for host in ("10.0.0.1", "10.0.0.2"))
        pool = make_pool(PoolSpec(name="p", servers=servers), MemoryReactorClock().seconds)
        talked = []

        def talk_to(address: InetAddress) -> None:
            talked.append(address.host)
            if address.host in failing:
                raise ConnectionError("refused")

        [*_, example] = examples("docs/python.md")
        exec(example, {"pool": pool, "talk_to": talk_to, "NoServerAvailable": NoServerAvailable})
        self.assertEqual([server.active for server in pool.servers], [0, 0])
        return talked

    def test_first(self) -> None:
        """A server that answers is the only one that is talked to."""
        self.assertEqual(self.run_example(), ["10.0.0.1"])

    def test_second(self) -> None:
        """After a failure another server gets its turn, and every lease is released."""
        self.assertEqual(self.run_example("10.0.0.1"), ["10.0.0.1", "10.0.0.2"])
