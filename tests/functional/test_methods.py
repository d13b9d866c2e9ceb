"""Balancing methods in the running program: a key keeps its server, for every protocol; load counts."""

from __future__ import annotations

import re
import signal
import socket
from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from tests.backends import Peer, until
from tests.functional.rig import Program, Rig, ask_http, ask_tcp, ask_udp, free_port

QUESTION = b"GET / HTTP/1.0\r\n\r\n"
BACKWARDS = """
class Backwards:
    def __init__(self, servers):
        self.servers, self.usable = servers, set()

    def add(self, server):
        self.usable.add(server)

    def remove(self, server):
        self.usable.remove(server)

    def choose(self, request, tried, now):
        return next(it for it in reversed(self.servers) if it in self.usable and it not in tried)
"""
BROKEN = BACKWARDS.replace(
    "    def choose(self, request, tried, now):",
    """    def choose(self, request, tried, now):
        if __import__("pathlib").Path(__file__).with_name("broken").exists():
            raise KeyError("nobody thought of that")""",
)


class MethodsTests(Rig):
    """Three servers that speak HTTP and, at the same port, UDP."""

    async def serve(self, balance: Any, *protocols: str, **asked: Any) -> Program:
        servers = []
        for name in ("one", "two", "three"):
            number = free_port()
            servers.append({"address": self.http(name, number).address, **asked})
            self.udp(name, number)
        self.ports = {protocol: free_port() for protocol in protocols}
        return await self.pylb(
            shutdown_timeout=0,
            pools={"p": {"servers": servers, "balance": balance}},
            listeners={
                protocol: {
                    "protocol": protocol,
                    "listen": f"127.0.0.1:{port}",
                    "pool": "p",
                    **({"responses": 1} if protocol == "udp" else {}),
                }
                for protocol, port in self.ports.items()
            },
        )

    async def test_a_client_stays(self) -> None:
        """By its address, whatever it speaks: one health, one key, one server."""
        key = "client $remote_addr"
        for balance in (
            "ip_hash",
            {"method": "hash", "key": key, "consistent": True},
            {"method": "maglev", "key": key},
        ):
            program = await self.serve(balance, "tcp", "udp", "http")
            answers = Counter[bytes]()
            for _ in range(4):
                answers[(await ask_tcp(self.ports["tcp"], QUESTION)).split()[-1]] += 1
                answers[(await ask_udp(self.ports["udp"], b"?")).split()[0]] += 1
                answers[(await ask_http(self.ports["http"]))[1]] += 1
            self.assertEqual(list(answers.values()), [12])
            await self.ends(program)

    async def test_a_key_stays(self) -> None:
        """Each key has its server, and all servers have keys, but once in 10**10 times."""
        for method in ("hash", "maglev"):
            program = await self.serve({"method": method, "key": "$arg_k"}, "http")
            first, second = [
                [(await ask_http(self.ports["http"], f"/?x={turn}&k={key}"))[1] for key in range(60)]
                for turn in range(2)
            ]
            self.assertEqual(first, second)
            self.assertEqual(set(first), {b"one", b"two", b"three"})
            await self.ends(program)

    async def test_least_conn(self) -> None:
        """Whoever holds a connection is passed over while others hold none."""
        program = await self.serve("least_conn", "tcp", "http")
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.ports["tcp"]), Peer())
        client.transport.write(QUESTION[:5])
        first = (await ask_http(self.ports["http"]))[1]
        answers = {(await ask_http(self.ports["http"]))[1] for _ in range(6)} | {first}
        client.transport.write(QUESTION[5:])
        await until(lambda: client.lost)
        held = bytes(client.heard).split()[-1]
        self.assertEqual(answers, {b"one", b"two", b"three"} - {held})
        await self.ends(program)

    async def test_first(self) -> None:
        """The first server serves all that it can hold, whatever is spoken; then the second, then the third."""
        program = await self.serve("first", "tcp", "udp", "http", max_conns=2)
        answers = [(await ask_udp(self.ports["udp"], b"?")).split()[0], (await ask_http(self.ports["http"]))[1]]
        answers += [await self.hold() for _ in range(3)]
        answers += [(await ask_udp(self.ports["udp"], b"?")).split()[0], (await ask_http(self.ports["http"]))[1]]
        answers += [await self.hold() for _ in range(2)]
        self.assertEqual(answers, [b"one"] * 4 + [b"two"] * 4 + [b"three"])
        await self.ends(program)

    async def test_bounded_load(self) -> None:
        """What one client holds open at once is spread evenly; one after the other it stays."""
        for method in ({"method": "hash", "consistent": True}, {"method": "maglev"}):
            balance = {**method, "key": "$remote_addr", "bounded_load": 1}
            program = await self.serve(balance, "tcp", "udp", "http")
            home = (await ask_http(self.ports["http"]))[1]
            self.assertEqual((await ask_http(self.ports["http"]))[1], home)
            held = [await self.hold()]
            others = {(await ask_http(self.ports["http"]))[1], (await ask_udp(self.ports["udp"], b"?")).split()[0]}
            self.assertEqual((held, others & {home}), ([home], set()))
            held += [await self.hold() for _ in range(5)]
            self.assertEqual(Counter(held), {b"one": 2, b"two": 2, b"three": 2})
            await self.ends(program)

    async def test_own(self) -> None:
        """A class in a file beside the configuration, for every protocol."""
        (self.folder / "backwards.py").write_text(BACKWARDS)
        program = await self.serve("backwards:Backwards", "tcp", "udp", "http")
        answers = [
            (await ask_tcp(self.ports["tcp"], QUESTION)).split()[-1],
            (await ask_udp(self.ports["udp"], b"?")).split()[0],
            (await ask_http(self.ports["http"]))[1],
        ]
        self.assertEqual(answers, [b"three"] * 3)
        await self.ends(program)

    async def test_own_that_breaks(self) -> None:
        """It costs the requests that meet it, not more, and one traceback."""
        (self.folder / "backwards.py").write_text(BROKEN)
        broken = self.folder / "broken"
        broken.touch()
        program = await self.serve("backwards:Backwards", "tcp", "udp", "http")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.sendto(b"dropped", ("127.0.0.1", self.ports["udp"]))
        where = TCP4ClientEndpoint(reactor, "127.0.0.1", self.ports["http"])
        client = await connectProtocol(where, Peer())
        for _ in range(2):
            self.assertEqual(await ask_tcp(self.ports["tcp"], QUESTION), b"")
            client.transport.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: re.search(rb"(?s)^HTTP/1.1 502 .+\r\n\r\n.+\n", client.heard))
            client.heard.clear()
        broken.unlink()
        client.transport.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: client.heard.endswith(b"three"))
        client.transport.loseConnection()
        self.assertEqual((await ask_udp(self.ports["udp"], b"?")).split()[0], b"three")
        self.assertEqual((await ask_tcp(self.ports["tcp"], QUESTION)).split()[-1], b"three")
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended(), 0)
        self.assertEqual(len(re.findall("Traceback", program.said)), 1, program.said)
        self.assertIn("pool p refuses clients: its balancing method breaks", program.said)

    async def hold(self) -> bytes:
        """Who answers over a TCP connection that stays open."""
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.ports["tcp"]), Peer())
        self.addCleanup(until, lambda: client.lost)
        self.addCleanup(client.transport.abortConnection)
        client.transport.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: re.search(rb"\r\n\r\n.+", client.heard))
        return bytes(client.heard).split()[-1]

    async def test_random(self) -> None:
        """Chance uses every server."""
        program = await self.serve({"method": "random", "two": "least_conn"}, "http")
        answers = {(await ask_http(self.ports["http"]))[1] for _ in range(60)}
        self.assertEqual(answers, {b"one", b"two", b"three"})
        await self.ends(program)
