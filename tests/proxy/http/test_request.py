"""What a client gets for one request, over real sockets."""

from twisted.trial.unittest import TestCase

from pylb.model import Route
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled, turns

HEAD = b"\r\n\r\n"


class ForwardingTests(TestCase):
    timeout = 20

    async def test_get(self):
        """A request goes to the server and its answer comes back, with what pylb adds and drops."""
        headers = b"\r\nServer: x\r\nDate: y\r\nKeep-Alive: 5\r\nA: 1\r\nA: 2\r\n\r\n"
        backend = Backend(self, HELLO.replace(HEAD, headers, 1))
        rig = Rig(self, backend)
        client = await rig.ask(b"GET /x?y HTTP/1.1\r\nHost: A:1\r\nTE: trailers\r\nConnection: te\r\nB: 1\r\n\r\n")
        answer = await client.until(b"hello")
        self.assertEqual(
            backend.heads,
            [
                b"GET /x?y HTTP/1.1\r\nHost: A:1\r\nB: 1\r\nX-Forwarded-For: 127.0.0.1\r\n"
                b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: A:1\r\n\r\n"
            ],
        )
        self.assertEqual(
            answer, b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: y\r\nA: 1\r\nA: 2\r\nContent-Length: 5\r\n\r\nhello"
        )

    async def test_asterisk(self):
        """`OPTIONS *` is a request like others, and still says `*` to the server."""
        backend = Backend(self, HELLO)
        client = await Rig(self, backend).ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.until(b"hello")
        self.assertTrue(backend.heads[0].startswith(b"OPTIONS * HTTP/1.1\r\n"))

    async def test_trusted_peer(self):
        """A trusted proxy in front is believed and its list continued."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend, trusted=["127.0.0.0/8"])
        claims = b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"
        client = await rig.ask(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % claims)
        await client.until(b"hello")
        self.assertIn(claims.replace(b"1.1.1.1", b"1.1.1.1, 127.0.0.1"), backend.heads[0])

    async def test_request_body(self):
        """A body of known length streams to the server."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
        server = await backend.accepted()
        self.assertIn(b"\r\nContent-Length: 10\r\n", await server.until(b"01234"))
        client.send(b"56789")
        await server.until(b"56789")
        server.send(HELLO)
        await client.until(b"hello")
        self.assertEqual(client.received, b"")

    async def test_chunked_request_body(self):
        """A chunked body is framed anew, its extensions dropped, its trailers passed on."""
        backend = Backend(self)
        rig = Rig(self, backend)
        body = b"3;x=y\r\nabc\r\n002\r\nde\r\n0\r\nSum: 1\r\nHost: b\r\n\r\n"
        await rig.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n" + body)
        server, head = await backend.request()
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", head)
        self.assertEqual(await server.until(b"Sum: 1\r\n\r\n"), b"5\r\nabcde\r\n0\r\nSum: 1\r\n\r\n")

    async def test_expect(self):
        """Expect: 100-continue travels to the server and its 100 back, before any body."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        server, head = await backend.request()
        self.assertIn(b"\r\nExpect: 100-continue\r\n", head)
        server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(await client.until(HEAD), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"hi")
        await server.until(b"hi")
        server.send(HELLO)
        await client.until(b"hello")
        self.assertEqual(rig.log.statuses, [200])

    async def test_expect_not_confirmed(self):
        """Without a 100 nobody knows whether a server reads the body or takes it for its next request: no use afterwards."""
        ask = b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\nhi"
        interim = b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"
        for answers, kept in ((HELLO, 0), (interim[0] + HELLO, 0), (interim[1] + HELLO, 1)):
            backend = Backend(self)
            rig = Rig(self, backend)
            client = await rig.ask(ask)
            server = await backend.accepted()
            await server.until(b"hi")
            server.send(answers)
            await client.until(b"hello")
            self.assertEqual(len(rig.idle), kept)
            if not kept:
                await server.all()

    async def test_early_hints(self):
        """Other interim answers are passed on too, with their headers, and the final one follows."""
        backend = Backend(self, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n" + HELLO)
        client = await Rig(self, backend).ask(GET)
        self.assertEqual(await client.until(HEAD), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        self.assertIn(b"200 OK", await client.until(b"hello"))

    async def test_interim_for_http_1_0(self):
        """An HTTP/1.0 client knows no interim answers and gets none."""
        backend = Backend(self, b"HTTP/1.1 103 Early Hints\r\n\r\n" + HELLO)
        answer = await Rig(self, backend).answer(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))

    async def test_without_host(self):
        """An HTTP/1.0 request without Host goes on with the address it came to."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend)
        await rig.answer(b"GET / HTTP/1.0\r\n\r\n")
        own = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % rig.port.getHost().port
        self.assertTrue(backend.heads[0].startswith(own))
        self.assertNotIn(b"X-Forwarded-Host", backend.heads[0])


