"""Sessions that stay, over TCP: who is sent where, and what is learned."""

from __future__ import annotations

from OpenSSL.SSL import TLS1_2_VERSION
from twisted.internet.task import Clock

from pylb.model import ServerSpec, StickyLearn, StickyRoute
from tests.backends import Backend, dead_address, until
from tests.proxy.streams import StreamCase, greeting, send_and_close
from tests.proxy.test_tls import Careless, TLSCase
from tests.proxy.test_variables import Resuming

BY_ADDRESS = {"create": ("$remote_addr",), "lookup": ("$remote_addr",)}


class TcpSessions(StreamCase):
    async def named(self, *names: str) -> list[Backend]:
        """Servers that say their name and close."""
        return [await self.backend(send_and_close(name.encode())) for name in names]

    async def answers(self, count: int = 1, tls: object = None) -> str:
        """What clients hear, one after the other; `-` is nothing."""
        heard = ""
        for _ in range(count):
            client = await self.client(tls=tls) if tls else await self.client()
            await until(lambda client=client: client.lost)
            heard += client.heard.decode() or "-"
            await self.over()
        return heard


class LearnTests(TcpSessions):
    async def serve(self, *servers, **asked) -> None:
        self.time = Clock()
        await self.proxy(*servers, time=self.time, pool={"sticky": StickyLearn(**BY_ADDRESS, timeout=60.0, **asked)})

    async def test_stays(self) -> None:
        """A client comes to the server that it had, until it has not come for the timeout."""
        await self.serve(*await self.named("1", "2"))
        self.assertEqual(await self.answers(4), "1111")
        self.time.advance(59)
        self.assertEqual(await self.answers(), "1")
        self.time.advance(60)
        self.assertEqual(await self.answers(3), "222")

    async def test_only_whom_it_reached(self) -> None:
        """A server that could not be reached is not learned; the one that was is, and keeps the client."""
        await self.serve(dead_address(self), *await self.named("2", "3"))
        self.assertEqual(await self.answers(3), "222")
        self.time.advance(11)
        self.assertEqual(await self.answers(3), "222")

    async def test_nobody_reached(self) -> None:
        """When nobody can be reached nothing is learned."""
        await self.serve(dead_address(self))
        self.assertEqual((await self.answers(), len(self.pool.sticky)), ("-", 0))

    async def test_moves_and_stays_there(self) -> None:
        """A session whose server dies moves, and stays when that is back."""
        one, two = await self.named("1", "2")
        await self.serve(one, two)
        self.assertEqual(await self.answers(2), "11")
        first, _ = self.pool.servers
        self.pool.switch(first, "down")
        self.assertEqual(await self.answers(2), "22")
        self.pool.switch(first, "up")
        self.assertEqual(await self.answers(2), "22")

    async def test_drain(self) -> None:
        """A server that drains serves those who belong to it."""
        await self.serve(*await self.named("1", "2"))
        self.assertEqual(await self.answers(), "1")
        self.pool.switch(self.pool.servers[0], "drain")
        self.assertEqual(await self.answers(2), "11")
        self.time.advance(60)
        self.assertEqual(await self.answers(2), "22")

    async def test_strict(self) -> None:
        """A client whose server cannot serve is closed."""
        await self.serve(*await self.named("1", "2"), strict=True)
        self.assertEqual(await self.answers(), "1")
        self.pool.switch(self.pool.servers[0], "down")
        self.assertEqual((await self.answers(2), self.pool.refused), ("--", 2))


class RouteTests(TcpSessions):
    async def test_by_port(self) -> None:
        """Any variable of a connection may name the server."""
        one, two = await self.named("1", "2")
        servers = [ServerSpec(address=one.address, route="x"), ServerSpec(address=two.address, route="127.0.0.1")]
        await self.proxy(*servers, pool={"sticky": StickyRoute(variables=("$ssl_server_name", "$server_addr"))})
        self.assertEqual(await self.answers(3), "222")


class TLSTests(TLSCase, TcpSessions):
    async def test_by_server_name(self) -> None:
        """The name that a client asks for is the route; without one its session is new."""
        one, two = await self.named("1", "2")
        servers = [ServerSpec(address=one.address, route="a.test"), ServerSpec(address=two.address, route="b.test")]
        await self.proxy(*servers, pool={"sticky": StickyRoute(variables=("$ssl_server_name",))}, tls=self.server_tls())
        heard = [await self.answers(tls=Careless(name)) for name in ("b.test", "b.test", "a.test", "b.test")]
        self.assertEqual("".join(heard), "2212")
        self.assertEqual(await self.answers(2, tls=Careless("c.test")), "12")

    async def test_learned_by_session(self) -> None:
        """A client that resumes its TLS 1.2 session gets its server again; others are balanced."""
        backends = [await self.backend(greeting(name.encode())) for name in ("1", "2")]
        variables = ("$ssl_session_id",)
        await self.proxy(
            *backends, pool={"sticky": StickyLearn(create=variables, lookup=variables)}, tls=self.server_tls()
        )
        first = Resuming(None, TLS1_2_VERSION)
        heard = await self.hello(first)
        for _ in range(3):
            heard += await self.hello(Resuming(first, TLS1_2_VERSION))
        heard += await self.hello(Resuming(None, TLS1_2_VERSION))
        self.assertEqual(heard, "11112")

    async def hello(self, tls: Resuming) -> str:
        """Who serves a client, which then keeps its session."""
        client = await self.client(tls=tls)
        await until(lambda: client.heard)
        tls.session = client.transport.getHandle().get_session()
        client.transport.loseConnection()
        await self.over()
        return client.heard.decode()
