"""Sessions that stay, in the running program: each kind for each protocol; servers that drain, that are down, that die."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.backends import round_trips
from tests.functional.rig import Program, Rig, Server, ask_tcp, ask_udp, free_port

QUESTION = b"GET / HTTP/1.0\r\n\r\n"
BY_ADDRESS = {"type": "learn", "create": "$remote_addr", "lookup": "$remote_addr"}
#: All clients come to 127.0.0.1, which is the route of the server `two`.
BY_ROUTE = {"type": "route", "variables": ["$server_addr"]}


class LoggingIn(Resource):
    """Says its name, and begins a session with who has none."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name.encode()

    def render(self, request: Any) -> bytes:
        if request.getCookie(b"sid") is None:
            request.addCookie(b"sid", b"of-" + self._name)
        return self._name


class StickyRig(Rig):
    """Three servers, `one`, `two` and `three`, that speak HTTP and, at the same port, UDP."""

    async def serve(self, sticky: dict[str, Any], **two: Any) -> Program:
        """`two` is what is asked of the second server."""
        self.servers: dict[str, tuple[Server, Server]] = {}
        specs: list[dict[str, Any]] = []
        for name in ("one", "two", "three"):
            number = free_port()
            site = self.server(lambda name=name: Site(LoggingIn(name)), number)
            self.servers[name] = site, self.udp(name, number)
            specs.append({"address": site.address, "fail_timeout": "1h"})
        specs[1] |= {"route": "127.0.0.1", **two}
        cookies = sticky["type"] == "cookie" or "$cookie" in str(sticky)
        self.ports = {protocol: free_port() for protocol in (("http",) if cookies else ("http", "tcp", "udp"))}
        return await self.pylb(
            pools={"p": {"servers": specs, "sticky": sticky}},
            listeners={
                protocol: {"protocol": protocol, "listen": f"127.0.0.1:{port}", "pool": "p"}
                for protocol, port in self.ports.items()
            },
        )

    async def http(self, *cookies: str) -> tuple[str, list[str]]:
        """Who answers, or the status if it is not 200, and the cookies that it sets."""
        headers = Headers({"Cookie": ["; ".join(cookies)]} if cookies else {})
        url = f"http://127.0.0.1:{self.ports['http']}/".encode()
        response = await Agent(reactor).request(b"GET", url, headers)
        body = (await readBody(response)).decode()
        lines = response.headers.getRawHeaders("Set-Cookie", [])
        return body if response.code == 200 else str(response.code), [line.partition(";")[0] for line in lines]

    async def ask(self, protocol: str) -> str:
        """Who serves a client that brings nothing along; nothing if nobody does."""
        if protocol == "http":
            return (await self.http())[0]
        if protocol == "tcp":
            return (await ask_tcp(self.ports["tcp"], QUESTION)).decode().split()[-1]
        return (await ask_udp(self.ports["udp"], b"?")).decode().split()[0]

    async def kill(self, name: str) -> None:
        for server in self.servers[name]:
            await server.kill()


class HttpTests(StickyRig):
    async def test_cookies(self) -> None:
        """Plain or signed, the cookie that pylb sets leads back; the application's own stays beside it."""
        for more in ({}, {"secret": "correct horse battery"}):
            program = await self.serve({"type": "cookie", "name": "srv", "path": "/", **more})
            await self.http()
            name, cookies = await self.http()
            [cookie] = [cookie for cookie in cookies if cookie.startswith("srv=")]
            self.assertEqual((name, len(cookies), cookie == "srv=127.0.0.1"), ("two", 2, not more))
            again = [await self.http(cookie, "sid=x") for _ in range(4)]
            self.assertEqual(again, [("two", [])] * 4)
            await self.ends(program)

    async def test_cookie_moves(self) -> None:
        """When a session's server dies another one takes it over, with a new cookie, and keeps it."""
        program = await self.serve({"type": "cookie", "name": "srv"})
        await self.kill("two")
        name, [cookie] = await self.http("srv=127.0.0.1", "sid=x")
        self.assertNotEqual((name, cookie), ("two", "srv=127.0.0.1"))
        again = [await self.http(cookie, "sid=x") for _ in range(4)]
        self.assertEqual(again, [(name, [])] * 4)
        await self.ends(program)

    async def test_route(self) -> None:
        """By what the client brings."""
        program = await self.serve({"type": "route", "variables": ["$cookie_node", "$arg_node"]})
        names = [(await self.http("node=127.0.0.1"))[0] for _ in range(4)]
        self.assertEqual(names, ["two"] * 4)
        await self.ends(program)

    async def test_learned(self) -> None:
        """By what the server's answer set."""
        program = await self.serve({"type": "learn", "create": "$upstream_cookie_sid", "lookup": "$cookie_sid"})
        name, [cookie] = await self.http()
        names = [(await self.http(cookie))[0] for _ in range(4)]
        self.assertEqual(names, [name] * 4)
        await self.ends(program)


class EveryProtocolTests(StickyRig):
    async def test_learned_by_address(self) -> None:
        """One session of a client over all three protocols."""
        program = await self.serve(BY_ADDRESS)
        names = {await self.ask(protocol) for _ in range(3) for protocol in self.ports}
        self.assertEqual(len(names), 1)
        await self.ends(program)

    async def test_route(self) -> None:
        """By a variable that all three have; a server that drains serves those who belong to it."""
        for more in ({}, {"drain": True}):
            program = await self.serve(BY_ROUTE, **more)
            names = {protocol: {await self.ask(protocol) for _ in range(3)} for protocol in self.ports}
            self.assertEqual(names, {protocol: {"two"} for protocol in self.ports})
            self.assertTrue(await self.answers_a_datagram())
            await self.ends(program)

    async def test_down(self) -> None:
        """Sessions of a server that is down go to the others."""
        program = await self.serve(BY_ROUTE, down=True)
        names = {protocol: {await self.ask(protocol) for _ in range(4)} for protocol in self.ports}
        self.assertEqual(names, {protocol: {"one", "three"} for protocol in self.ports})
        await self.ends(program)

    async def test_strict(self) -> None:
        """Or nowhere: 502, a connection that is closed, no answer to a datagram."""
        program = await self.serve({**BY_ROUTE, "strict": True}, down=True)
        self.assertEqual((await self.http())[0], "502")
        self.assertEqual(await ask_tcp(self.ports["tcp"], QUESTION), b"")
        self.assertFalse(await self.answers_a_datagram())
        await self.ends(program)

    async def answers_a_datagram(self) -> bool:
        """Whether one gets an answer, by the time that a later question over HTTP has got its own."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.sendto(b"?", ("127.0.0.1", self.ports["udp"]))
            await self.http()
            await round_trips()
            try:
                return bool(client.recv(100))
            except BlockingIOError:
                return False

    async def test_dies(self) -> None:
        """A client whose server dies moves, and stays where it has come."""
        for protocol in ("tcp", "udp", "http"):
            program = await self.serve(BY_ADDRESS)
            first = await self.ask(protocol)
            await self.kill(first)
            if protocol == "udp":  # whose datagram is lost
                await self.answers_a_datagram()
                await program.says("is out for")
            second = await self.ask(protocol)
            self.assertNotEqual(second, first)
            for server in self.servers[first]:
                server.start()
            self.assertEqual({await self.ask(each) for each in self.ports for _ in range(2)}, {second})
            await self.ends(program)
