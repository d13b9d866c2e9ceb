"""A client's connection: order, deadlines, refusals and how it ends."""

import gc

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from pylb.model import Keepalive, Route
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled, stalled, turns
from tests.proxy.http.test_body import CODING_ATTACKS, LENGTH_ATTACKS
from tests.proxy.http.test_exchange import Source

HEAD = b"\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"


def numbered(n):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % n


class OrderTests(TestCase):
    timeout = 20

    async def test_keep_alive(self):
        """One request after another on one connection."""
        rig = Rig(self, Backend(self, HELLO))
        client = await rig.connect()
        for _ in range(3):
            client.send(GET)
            await client.until(b"hello")
        self.assertEqual(rig.log.statuses, [200] * 3)

    async def test_pipelined(self):
        """Requests that come at once are answered in order, one in flight."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))
        server = await backend.accepted()
        for n in range(3):
            self.assertTrue((await server.until(HEAD)).startswith(b"GET /%d " % n))
            await turns(3)
            self.assertEqual((server.received, len(backend.peers)), (b"", 1))
            server.send(numbered(n))
        self.assertEqual([(await client.until(b"%02d" % n))[-2:] for n in range(3)], [b"00", b"01", b"02"])

    async def test_pipelined_behind_bodies(self):
        """What follows a body is the next request, however it is cut."""
        bodies = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        bodies += b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n" + GET
        for cut in (1, 20, 50, 53, 100, len(bodies) - 3):
            backend = Backend(self)
            rig = Rig(self, backend, keepalive=Keepalive(connections=0))
            client = await rig.ask(bodies[:cut])
            await turns(5)
            client.send(bodies[cut:])
            for end in (HEAD + b"abc", b"2\r\nde\r\n0\r\n\r\n", HEAD):
                server = await backend.accepted()
                await server.until(end)
                server.send(HELLO)
                await client.until(b"hello")
            self.assertEqual([record.asked.target for record in rig.log.records], [b"/a", b"/b", b"/"])

    async def test_many_pipelined(self):
        """Hundreds of requests in one piece are answered without recursion."""
        rig = Rig(self, Backend(self, HELLO), routes=[Route(exact="/last", pool="p")])
        client = await rig.ask(GET * 1500 + GET.replace(b"/ ", b"/last "))
        await client.until(b"hello")
        self.assertEqual(rig.log.statuses, [404] * 1500 + [200])

    async def test_client_leaves_behind_more(self):
        """A client that leaves is noticed also if something of its next request waits."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET + b"G")
        server, _ = await backend.request()
        client.close()
        await server.all()
        self.assertEqual(rig.log.statuses, [499])

    async def test_long_pipeline(self):
        """But only so much of what waits is read."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        await backend.request()
        source = Source(client, 30_000_000, b"")
        await source.stalled()
        (connection,) = rig.connections._live
        self.assertLess(len(connection._pending), 128 * 1024)

    async def test_idle_holds_little(self):
        """A connection that is kept, on either side, keeps nothing of what has passed."""
        body = b"x" * 60_000
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        server = await backend.accepted()
        await server.until(body)
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await client.until(body)
        await turns(3)
        self.assertEqual(len(rig.idle), 1)
        (connection,) = rig.connections._live
        self.assertLess(reachable_bytes([connection, *rig.idle._since]), 8 * 1024)

    async def test_slow_head(self):
        """A head that comes byte by byte is a head."""
        client = await Rig(self, Backend(self, HELLO)).connect()
        for at in range(len(GET)):
            client.send(GET[at : at + 1])
            await turns()
        await client.until(b"hello")

    async def test_known_head_within_a_head(self):
        """What comes behind the beginning of a head belongs to that, also if it has been a head of its own before."""
        rig = Rig(self, Backend(self, HELLO))
        client = await rig.ask(GET)
        await client.until(b"hello")
        client.send(b"GET /x HTTP/1.1\r\nHost: b\r\nA: ")
        (connection,) = rig.connections._live
        await settled(lambda: connection._reader.begun)
        client.send(GET)
        await client.until(b"400 Bad Request\n")

    async def test_client_that_does_not_read(self):
        """Who sends requests and reads no answers is not served further; nothing piles up."""
        size = 256 * 1024
        backend = Backend(self, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        rig = Rig(self, backend)
        client = await rig.connect()
        client.transport.pauseProducing()
        for _ in range(80):
            client.send(GET)
        served = -1
        while served != len(rig.log.records):
            served = len(rig.log.records)
            await turns(50)
        self.assertLess(served, 70)
        client.dataReceived = lambda data: None
        client.transport.resumeProducing()
        await settled(lambda: len(rig.log.records) == 80)

    async def test_small_answers_that_are_not_read(self):
        """Also when each answer alone is small."""
        backend = Backend(self, b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000)
        rig = Rig(self, backend)
        client = await rig.connect()
        client.transport.pauseProducing()
        client.send(GET * 300)
        served = -1
        while served != len(rig.log.records):
            served = len(rig.log.records)
            await turns(50)
        (connection,) = rig.connections._live
        self.assertLess(len(connection.transport.dataBuffer) + connection.transport._tempDataLen, 256 * 1024)
        client.dataReceived = lambda data: None
        client.transport.resumeProducing()
        await settled(lambda: len(rig.log.records) == 300)


class DeadlineTests(TestCase):
    timeout = 20

    async def test_silent_client(self):
        """Who connects and says nothing is closed without a word."""
        rig = Rig(self, Backend(self))
        client = await rig.connect()
        await settled(lambda: len(rig.connections) == 1)
        rig.time.advance(9.9)
        await turns(3)
        self.assertIsNone(client.reason)
        rig.time.advance(0.2)
        self.assertEqual((await client.all(), rig.log.records), (b"", []))

    async def test_header_deadline(self):
        """A head must be whole in time, however busily its bytes come: 408."""
        rig = Rig(self, Backend(self))
        client = await rig.ask(GET[:5])
        for at in range(5, 15):
            await turns(3)
            rig.time.advance(0.95)
            client.send(GET[at : at + 1])
        await turns(3)
        self.assertEqual(client.received, b"")
        rig.time.advance(0.6)
        self.assertIn(b"408 Request Timeout", await client.until(b"408 Request Timeout\n"))
        self.assertEqual(rig.log.statuses, [408])

    async def test_first_header_deadline(self):
        """The deadline of the first head begins with the connection."""
        rig = Rig(self, Backend(self))
        client = await rig.connect()
        await settled(lambda: len(rig.connections) == 1)
        rig.time.advance(5)
        client.send(b"G")
        await turns(3)
        rig.time.advance(5.1)
        await client.until(b"408 Request Timeout\n")

    async def test_second_header_deadline(self):
        """The deadline of a later head begins with its first byte."""
        rig = Rig(self, Backend(self, HELLO))
        client = await rig.ask(GET)
        await client.until(b"hello")
        rig.time.advance(50)
        client.send(b"G")
        await turns(3)
        rig.time.advance(9.9)
        await turns(3)
        self.assertEqual(rig.log.statuses, [200])
        rig.time.advance(0.2)
        await client.until(b"408 Request Timeout\n")

    async def test_keepalive_timeout(self):
        """An idle connection is closed without a word."""
        rig = Rig(self, Backend(self, HELLO), keepalive_timeout=20)
        client = await rig.ask(GET)
        await client.until(b"hello")
        rig.time.advance(19)
        await turns(3)
        self.assertIsNone(client.reason)
        rig.time.advance(2)
        self.assertEqual(await client.all(), b"")

    async def test_no_keepalive(self):
        """keepalive_timeout 0 closes after each answer, and says so."""
        answer = await Rig(self, Backend(self, HELLO), keepalive_timeout=0).answer(GET)
        self.assertIn(b"\r\nConnection: close\r\n", answer)

    async def test_body_timeout(self):
        """The next piece of a body must come in time: 408, and the server is not blamed."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(POST + b"01234")
        server = await backend.accepted()
        await server.until(b"01234")
        rig.time.advance(29)
        client.send(b"5")
        await server.until(b"5")
        rig.time.advance(29)
        await turns(3)
        self.assertEqual(rig.log.statuses, [])
        rig.time.advance(2)
        answer = await client.until(b"408 Request Timeout\n")
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        await server.all()
        self.assertEqual((rig.log.statuses, rig.pool.servers[0].failures), ([408], 0))

    async def test_send_timeout(self):
        """Who does not read an answer is cut off after send_timeout."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        client.transport.pauseProducing()
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99000000\r\n\r\n" + b"x" * 20_000_000)
        await stalled(rig)
        rig.time.advance(61)
        await server.all()
        await settled(lambda: rig.log.records)
        self.assertEqual(len(rig.connections), 0)

    async def test_next_request_of_who_does_not_read(self):
        """Who does not read answers gets no further ones, also for a request that is known, until he reads again."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        await client.until(b"hello")
        (connection,) = rig.connections._live
        connection.pauseProducing()
        client.send(GET)
        await settled(lambda: connection._pending)
        self.assertEqual(len(backend.heads), 1)
        connection.resumeProducing()
        await client.until(b"hello")

    async def test_no_deadline_while_the_server_works(self):
        """While a server takes its time within read_timeout the client has no deadline."""
        backend = Backend(self)
        rig = Rig(self, backend, read_timeout=1000)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        rig.time.advance(900)
        await turns(3)
        server.send(HELLO)
        await client.until(b"hello")

    async def test_no_deadline_behind_a_body(self):
        """Nor has one whose body is whole, however long that took; the next request has its own time."""
        backend = Backend(self)
        rig = Rig(self, backend, read_timeout=1000)
        client = await rig.ask(POST + b"01234")
        server = await backend.accepted()
        await server.until(b"01234")
        rig.time.advance(29)
        client.send(b"56789")
        await server.until(b"56789")
        rig.time.advance(900)
        await turns(3)
        server.send(HELLO)
        await client.until(b"hello")
        rig.time.advance(59)
        await turns(3)
        self.assertIsNone(client.reason)


