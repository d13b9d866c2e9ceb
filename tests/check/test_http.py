"""pylb.check.http: requests, and what is looked at in their answers."""

from __future__ import annotations

import re
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from pylb.balance.server import Server
from pylb.check.kinds import make_check
from pylb.model import HeaderTest, HttpCheck, HttpMatch, InetAddress, ServerSpec, UpstreamTLS
from pylb.proxy.tls import ClientTLS
from tests.backends import Backend, dead_address, until
from tests.check.asking import Asking, says

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status: int = 200, body: bytes = b"", *headers: bytes) -> bytes:
    lines = b"".join(b"%b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d Reason\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), lines, body)


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def wanted(**match: Any) -> HttpCheck:
    return HttpCheck(match=HttpMatch(**match))


class RequestTests(Asking):
    async def sent(self, where: InetAddress, **asked: Any) -> bytes:
        self.assertIsNone(await self.verdict(HttpCheck(**asked), where))
        return bytes(self.server.peers[-1].heard)

    async def test_plain(self):
        """GET / of the server, by the name that the operator knows, over a connection that closes."""
        where = self.tcp(says(OK))
        expected = f"GET / HTTP/1.1\r\nHost: {where}\r\nUser-Agent: pylb\r\nConnection: close\r\n\r\n"
        self.assertEqual(await self.sent(where), expected.encode())

    async def test_everything(self):
        """uri, method, and headers, which may be other ones in the place of pylb's."""
        headers = (("host", "app.example.com"), ("X-Check", "1"))
        sent = await self.sent(self.tcp(says(OK)), uri="/health?deep=1", method="OPTIONS", headers=headers)
        lines = ["OPTIONS /health?deep=1 HTTP/1.1", "User-Agent: pylb", "Connection: close"]
        lines += ["host: app.example.com", "X-Check: 1", "", ""]
        self.assertEqual(sent.decode(), "\r\n".join(lines))

    async def test_unix(self):
        """A Unix socket has no name; as in nginx it is localhost."""
        self.assertIsNone(await self.verdict(HttpCheck(), self.unix(says(OK))))
        self.assertIn(b"\r\nHost: localhost\r\n", self.server.peers[0].heard)

    async def test_real_server(self):
        """twisted.web is understood, also over HEAD."""
        root = Resource()
        root.putChild(b"health", Page())
        where = self.tcp(Site(root))
        self.assertIsNone(
            await self.verdict(HttpCheck(uri="/health", match=HttpMatch(body=re.compile(b"fine"))), where)
        )
        self.assertIsNone(await self.verdict(HttpCheck(uri="/health", method="HEAD", keepalive_time=9.0), where))
        self.assertEqual(await self.verdict(HttpCheck(uri="/else"), where), "status 404")

    async def test_port(self):
        """Another port of the same host; the name stays."""
        where, dead = self.tcp(says(OK)), dead_address(self)
        target = self.target(dead, port=where.port)
        self.assertIsNone(await self.ask(make_check(HttpCheck(port=where.port)), target))
        self.assertIn(b"\r\nHost: %b\r\n" % str(dead).encode(), self.server.peers[0].heard)

    async def test_other_name(self):
        """A server that is called something else from now on is asked by its new name."""
        target, check = self.target(where := self.tcp(says(OK))), make_check(HttpCheck(keepalive_time=60.0))
        await self.ask(check, target)
        target.use(Server(ServerSpec(address=InetAddress("b.example.com", 80)), where), None, lambda: True)
        await self.ask(check, target)
        heard = bytes(self.server.peers[0].heard)
        self.assertLess(
            heard.index(b"\r\nHost: %b\r\n" % str(where).encode()), heard.index(b"\r\nHost: b.example.com:80\r\n")
        )
        target.leave()

    async def test_refused(self):
        self.assertIn("refused", await self.verdict(HttpCheck(), dead_address(self)))


class Page(Resource):
    isLeaf = True

    def render(self, request):
        return b"all is fine"


class HeadTests(Asking):
    async def says_of(self, spec: HttpCheck, data: bytes) -> Any:
        return await self.verdict(spec, self.tcp(says(data)), 1.0)

    async def test_status(self):
        """By default nginx's 2xx and 3xx; else what is asked for."""
        for status, reason in ((200, None), (399, None), (400, "status 400"), (503, "status 503")):
            self.assertEqual(await self.says_of(HttpCheck(), answer(status)), reason)
        spec = wanted(status=((204, 204), (500, 510)))
        for status, reason in ((204, None), (505, None), (200, "status 200"), (511, "status 511")):
            self.assertEqual(await self.says_of(spec, answer(status)), reason)

    async def test_interim(self):
        """1xx is no answer yet; 101 is one."""
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        self.assertIsNone(await self.says_of(HttpCheck(), interim + interim + answer()))
        self.assertEqual(await self.says_of(HttpCheck(), interim + answer(500)), "status 500")
        self.assertEqual(await self.says_of(HttpCheck(), answer(101)), "status 101")

    async def test_headers(self):
        """All that is asked for must hold; of several lines of one name one is enough."""
        head = answer(200, b"", b"X-State: ready", b"X-State: eager", b"Server: a/1.2")
        table = {
            ("x-state", "present", ""): None,
            ("x-else", "present", ""): "header x-else: none, where present is wanted",
            ("x-else", "absent", ""): None,
            ("server", "absent", ""): "header server: a/1.2, where absent is wanted",
            ("x-state", "=", "eager"): None,
            ("x-state", "=", "eage"): "header x-state: ready, eager, where = eage is wanted",
            ("x-state", "!=", "lazy"): None,
            ("x-state", "!=", "ready"): "header x-state: ready, eager, where != ready is wanted",
            ("server", "~", r"/1\.\d"): None,
            ("server", "~", "^b"): "header server: a/1.2, where ~ ^b is wanted",
            ("server", "!~", "^b"): None,
            ("server", "!~", "a"): "header server: a/1.2, where !~ a is wanted",
        }
        for test, reason in table.items():
            tests = (HeaderTest("content-length", "present"), HeaderTest(*test))
            self.assertEqual(await self.says_of(wanted(header=tests), head), reason)

    async def test_not_http(self):
        reason = await self.says_of(HttpCheck(), b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        self.assertEqual(reason, "its answer is not HTTP: malformed status line")
        reason = await self.says_of(HttpCheck(), b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(reason, "its answer is not HTTP: invalid Content-Length")

    async def test_says_nothing(self):
        where = self.tcp(says(b"", close=True))
        self.assertEqual(await self.verdict(HttpCheck(), where), "closed the connection")
        self.assertEqual(await self.verdict(HttpCheck(), self.tcp(says(b"HTTP/1.1 2")), 0.05), "late")

    async def test_endless_head(self):
        self.assertIn("320 KiB", await self.says_of(HttpCheck(), b"HTTP/1.1 200 OK\r\n" + b"a" * 400_000))

    async def test_body_that_does_not_matter(self):
        """Is not waited for."""
        self.assertIsNone(await self.says_of(HttpCheck(), b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"))


class BodyTests(Asking):
    FINE = re.compile(b"(?i)fine")

    async def says_of(self, data: bytes, close: bool = False, **match: Any) -> Any:
        spec = wanted(**(match or {"body": self.FINE}))
        return await self.verdict(spec, self.tcp(says(data, close)), 1.0)

    async def test_each_framing(self):
        """By length, in chunks, or until the end."""
        until_close = b"HTTP/1.1 200 OK\r\n\r\nall is "
        for fine, bad in (
            (answer(200, b"all is fine"), answer(200, b"all is lost")),
            (chunked(b"all is f", b"in", b"e"), chunked(b"all is fi", b"l")),
            (until_close + b"fine", until_close + b"lost"),
        ):
            self.assertIsNone(await self.says_of(fine, close=True))
            self.assertEqual(await self.says_of(bad, close=True), "'(?i)fine' is not in its body")

    async def test_not_to_be_found(self):
        match = {"body": self.FINE, "not_body": True}
        self.assertIsNone(await self.says_of(answer(200, b"lost"), **match))
        self.assertEqual(await self.says_of(answer(200, b"fine"), **match), "'(?i)fine' is in its body")

    async def test_chunks_are_no_body(self):
        """Neither their lines nor the head are searched."""
        spec = {"body": re.compile(b"HTTP|\r\n"), "not_body": True}
        self.assertIsNone(await self.says_of(chunked(b"a", b"b"), **spec))

    async def test_first_256k(self):
        """What comes later is not looked at, and not waited for."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
        self.assertIsNone(await self.says_of(head + b"x" * (256 * 1024 - 4) + b"fine"))
        self.assertIn("not in", await self.says_of(head + b"x" * (256 * 1024 - 3) + b"fine"))

    async def test_cut_short(self):
        """A body that lacks its end is no answer."""
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nfine"
        self.assertIn("closed the connection", await self.says_of(data, close=True))
        self.assertIn("closed the connection", await self.says_of(chunked(b"fine")[:-2], close=True))

    async def test_bad_chunks(self):
        reason = await self.says_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfine\r\n")
        self.assertRegex(reason, "^its answer is not HTTP: ")

    async def test_drop_by_drop(self):
        """Whatever comes in pieces is read as if it had come at once."""
        data = b"HTTP/1.1 103 Early Hints\r\n\r\n" + chunked(b"all is ", b"fine")
        pieces = [data[place : place + 3] for place in range(0, len(data), 3)]

        def behave(peer, heard):
            if heard:
                drip()

        def drip():
            if pieces and not self.server.peers[0].lost:
                self.server.peers[0].transport.write(pieces.pop(0))
                reactor.callLater(0, drip)

        self.assertIsNone(await self.verdict(wanted(body=self.FINE), self.tcp(behave)))


class KeptTests(Asking):
    SPEC = HttpCheck(keepalive_time=60.0)

    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.deadlines.clock = lambda: self.now

    async def ask_all(self, *seconds: float, spec: HttpCheck = SPEC) -> list[Any]:
        """What a check says at such times, of the server at `self.where`."""
        check, target, said = make_check(spec), self.target(self.where), []
        for self.now in seconds:
            said.append(await self.ask(check, target, 1.0))
        return said

    async def test_kept(self):
        """One connection, until it is too old."""
        self.where = self.tcp(says(OK))
        self.assertEqual(await self.ask_all(0.0, 5.0, 59.9), [None] * 3)
        self.assertEqual(len(self.server.peers), 1)
        self.assertEqual(bytes(self.server.peers[0].heard).count(b"\r\nConnection: keep-alive\r\n"), 3)
        self.assertEqual(await self.ask_all(0.0, 60.0), [None] * 2)
        self.assertEqual(len(self.server.peers), 3)
        await until(lambda: self.server.peers[1].lost)

    async def test_not_kept(self):
        """Where the server, or the answer, does not allow it."""
        for data in (
            answer(200, b"", b"Connection: close"),
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            OK + b"more",
        ):
            self.where = self.tcp(says(data))
            self.assertEqual(await self.ask_all(0.0, 1.0), [None] * 2)
            self.assertEqual(len(self.server.peers), 2)

    async def test_failed(self):
        """After a failure a new one is made."""
        answers = [answer(500), OK]
        self.where = self.tcp(lambda peer, heard: peer.transport.write(answers.pop(0)) if heard else None)
        self.assertEqual(await self.ask_all(0.0, 1.0), ["status 500", None])
        self.assertEqual(len(self.server.peers), 2)

    async def test_gone(self):
        """That the server has closed it meanwhile is no failure."""
        self.where = self.tcp(says(OK))
        check, target = make_check(self.SPEC), self.target(self.where)
        self.assertIsNone(await self.ask(check, target))
        self.server.peers[0].transport.loseConnection()
        await until(lambda: self.server.peers[0].lost)
        self.assertIsNone(await self.ask(check, target))

    async def test_stale(self):
        """Nor that it closes it just when it is used again; a new connection decides."""

        def behave(peer, heard):
            if heard and bytes(peer.heard).count(b"GET") == 2:
                peer.transport.abortConnection()
            elif heard:
                peer.transport.write(OK)

        self.where = self.tcp(behave)
        self.assertEqual(await self.ask_all(0.0, 1.0), [None] * 2)
        self.assertEqual(len(self.server.peers), 2)

    async def test_broken_answer(self):
        """An answer that has begun and ends is a failure, on a connection that was kept, too."""

        def behave(peer, heard):
            if heard and bytes(peer.heard).count(b"GET") == 2:
                peer.transport.write(b"HTTP/1.1 2")
                peer.transport.loseConnection()
            elif heard:
                peer.transport.write(OK)

        self.where = self.tcp(behave)
        self.assertEqual(await self.ask_all(0.0, 1.0), [None, 'closed the connection after "HTTP/1.1 2"'])

    async def test_speaks_unasked(self):
        """What comes between two checks is the answer to neither."""
        self.where = self.tcp(says(OK))
        check, target = make_check(self.SPEC), self.target(self.where)
        self.assertIsNone(await self.ask(check, target))
        self.server.peers[0].transport.write(answer(408))
        await until(lambda: target._kept.received)
        self.assertIsNone(await self.ask(check, target))
        self.assertEqual(len(self.server.peers), 2)


class TlsTests(Asking):
    def setUp(self):
        super().setUp()
        self.authority = trustme.CA()
        self.ca = str(self.mktemp())
        self.authority.cert_pem.write_to_path(self.ca)

    def tls(self, name: str) -> InetAddress:
        issued = self.authority.issue_cert(name)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        issued.configure_cert(context)
        options = CertificateOptions()
        options._context = context
        return self.tcp(TLSMemoryBIOFactory(options, False, Backend(says(OK)), reactor))

    async def said(self, name: str, **spec: Any) -> Any:
        target = self.target(self.tls(name), ClientTLS(UpstreamTLS(**spec)))
        return await self.ask(make_check(HttpCheck()), target)

    async def test_right(self):
        """As clients of the pool do it."""
        self.assertIsNone(await self.said("app.internal", ca=self.ca, server_name="app.internal"))

    async def test_wrong(self):
        """A server with the wrong certificate is unhealthy, and why is said."""
        reason = await self.said("else.internal", ca=self.ca, server_name="app.internal")
        self.assertEqual(reason, "its certificate is not for app.internal")
        other = str(self.mktemp())
        trustme.CA().cert_pem.write_to_path(other)
        self.assertRegex(await self.said("app.internal", ca=other, server_name="app.internal"), "^its certificate ")

    async def test_no_tls(self):
        """One that does not speak it at all."""
        target = self.target(self.tcp(says(OK)), ClientTLS(UpstreamTLS(verify=False)))
        self.assertIsInstance(await self.ask(make_check(HttpCheck()), target), str)
