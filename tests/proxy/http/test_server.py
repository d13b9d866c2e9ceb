"""A connection to a server: when it is used again, and when not."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pylb.balance.server import Server
from pylb.model import InetAddress, Keepalive, ServerSpec
from pylb.proxy.deadline import Deadlines
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.http.server import ServerConnection
from tests.fakes import FakeTransport
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled, turns


class ReuseTests(TestCase):
    timeout = 20

    async def connections(self, answer, requests=2, **options):
        """How many connections so many requests take."""
        backend = Backend(self, answer)
        rig = Rig(self, backend, **options)
        client = await rig.connect()
        for n in range(requests):
            client.send(GET)
            await settled(lambda n=n: len(rig.log.records) > n)
            await turns(2)
        self.assertEqual(rig.log.statuses, [200] * requests)
        return len(backend.peers)

    async def test_kept(self):
        """A connection whose answer was whole is used again."""
        self.assertEqual(await self.connections(HELLO), 1)
        self.assertEqual(await self.connections(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 1)

    async def test_not_kept(self):
        """Not so one that says close, one of HTTP/1.0, and one with anything behind the answer."""
        answers = [
            HELLO.replace(b"\r\n\r\n", b"\r\nConnection: x, Close\r\n\r\n"),
            HELLO.replace(b"1.1", b"1.0"),
            HELLO + b"\n",
            HELLO + HELLO,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n",
        ]
        self.assertEqual([await self.connections(answer) for answer in answers], [2] * len(answers))

    async def test_number_of_requests(self):
        """A connection ends after keepalive.requests."""
        self.assertEqual(await self.connections(HELLO, 7, keepalive=Keepalive(requests=3)), 3)

    async def test_same_head_again(self):
        """The same head again has its own body; bytes that look like it within another head are that one's."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET + GET + GET)
        server, _ = await backend.request()
        server.send(HELLO)
        await server.until(b"\r\n\r\n")
        server.send(HELLO.replace(b"hello", b"again"))
        await server.until(b"\r\n\r\n")
        server.send(b"HTTP/1.1 200 OK\r\nA: ")
        await client.until(b"again")
        (connection,) = rig.connections._live
        await settled(lambda: connection._request._server._reader.begun)
        server.send(HELLO)
        self.assertEqual(await client.until(b"hello"), b"HTTP/1.1 200 OK\r\nA: " + HELLO)

    async def test_head_answer(self):
        """After an answer to HEAD nothing is read as its body, and the next answer is the next request's."""
        answers = iter([HELLO[:-5], HELLO])
        rig = Rig(self, backend := Backend(self, lambda head: next(answers)))
        client = await rig.ask(GET.replace(b"GET", b"HEAD") + GET)
        await client.until(b"\r\n\r\n")
        self.assertTrue((await client.until(b"hello")).startswith(b"HTTP/1.1 200"))
        self.assertEqual(len(backend.peers), 1)


class IdleTests(TestCase):
    timeout = 20

    async def kept(self, **options):
        backend = Backend(self)
        rig = Rig(self, backend, **options)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        server.send(HELLO)
        await client.until(b"hello")
        self.assertEqual(len(rig.idle), 1)
        return rig, backend, client, server

    async def test_unsolicited(self):
        """A single byte between two requests ends the connection; it is nobody's answer."""
        rig, backend, client, server = await self.kept()
        server.send(b"H")
        await server.all()
        self.assertEqual(len(rig.idle), 0)
        client.send(GET)
        second, _ = await backend.request()
        second.send(HELLO.replace(b"hello", b"other"))
        self.assertNotIn(b"hello", await client.until(b"other"))

    async def test_closed_by_the_server(self):
        """A kept connection that the server closes is forgotten."""
        rig, backend, client, server = await self.kept()
        server.close()
        await settled(lambda: not len(rig.idle))
        client.send(GET)
        second, _ = await backend.request()
        second.send(HELLO)
        await client.until(b"hello")
        self.assertEqual(rig.log.records[1].tries[0].status, 200)

    async def test_idle_too_long(self):
        """An idle connection is closed after keepalive.timeout, in order and not by a reset."""
        rig, _, _, server = await self.kept(keepalive=Keepalive(timeout=20))
        rig.time.advance(21)
        await server.all()
        self.assertFalse(server.was_reset)

    async def test_no_read_timeout_while_idle(self):
        """read_timeout is over with the answer."""
        rig, _, _, _ = await self.kept(read_timeout=5)
        rig.time.advance(50)
        await turns(3)
        self.assertEqual(len(rig.idle), 1)


class Late:
    """An exchange whose server is late."""

    late = 0

    def server_late(self):
        self.late += 1


class PauseTests(SynchronousTestCase):
    def test_not_late(self):
        """A server that is not read cannot be late, whatever is expected meanwhile; its time begins anew afterwards."""
        clock, exchange = Clock(), Late()
        idle = IdleConnections(Keepalive(), clock, clock.seconds)
        connection = ServerConnection(idle, Deadlines(clock, clock.seconds))
        connection.makeConnection(FakeTransport(connection))
        connection.begin(exchange, b"PUT", Server(ServerSpec(address=InetAddress("127.0.0.1", 80))))
        connection.expect(5)
        connection.pause()
        connection.expect(5)
        clock.advance(6)
        self.assertEqual(exchange.late, 0)
        connection.resume(5)
        clock.advance(4)
        self.assertEqual(exchange.late, 0)
        clock.advance(1)
        self.assertEqual(exchange.late, 1)
