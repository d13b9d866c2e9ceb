"""One pool behind a TCP, a UDP and an HTTP listener: what one of them learns of a server all know."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from tests.backends import Peer, until
from tests.functional.rig import Program, Rig, ask_http, ask_tcp, ask_udp, free_port

QUESTION = b"GET / HTTP/1.0\r\n\r\n"


class SharedPoolTests(Rig):
    """Its servers, `one` and `two`, speak HTTP and, at the same port, UDP."""

    async def serve(self, **server: Any) -> Program:
        self.servers = {}
        for name in ("one", "two"):
            number = free_port()
            self.servers[name] = {"http": self.http(name, number), "udp": self.udp(name, number)}
        self.ports = {protocol: free_port() for protocol in ("tcp", "udp", "http")}
        addresses = [each["http"].address for each in self.servers.values()]
        return await self.pylb(
            pools={"p": {"servers": [{"address": address, **server} for address in addresses]}},
            listeners={
                protocol: {"protocol": protocol, "listen": f"127.0.0.1:{port}", "pool": "p"}
                for protocol, port in self.ports.items()
            },
        )

    async def answers(self) -> dict[str, set[bytes]]:
        """Who answers four clients of each protocol."""
        tcp = {(await ask_tcp(self.ports["tcp"], QUESTION)).split()[-1] for _ in range(4)}
        udp = {(await ask_udp(self.ports["udp"], b"?")).split()[0] for _ in range(4)}
        http = {(await ask_http(self.ports["http"]))[1] for _ in range(4)}
        return {"tcp": tcp, "udp": udp, "http": http}

    async def test_balanced(self) -> None:
        """Each protocol gets to each server."""
        program = await self.serve()
        self.assertEqual(await self.answers(), {protocol: {b"one", b"two"} for protocol in self.ports})
        await self.ends(program)

    async def test_max_conns(self) -> None:
        """A connection and a session fill both servers, for whoever comes; what ends makes room for another protocol."""
        program = await self.serve(max_conns=1)
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.ports["tcp"]), Peer())
        client.transport.write(QUESTION[:5])
        await until(lambda: self.servers["one"]["http"].clients)
        self.assertEqual(await ask_udp(self.ports["udp"], b"?"), b"two ?")
        self.assertEqual(await ask_tcp(self.ports["tcp"], QUESTION), b"")
        self.assertEqual((await ask_http(self.ports["http"]))[0], 502)
        client.transport.abortConnection()
        await until(lambda: client.lost and not self.servers["one"]["http"].clients)
        self.assertEqual(await ask_http(self.ports["http"]), (200, b"one"))
        await self.ends(program)

    async def test_http_fails(self) -> None:
        """A server that HTTP finds dead is dead for TCP and UDP, even where it would answer."""
        program = await self.serve(fail_timeout="1h")
        await self.servers["one"]["http"].kill()
        self.assertEqual(await ask_http(self.ports["http"]), (200, b"two"))
        await self.only_two_answers(program)

    async def test_udp_fails(self) -> None:
        """A server that refuses datagrams is dead for TCP and HTTP."""
        program = await self.serve(fail_timeout="1h")
        await self.servers["one"]["udp"].kill()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"?", ("127.0.0.1", self.ports["udp"]))
            await program.says("is out for")
        await self.only_two_answers(program)

    async def only_two_answers(self, program: Program) -> None:
        self.assertEqual(await self.answers(), {protocol: {b"two"} for protocol in self.ports})
        self.assertEqual(program.said.count("is out for 3600 s"), 1)
        await self.ends(program)
