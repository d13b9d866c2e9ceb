"""Balancing methods in the running program: a key keeps its server, for every protocol; load counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from tests.backends import Peer, until
from tests.functional.rig import Program, Rig, ask_http, ask_tcp, ask_udp, free_port

QUESTION = b"GET / HTTP/1.0\r\n\r\n"


class MethodsTests(Rig):
    """Three servers that speak HTTP and, at the same port, UDP."""

    async def serve(self, balance: Any, *protocols: str) -> Program:
        addresses = []
        for name in ("one", "two", "three"):
            number = free_port()
            addresses.append(self.http(name, number).address)
            self.udp(name, number)
        self.ports = {protocol: free_port() for protocol in protocols}
        return await self.pylb(
            pools={"p": {"servers": addresses, "balance": balance}},
            listeners={
                protocol: {"protocol": protocol, "listen": f"127.0.0.1:{port}", "pool": "p"}
                for protocol, port in self.ports.items()
            },
        )

    async def test_a_client_stays(self) -> None:
        """By its address, whatever it speaks: one health, one key, one server."""
        for balance in ("ip_hash", {"method": "hash", "key": "client $remote_addr", "consistent": True}):
            program = await self.serve(balance, "tcp", "udp", "http")
            answers = Counter[bytes]()
            for _ in range(4):
                answers[(await ask_tcp(self.ports["tcp"], QUESTION)).split()[-1]] += 1
                answers[(await ask_udp(self.ports["udp"], b"?")).split()[0]] += 1
                answers[(await ask_http(self.ports["http"]))[1]] += 1
            self.assertEqual(list(answers.values()), [12])
            await self.ends(program)

    async def test_a_key_stays(self) -> None:
        """Each key has its server, and all servers have keys."""
        program = await self.serve({"method": "hash", "key": "$arg_k"}, "http")
        first, second = [
            [(await ask_http(self.ports["http"], f"/?x={turn}&k={key}"))[1] for key in range(20)] for turn in range(2)
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

    async def test_random(self) -> None:
        """Chance uses every server."""
        program = await self.serve({"method": "random", "two": "least_conn"}, "http")
        answers = {(await ask_http(self.ports["http"]))[1] for _ in range(60)}
        self.assertEqual(answers, {b"one", b"two", b"three"})
        await self.ends(program)