class FramingTests(TestCase):
    timeout = 20

    async def test_chunked(self):
        """A chunked answer is framed anew and its trailers passed on."""
        backend = Backend(
            self,
            b"HTTP/1.1 200 OK\r\nTrailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;x\r\nabc\r\n2\r\nde\r\n0\r\nSum: 1\r\nContent-Length: 9\r\n\r\n",
        )
        client = await Rig(self, backend).ask(GET)
        self.assertEqual(
            await client.until(b"Sum: 1\r\n\r\n"),
            b"HTTP/1.1 200 OK\r\nTrailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nSum: 1\r\n\r\n",
        )

    async def test_until_close(self):
        """What lasts until the server closes is chunked for the client, whose connection lives on."""
        backend = Backend(self)
        client = await Rig(self, backend).ask(GET)
        server, _ = await backend.request()
        server.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", await client.until(b"abc\r\n"))
        server.close()
        await client.until(b"0\r\n\r\n")
        client.send(GET)
        server, _ = await backend.request()
        server.send(HELLO)
        await client.until(b"hello")

    async def test_http_1_0_client(self):
        """An HTTP/1.0 client gets no chunks and no trailers, but the end of the connection."""
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nSum: 1\r\n\r\n"
        answer = await Rig(self, Backend(self, chunked)).answer(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertEqual(answer, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde")

    async def test_http_1_0_keep_alive(self):
        """An HTTP/1.0 client that asks for it keeps its connection when the length is known."""
        rig = Rig(self, Backend(self, HELLO))
        client = await rig.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
        self.assertEqual([await client.until(b"hello"), await client.until(b"hello")], [answer] * 2)

    async def test_close(self):
        """A client that says close is answered so, and the connection ends."""
        answer = await Rig(self, Backend(self, HELLO)).answer(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        self.assertEqual(answer, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

    async def test_without_body(self):
        """Answers to HEAD, 204 and 304 end with their head, whatever they announce; the next one follows."""
        cases = [
            (b"HEAD", b"200 OK\r\nContent-Length: 0007", b"200 OK\r\nContent-Length: 7"),
            (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked", b"200 OK"),
            (b"HEAD", b"200 OK", b"200 OK"),
            (b"GET", b"304 Not Modified\r\nContent-Length: 7", b"304 Not Modified\r\nContent-Length: 7"),
            (b"GET", b"304 Not Modified", b"304 Not Modified"),
            (b"GET", b"204 No Content\r\nContent-Length: 7", b"204 No Content"),
            (b"GET", b"200 OK\r\nContent-Length: 0", b"200 OK\r\nContent-Length: 0"),
        ]
        answers = iter([sent for _, sent, _ in cases])
        backend = Backend(self, lambda head: b"HTTP/1.1 %b\r\n\r\n" % next(answers))
        client = await Rig(self, backend).ask(b"".join(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % case[0] for case in cases))
        seen = [await client.until(HEAD) for _ in cases]
        self.assertEqual(seen, [b"HTTP/1.1 %b\r\n\r\n" % case[2] for case in cases])
        self.assertEqual(len(backend.peers), 1)

    async def test_truncated(self):
        """An answer that the server cuts short is cut for the client too, in every framing."""
        cases = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"\r\nContent-Length: 9\r\n\r\nabc"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", b"chunked\r\n\r\n3\r\nabc\r\n"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0", b"chunked\r\n\r\n3\r\nabc\r\n"),
        ]
        for sent, seen in cases:
            backend = Backend(self)
            rig = Rig(self, backend)
            client = await rig.ask(GET)
            server, _ = await backend.request()
            server.send(sent)
            server.close()
            self.assertTrue((await client.all()).endswith(seen), client.received)
            self.assertEqual(rig.log.statuses, [200])

    async def test_reset_until_close(self):
        """A reset is no end of an answer: chunks stay without their last, and who waits for a close sees a reset."""
        ends = []
        for request in (GET, b"GET / HTTP/1.0\r\n\r\n"):
            backend = Backend(self)
            client = await Rig(self, backend).ask(request)
            server, _ = await backend.request()
            server.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
            await client.until(b"abc")
            server.reset()
            ends.append((await client.all(), client.was_reset))
        self.assertEqual(ends, [(b"\r\n", False), (b"", True)])

    async def test_broken_chunks(self):
        """Chunks that go wrong half-way cut the answer; if they do at once, there is none."""
        backend = Backend(self)
        client = await Rig(self, backend).ask(GET)
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await client.until(b"3\r\nabc\r\n")
        server.send(b"3\nabc\r\n0\r\n\r\n")
        self.assertEqual(await client.all(), b"")
        backend = Backend(self, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n")
        client = await Rig(self, backend).ask(GET)
        await client.until(b"502 Bad Gateway\n")


class PageTests(TestCase):
    timeout = 20

    async def test_no_route(self):
        """A request that no route matches is 404; the connection lives on."""
        rig = Rig(self, Backend(self, HELLO), routes=[Route(host="b", path="/", pool="p")])
        client = await rig.ask(GET + GET.replace(b"a", b"b"))
        self.assertIn(b"404 Not Found", await client.until(b"404 Not Found\n"))
        await client.until(b"hello")
        self.assertEqual(rig.log.statuses, [404, 200])

    async def test_http_1_0(self):
        """To an HTTP/1.0 client pylb's own answer is the last."""
        rig = Rig(self, Backend(self), routes=[Route(path="/x", pool="p")])
        answer = await rig.answer(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertIn(b"\r\nConnection: close\r\n", answer)

    async def test_too_large(self):
        """A body longer than allowed is 413, before any server hears of it, and no 100 is given."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend, client_max_body_size=10)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n"
        client = await rig.ask(head)
        answer = await client.until(b"413 Content Too Large\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "))
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.assertEqual(backend.peers, [])

    async def test_too_large_chunked(self):
        """A chunked body is 413 as soon as it is too long; the server's connection is dropped."""
        backend = Backend(self)
        rig = Rig(self, backend, client_max_body_size=10)
        client = await rig.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
        server, _ = await backend.request()
        client.send(b"6\r\nabcdef\r\n")
        await client.until(b"413 Content Too Large\n")
        self.assertNotIn(b"abcdef", await server.all())
        self.assertEqual(rig.log.statuses, [413])

    async def test_largest(self):
        """A body of exactly the allowed size passes."""
        backend = Backend(self)
        client = await Rig(self, backend, client_max_body_size=5).ask(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
        )
        server, _ = await backend.request()
        await server.until(b"0\r\n\r\n")
        server.send(HELLO)
        await client.until(b"hello")

    async def test_broken_body(self):
        """A request whose body's framing breaks is 400 and the server's connection is dropped."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
        server, _ = await backend.request()
        client.send(b"5\nabcde\r\n0\r\n\r\n")
        await client.until(b"400 Bad Request\n")
        self.assertNotIn(b"0\r\n\r\n", await server.all())
        self.assertEqual(rig.log.statuses, [400])


class LogTests(TestCase):
    timeout = 20

    async def test_record(self):
        """The record says who asked what, which server answered, and how many bytes and seconds it took."""
        backend = Backend(self)
        rig = Rig(self, backend)
        head = b"POST /x?y HTTP/1.1\r\nHost: A\r\nReferer: r\r\nUser-Agent: u\r\nContent-Length: 2\r\n\r\n"
        client = await rig.ask(head + b"hi")
        server = await backend.accepted()
        sent = await server.until(b"hi")
        rig.time.advance(0.5)
        server.send(HELLO)
        answer = await client.until(b"hello")
        (record,) = rig.log.records
        asked = record.asked
        self.assertEqual(
            (record.listener, record.protocol, record.remote_addr, record.pool, record.status),
            ("web", "http", "127.0.0.1", "p", 200),
        )
        self.assertEqual(
            (asked.method, asked.target, asked.version, asked.host, asked.referer, asked.user_agent),
            (b"POST", b"/x?y", b"HTTP/1.1", b"A", b"r", b"u"),
        )
        self.assertEqual(
            (record.bytes_received, record.bytes_sent, record.upstream_bytes_sent, record.upstream_bytes_received),
            (len(head) + 2, len(answer), len(sent), len(HELLO)),
        )
        (tried,) = record.tries
        self.assertEqual((tried.server, tried.status, tried.header_time), (backend.name, 200, 0.5))

    async def test_client_leaves(self):
        """A client that leaves while it waits is logged as 499; the server's connection is dropped, nobody is blamed."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        client.close()
        await server.all()
        self.assertEqual(rig.log.statuses, [499])
        self.assertEqual([server.failures for server in rig.pool.servers], [0])

    async def test_client_leaves_early(self):
        """A client that leaves while its server is being connected leaves nothing behind."""
        rig = Rig(self, Backend(self))
        client = await rig.ask(GET)
        await settled(lambda: rig.pool.servers[0].active or rig.log.records)
        client.close()
        await settled(lambda: rig.log.records)
        await turns(2)
        self.assertEqual(rig.log.statuses, [499])

    async def test_client_leaves_late(self):
        """A client that leaves during the answer is logged with the answer's status."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        server.send(HELLO[:-2])
        await client.until(b"hel")
        client.close()
        await server.all()
        self.assertEqual(rig.log.statuses, [200])