def reachable_bytes(roots):
    """How many bytes these objects of pylb hold, by whatever way."""
    seen, total, todo = set(), 0, list(roots)
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, bytes | bytearray):
            total += len(item)
        elif isinstance(item, dict | list | tuple) or type(item).__module__.startswith("pylb.proxy.http"):
            todo += gc.get_referents(item)
    return total


class RefusalTests(TestCase):
    timeout = 20

    async def test_framing_attacks(self):
        """What is ambiguous is 400, the connection ends, and no server hears of it or of what follows."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend)
        attacks = [*LENGTH_ATTACKS.values(), *CODING_ATTACKS.values()]
        for block in attacks:
            answer = await rig.answer(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n" % block + b"0\r\n\r\n" + GET)
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), (block, answer))
            self.assertIn(b"\r\nConnection: close\r\n", answer)
            self.assertTrue(answer.endswith(b"\r\n\r\n400 Bad Request\n"))
        self.assertEqual((backend.peers, rig.log.statuses), ([], [400] * len(attacks)))

    async def test_statuses(self):
        """Each refusal has its status, and ends the connection."""
        cases = {
            b"GET / HTTP/1.1\r\n\r\n": 400,
            b"GET /\r\n": 400,
            b"GET / HTTP/1.1\n\n": 400,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n": 400,
            b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n": 405,
            b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n": 405,
            b"GET /" + b"x" * 9000: 414,
            b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 33000: 431,
            GET[:-2] + b"A: b\r\n" * 100 + b"\r\n": 431,
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n": 501,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
        }
        backend = Backend(self, HELLO)
        rig = Rig(self, backend)
        for data, status in cases.items():
            answer = await rig.answer(data)
            self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), (data[:40], answer))
            self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.assertEqual((backend.peers, rig.log.statuses), ([], list(cases.values())))

    async def test_refusal_survives(self):
        """A client that goes on sending a long body still gets its 413: the connection is not reset under it."""
        rig = Rig(self, Backend(self), client_max_body_size=1000)
        client = await rig.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(30):
            client.send(b"x" * 100_000)
            await turns(2)
        answer = await client.all()
        self.assertTrue(answer.endswith(b"413 Content Too Large\n"), answer)
        self.assertFalse(client.was_reset)

    async def test_linger_ends(self):
        """A refused client that keeps its end open is cut off after some seconds."""
        rig = Rig(self, Backend(self))
        client = await rig.ask(b"\n")
        endless = Endless(client)
        await client.until(b"400 Bad Request\n")
        endless.start()
        await settled(lambda: client.reason is not None or endless.sent > 10)
        rig.time.advance(6)
        await settled(lambda: not len(rig.connections))


class HalfCloseTests(TestCase):
    """A client may close its sending side alone."""

    timeout = 20

    async def half_close(self, rig, data):
        client = await rig.ask(data)
        client.transport.loseWriteConnection()
        return client

    async def test_refused(self):
        """It gets its refusal all the same."""
        rig = Rig(self, Backend(self))
        client = await self.half_close(rig, b"junk\r\n\r\n")
        self.assertTrue((await client.all()).endswith(b"400 Bad Request\n"))

    async def test_answered(self):
        """It gets what was answered before."""
        rig = Rig(self, Backend(self), routes=[Route(exact="/x", pool="p")])
        client = await self.half_close(rig, GET)
        self.assertTrue((await client.all()).endswith(b"404 Not Found\n"))
        self.assertEqual(rig.log.statuses, [404])

    async def test_too_large(self):
        """It gets its 413 though it has sent on."""
        rig = Rig(self, Backend(self), client_max_body_size=1)
        client = await self.half_close(rig, POST + b"0123456789")
        self.assertTrue((await client.all()).endswith(b"413 Content Too Large\n"))

    async def test_waiting(self):
        """If it waits for an answer, it has given up."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        client.transport.loseWriteConnection()
        await server.all()
        self.assertEqual((await client.all(), rig.log.statuses), (b"", [499]))

    async def test_half_an_answer(self):
        """It gets what there is of an answer, and sees that it is cut also when only the end could tell."""
        for version, reset in ((b"1.1", False), (b"1.0", True)):
            backend = Backend(self)
            rig = Rig(self, backend)
            client = await rig.ask(GET.replace(b"1.1", version))
            server, _ = await backend.request()
            server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await client.until(b"abc")
            client.transport.loseWriteConnection()
            await client.all()
            await server.all()
            self.assertEqual((rig.log.statuses, client.was_reset), ([200], reset))

    async def test_does_not_read(self):
        """It has send_timeout to take what is left."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        client.transport.pauseProducing()
        server, _ = await backend.request()
        (connection,) = rig.connections._live
        connection.transport.write(b"x" * 30_000_000)  # more than the kernel takes
        client.transport.loseWriteConnection()
        await server.all()
        await turns(3)
        self.assertEqual(len(rig.connections), 1)
        rig.time.advance(61)
        await settled(lambda: not len(rig.connections))

    async def test_idle(self):
        """Between two requests, or within a head, it is just closed."""
        rig = Rig(self, Backend(self))
        for data in (b"", GET[:-2]):
            client = await self.half_close(rig, data)
            self.assertEqual(await client.all(), b"")
        self.assertEqual(rig.log.statuses, [])


class Endless:
    """Sends something again and again, whatever it hears."""

    def __init__(self, peer):
        self.peer = peer
        self.sent = 0

    def start(self):
        if self.peer.reason is None:
            self.sent += 1
            self.peer.send(b"x" * 1000)
            reactor.callLater(0, self.start)


class EndTests(TestCase):
    timeout = 20

    async def test_drain_idle(self):
        """When pylb stops, idle connections are closed."""
        rig = Rig(self, Backend(self, HELLO))
        idle, silent = await rig.ask(GET), await rig.connect()
        await idle.until(b"hello")
        await settled(lambda: len(rig.connections) == 2)
        drained = rig.connections.drain()
        await idle.all()
        await silent.all()
        await drained

    async def test_drain_running(self):
        """When pylb stops, a running request is answered with `Connection: close`."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        drained = rig.connections.drain()
        await turns(3)
        self.assertIsNone(client.reason)
        server.send(HELLO)
        self.assertTrue((await client.all()).endswith(b"\r\nConnection: close\r\n\r\nhello"))
        await drained

    async def test_drain_while_answering(self):
        """An answer that began before pylb stops is finished, and its connection closed though its head says nothing."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        server.send(HELLO[:-2])
        self.assertNotIn(b"Connection", await client.until(b"hel"))
        drained = rig.connections.drain()
        server.send(HELLO[-2:])
        self.assertEqual(await client.all(), b"lo")
        await drained

    async def test_drain_while_answering_pipelined(self):
        """A request that had come by then is answered, and that answer says close."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET * 2)
        server, _ = await backend.request()
        server.send(HELLO[:-2])
        await client.until(b"hel")
        drained = rig.connections.drain()
        server.send(HELLO[-2:])
        await server.until(b"\r\n\r\n")
        server.send(HELLO)
        self.assertTrue((await client.all()).endswith(b"\r\nConnection: close\r\n\r\nhello"))
        await drained

    async def test_drain_while_closing(self):
        """When pylb stops, a refused client keeps its time to notice: closed at once it could lose its refusal."""
        rig = Rig(self, Backend(self))
        client = await rig.ask(b"")
        client.transport.pauseProducing()
        client.send(b"\n")
        await settled(lambda: rig.log.records)
        drained = rig.connections.drain()
        await turns(5)
        self.assertEqual(len(rig.connections), 1)
        client.transport.resumeProducing()
        self.assertTrue((await client.all()).endswith(b"400 Bad Request\n"))
        await drained

    async def test_drain_half_a_head(self):
        """When pylb stops, a request that has begun to come is answered."""
        rig = Rig(self, Backend(self, HELLO))
        client = await rig.ask(GET[:10])
        await turns(5)
        drained = rig.connections.drain()
        client.send(GET[10:])
        self.assertIn(b"Connection: close", await client.all())
        await drained

    async def test_abort(self):
        """When time is up, what still runs is cut on both sides."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        rig.connections.abort()
        await client.all()
        await server.all()
        self.assertEqual(rig.log.statuses, [499])

    async def test_pipelined_behind_close(self):
        """What follows a request that says close is not answered, and does not destroy its answer."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend)
        client = await rig.ask(GET[:-2] + b"Connection: close\r\n\r\n" + GET * 1000)
        answer = await client.all()
        self.assertEqual((answer.count(b"hello"), client.was_reset, len(backend.heads)), (1, False, 1))
