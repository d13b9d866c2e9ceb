"""Long bodies pass between client and server without being read: who notices?  Nobody but those who count."""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from pylb.proxy import splice
from pylb.proxy.poller import can_poll
from tests.backends import round_trips, until
from tests.proxy.http.rig import GET, HELLO, Backend, Rig
from tests.proxy.listening import ListeningStreams

BODY = os.urandom(3 * 1024 * 1024)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class PassingTests(TestCase):
    if not (can_poll(reactor) and hasattr(os, "splice")):
        skip = "this system has no splice"

    timeout = 30

    def setUp(self) -> None:
        self.network = ListeningStreams(reactor, 4)
        #: What came and went unread.
        self.unread = [0, 0]
        fill, drain = splice.pipes.Pipe.fill, splice.pipes.Pipe.drain

        def count(index, move):
            def moved(pipe, *where):
                self.unread[index] += (count := move(pipe, *where))
                return count

            return moved

        self.patch(splice.pipes.Pipe, "fill", count(0, fill))
        self.patch(splice.pipes.Pipe, "drain", count(1, drain))

    async def tearDown(self) -> None:
        await maybeDeferred(super().tearDown)
        self.assertEqual((self.network.removeAll(), len(self.network.pipes)), ([], 0))

    def assert_passed(self) -> None:
        """Most of the body was not read, and all of that arrived."""
        came, went = self.unread
        self.assertGreater(came, len(BODY) // 2)
        self.assertEqual(came, went)

    async def test_answer(self) -> None:
        """An answer's body; both connections are used again."""
        backend = Backend(self, lambda head: ANSWER if head.startswith(b"GET / ") else HELLO)
        rig = Rig(self, backend)
        client = await rig.connect()
        client.send(GET)
        got = await client.until(BODY[-99:])
        self.assertTrue(got.endswith(BODY))
        self.assert_passed()
        client.send(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.until(b"hello")
        first, _ = rig.log.records
        self.assertEqual(first.bytes_sent, len(got))
        self.assertEqual(first.upstream_bytes_received, len(ANSWER))
        self.assertEqual(len(backend.peers), 1)

    async def test_until_close(self) -> None:
        """A body that lasts until its server closes, for a client that takes it so."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        server.close()
        self.assertTrue((await client.all()).endswith(BODY))
        self.assert_passed()
        self.assertFalse(client.was_reset)

    async def test_request(self) -> None:
        """A request's body."""
        backend = Backend(self)
        rig = Rig(self, backend, client_max_body_size=0)
        client = await rig.connect()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        client.send(head + BODY)
        server, _ = await backend.request()
        self.assertEqual(await server.until(BODY[-99:]), BODY)
        self.assert_passed()
        server.send(HELLO)
        await client.until(b"hello")
        (record,) = rig.log.records
        self.assertEqual((record.status, record.bytes_received), (200, len(head) + len(BODY)))

    async def test_cut(self) -> None:
        """A body that its server does not finish is cut for the client as well."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.connect()
        client.send(GET)
        server, _ = await backend.request()
        server.send(ANSWER[:-1])
        server.close()
        got = await client.all()
        self.assertTrue(got.endswith(BODY[:-1]))

    async def test_chunked(self) -> None:
        """What must be framed anew is read."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.connect()
        client.send(GET)
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        server.close()
        await client.until(b"\r\n0\r\n\r\n")
        self.assertEqual(self.unread, [0, 0])

    async def test_client_takes_nothing(self) -> None:
        """A client that stops reading is the one that is late, not its server."""
        backend = Backend(self)
        rig = Rig(self, backend, read_timeout=10, send_timeout=20)
        client = await rig.connect()
        client.send(GET)
        server, _ = await backend.request()
        client.transport.pauseProducing()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**9 + BODY * 16)
        await until(lambda: self.unread[0] > self.unread[1])
        for _ in range(4):
            await round_trips()
        rig.time.advance(19)
        await round_trips()
        self.assertEqual(rig.log.records, [])
        rig.time.advance(2)
        await until(lambda: rig.log.records)
        self.assertEqual(self.pool_failures(rig), [0])

    def pool_failures(self, rig: Rig) -> list[int]:
        return [server.failures for server in rig.pool.servers]
