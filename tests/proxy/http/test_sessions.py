"""Sessions that stay, over HTTP: what is sent, what is learned, and when."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from pylb.balance.sticky import server_id
from pylb.model import ServerSpec, StickyCookie, StickyLearn, StickyRoute
from pylb.variables import KEY_VARIABLES
from tests.balance.test_sticky import Asks
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled, turns
from tests.proxy.http.test_tunnel import AGREE, ASK

COOKIE = StickyCookie(name="id")
LEARN = {"create": ("$upstream_cookie_s",), "lookup": ("$cookie_s",)}
END = b"\r\n\r\n"


def get(*lines: str) -> bytes:
    return GET[:-2] + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def saying(name: str, *lines: str) -> bytes:
    """An answer of a server that says its name."""
    more = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 200 OK\r\n{more}Content-Length: {len(name)}\r\n\r\n{name}".encode()


def set_cookies(head: bytes) -> list[bytes]:
    return [line[12:] for line in head.split(b"\r\n") if line.startswith(b"Set-Cookie: ")]


class SessionCase(TestCase):
    timeout = 20

    def backends(self, *names: str, lines: tuple[str, ...] = ()) -> list[Backend]:
        return [Backend(self, saying(name, *lines)) for name in names]

    def specs(self, backends: list[Backend], **asked: Any) -> list[ServerSpec]:
        return [
            ServerSpec(address=backend.address, route=route, **asked)
            for backend, route in zip(backends, "abc", strict=False)
        ]

    async def ask(self, rig: Rig, *lines: str) -> tuple[bytes, bytes]:
        """The head and the body of an answer of two bytes or less."""
        client = await rig.ask(get(*lines, "Connection: close"))
        head, _, body = (await client.all()).partition(END)
        return head, body


class CookieTests(SessionCase):
    async def test_stays(self) -> None:
        """The cookie of the first answer leads to the same server, and is not sent again; it travels on to the server."""
        one, two = self.backends("1", "2")
        rig = Rig(self, one, two, sticky=COOKIE)
        _, first = await self.ask(rig)
        head, second = await self.ask(rig)
        [cookie] = set_cookies(head)
        self.assertEqual((first, second, cookie), (b"1", b"2", b"id=" + server_id(rig.pool.servers[1])))
        for _ in range(4):
            head, body = await self.ask(rig, f"Cookie: {cookie.decode()}")
            self.assertEqual((body, set_cookies(head)), (b"2", []))
        self.assertIn(b"\r\nCookie: " + cookie + b"\r\n", two.heads[-1])

    async def test_signed(self) -> None:
        """With a secret the cookie is no server's id, and an id binds nobody."""
        rig = Rig(self, *self.backends("1", "2"), sticky=StickyCookie(name="id", secret="0123456789abcdef"))
        head, first = await self.ask(rig)
        [cookie] = set_cookies(head)
        plain = server_id(rig.pool.servers[0])
        self.assertNotIn(plain, cookie)
        bodies = [(await self.ask(rig, f"Cookie: {cookie.decode()}"))[1] for _ in range(4)]
        self.assertEqual(bodies, [first] * 4)
        forged = {(await self.ask(rig, f"Cookie: id={plain.decode()}"))[1] for _ in range(4)}
        self.assertEqual(forged, {b"1", b"2"})

    async def test_moves_and_stays_there(self) -> None:
        """When its server dies the session gets another cookie, and that holds when the first server is back."""
        one, two = self.backends("1", "2")
        rig = Rig(self, servers=self.specs([one, two], fail_timeout=10.0), sticky=COOKIE)
        await one.stop()
        head, body = await self.ask(rig, "Cookie: id=a")
        self.assertEqual((body, set_cookies(head)), (b"2", [b"id=b"]))
        rig.time.advance(11)
        self.assertEqual((await self.ask(rig, "Cookie: id=b"))[1], b"2")

    async def test_servers_own_cookies_stay(self) -> None:
        """pylb's line stands behind those of the server, also when that answered many requests with the same bytes."""
        [one] = self.backends("1", lines=("Set-Cookie: x=y", "Set-Cookie: id=theirs"))
        rig = Rig(self, servers=self.specs([one]), sticky=COOKIE)
        for _ in range(2):
            head, _ = await self.ask(rig)
            self.assertEqual(set_cookies(head), [b"x=y", b"id=theirs", b"id=a"])
        head, _ = await self.ask(rig, "Cookie: id=a")
        self.assertEqual(set_cookies(head), [b"x=y", b"id=theirs"])

    async def test_not_on_own_pages(self) -> None:
        """An answer that no server gave carries none."""
        [one] = self.backends("1")
        rig = Rig(self, servers=self.specs([one], down=True), sticky=COOKIE)
        head, _ = await self.ask(rig)
        self.assertTrue(head.startswith(b"HTTP/1.1 502 "))
        self.assertEqual(set_cookies(head), [])

    async def test_interim(self) -> None:
        """Not on an answer that is not the last, but on the one that follows."""
        backend = Backend(self)
        rig = Rig(self, servers=self.specs([backend]), sticky=COOKIE)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        self.assertEqual(set_cookies(await client.until(END)), [])
        server.send(HELLO)
        self.assertEqual(set_cookies(await client.until(END)), [b"id=a"])

    async def test_upgrade(self) -> None:
        """A WebSocket's 101 carries it."""
        backend = Backend(self)
        rig = Rig(self, servers=self.specs([backend]), sticky=COOKIE)
        client = await rig.ask(ASK)
        server, _ = await backend.request()
        server.send(AGREE)
        head = await client.until(END)
        self.assertEqual((set_cookies(head), b"\r\nConnection: upgrade\r\n" in head), ([b"id=a"], True))

    async def test_retried_answer(self) -> None:
        """It names who answered, not who was tried before."""
        one = Backend(self, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        [two] = self.backends("2")
        specs = self.specs([one, two])
        rig = Rig(self, servers=specs, sticky=COOKIE, next_upstream=frozenset({"http_503"}))
        head, body = await self.ask(rig, "Cookie: id=a")
        self.assertEqual((body, set_cookies(head)), (b"2", [b"id=b"]))


class RouteTests(SessionCase):
    async def test_stays(self) -> None:
        """By the first variable that is not empty; an unknown route is a new session."""
        sticky = StickyRoute(variables=("$cookie_route", "$http_x_route"))
        rig = Rig(self, servers=self.specs(self.backends("1", "2")), sticky=sticky)
        bodies = [(await self.ask(rig, line))[1] for line in ("Cookie: route=b", "X-Route: b", "Cookie: route=x")]
        self.assertEqual(bodies, [b"2", b"2", b"1"])
        self.assertEqual((await self.ask(rig, "Cookie: route=b", "X-Route: a"))[1], b"2")

    async def test_strict(self) -> None:
        """A server that drains serves its sessions; without it they get a 502 if the operator says so."""
        sticky = StickyRoute(variables=("$cookie_route",), strict=True)
        rig = Rig(self, servers=self.specs(self.backends("1", "2")), sticky=sticky)
        heads = []
        for switch in ("drain", "down"):
            rig.pool.switch(rig.pool.servers[0], switch)
            heads.append((await self.ask(rig, "Cookie: route=a"))[0][:12])
        self.assertEqual(heads, [b"HTTP/1.1 200", b"HTTP/1.1 502"])
        self.assertEqual(await self.ask(rig), (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close", b"2"))


class LearnTests(SessionCase):
    def serve(self, *backends: Backend, **asked: Any) -> Rig:
        return Rig(self, *backends, sticky=StickyLearn(**LEARN, **asked))

    async def test_stays(self) -> None:
        """The cookie that a server sets is learned; who brings it gets that server, until nobody has for the timeout."""
        one, two = self.backends("1", "2", lines=("Set-Cookie: other=x", "set-cookie: S=7; Path=/"))
        rig = self.serve(one, two, timeout=60.0)
        self.assertEqual((await self.ask(rig))[1], b"1")
        one.answer, two.answer = (lambda head: saying("1")), (lambda head: saying("2"))
        bodies = [(await self.ask(rig, "Cookie: s=7"))[1] for _ in range(3)]
        self.assertEqual(bodies, [b"1"] * 3)
        rig.time.advance(60)
        self.assertEqual((await self.ask(rig, "Cookie: s=7"))[1], b"2")

    async def test_when(self) -> None:
        """At the end of the answer, or with `header` when its head has come."""
        for header in (False, True):
            backend = Backend(self)
            rig = self.serve(backend, header=header)
            client = await rig.ask(GET)
            server, _ = await backend.request()
            server.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=7\r\nContent-Length: 5\r\n\r\n")
            await client.until(END)
            learned = len(rig.pool.sticky)
            server.send(b"hello")
            await client.until(b"hello")
            self.assertEqual((learned, len(rig.pool.sticky)), (int(header), 1))

    async def test_head_only(self) -> None:
        """With `header` the end of an answer is no use of its session."""
        backend = Backend(self)
        rig = self.serve(backend, header=True, timeout=60.0)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=7\r\nContent-Length: 5\r\n\r\n")
        await client.until(END)
        rig.time.advance(30)
        server.send(b"hello")
        await client.until(b"hello")
        bound = [len(rig.pool.sticky.bound(Asks(cookie_s="7"), now)) for now in (59.0, 60.0)]
        self.assertEqual(bound, [1, 0])

    async def test_client_leaves(self) -> None:
        """An answer that its client did not want to the end is learned too."""
        backend = Backend(self)
        rig = self.serve(backend)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=7\r\n\r\nhello")
        await client.until(b"hello")
        client.reset()
        await settled(lambda: rig.log.records)
        self.assertEqual(len(rig.pool.sticky), 1)

    async def test_upgrade(self) -> None:
        """A WebSocket's session is learned when it begins."""
        backend = Backend(self)
        rig = self.serve(backend)
        client = await rig.ask(ASK)
        server, _ = await backend.request()
        server.send(AGREE[:-2] + b"Set-Cookie: s=7\r\n\r\n")
        await client.until(END)
        self.assertEqual(len(rig.pool.sticky), 1)

    async def test_failed_tries(self) -> None:
        """Who did not answer is not learned, and keeps no session that another one answered."""
        dead, [two] = Backend(self), self.backends("2", lines=("Set-Cookie: s=7",))
        rig = self.serve(dead, two)
        rig.pool.sticky.bind(Asks(upstream_cookie_s="7"), rig.pool.servers[0], 0.0)
        await dead.stop()
        self.assertEqual((await self.ask(rig, "Cookie: s=7"))[1], b"2")
        self.assertEqual(rig.pool.sticky.bound(Asks(cookie_s="7"), 0.0), [rig.pool.servers[1]])

    async def test_nobody_answers(self) -> None:
        """pylb's own page says nothing of a session."""
        rig = Rig(
            self,
            servers=[ServerSpec(address=Backend(self).address, down=True)],
            sticky=StickyLearn(create=("$remote_addr",), lookup=("$remote_addr",)),
        )
        await self.ask(rig)
        self.assertEqual(len(rig.pool.sticky), 0)


class VariableTests(SessionCase):
    async def test_every_variable(self) -> None:
        """An exchange answers for every variable that a key of HTTP may name, from its request or its connection."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(b"GET /a?b=c HTTP/1.1\r\nHost: Site:80\r\nX-Y: z\r\n\r\n")
        server, _ = await backend.request()
        (connection,) = rig.connections._live
        exchange = connection._request
        said = {name: exchange.variable(name) for name in KEY_VARIABLES["http"]}
        expected = {
            "args": b"b=c",
            "binary_remote_addr": b"\x7f\0\0\1",
            "host": b"site",
            "is_args": b"?",
            "query_string": b"b=c",
            "remote_addr": b"127.0.0.1",
            "remote_port": b"%d" % client.transport.getHost().port,
            "request_method": b"GET",
            "request_uri": b"/a?b=c",
            "scheme": b"http",
            "server_addr": b"127.0.0.1",
            "server_port": b"%d" % rig.port.getHost().port,
            "server_protocol": b"HTTP/1.1",
            "ssl_protocol": b"",
            "ssl_server_name": b"",
            "ssl_session_id": b"",
            "uri": b"/a",
        }
        self.assertEqual(said, expected)
        self.assertEqual((exchange.variable("http_x_y"), exchange.variable("upstream_http_date")), (b"z", b""))
        server.send(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\n")
        await client.until(END)
        self.assertEqual(exchange.variable("upstream_http_date"), b"now")
        server.send(b"ok")
        await client.until(b"ok")
        await turns()
