from __future__ import annotations

import socketserver
import ssl
from random import Random
from threading import Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from bench import clients
from bench.clients import Act, Client, Tally
from bench.streams import MB
from bench.targets import free_ports
from tests.bench.servers import TCPServer, serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
HELLO = OK % 6 + b"hello\n"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(clients, "_PAUSE", 0.0)
        self.patch(clients, "_LOST_AFTER", 0.05)
        self.got: list[bytes] = []

    def client(self, port: int, seed: int = 1, context: ssl.SSLContext | None = None) -> Client:
        return Client("k", port, Random(seed), context)

    def outcome(self, server: socketserver.BaseServer, act: Act, seed: int = 1) -> Tally:
        """What comes of doing it once."""
        with serving(server) as port:
            client = self.client(port, seed)
            client.act(act)
        return client.tally


class StreamTests(Case):
    def serve(self, *answers: bytes) -> TCPServer:
        """Answers requests in turn, the last answer again and again, and closes a connection for want of more."""
        test, left = self, list(answers)

        class Answer(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while head := self.rfile.readline():
                    while (line := self.rfile.readline().lower()) not in (b"\r\n", b""):
                        head += line
                    test.got.append(head.split()[0])
                    self.rfile.read(int(head.partition(b"content-length: ")[2].split()[0]) if b"length" in head else 0)
                    if not left:
                        return
                    self.wfile.write(left.pop(0) if len(left) > 1 else left[0])

        return TCPServer(Answer)

    def test_small(self) -> None:
        """Exchanges are counted."""
        tally = self.outcome(self.serve(HELLO), clients.small)
        self.assertEqual(tally.done, {"k": len(self.got)})
        self.assertEqual((tally.errors, tally.wrong), ({}, []))

    def test_errors(self) -> None:
        """What fails is counted by its kind: an error that is told, a connection that is closed, an answer that is cut."""
        for answer, error in (
            ((b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",), "k: status 502"),
            ((), "k: RemoteDisconnected"),
            ((b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",), None),
        ):
            tally = self.outcome(self.serve(*answer), clients.small)
            self.assertEqual(tally.errors, {error: 1} if error else {})
        self.assertEqual(tally.wrong, ["k: Wrong(b'')"])

    def test_wrong(self) -> None:
        """An answer to something else is told, and one that is none."""
        for answer in (OK % 6 + b"stray\n", b"stray\r\n"):
            tally = self.outcome(self.serve(HELLO, answer), clients.small)
            self.assertEqual((tally.done, tally.errors), ({"k": 1}, {}))
            [wrong] = tally.wrong
            self.assertIn("stray", wrong)

    def test_refused(self) -> None:
        """Nobody listens: an error for who asks, and nothing for who would have left."""
        [port] = free_ports(["tcp"]).values()
        for act, errors in (
            (clients.small, {"k: ConnectionRefusedError": 1}),
            (clients.leave, {}),
            (clients.trickle, {}),
            (clients.rubbish, {}),
        ):
            client = self.client(port)
            client.act(act)
            self.assertEqual((client.tally.errors, client.tally.done), (errors, {}))

    def test_tls(self) -> None:
        """With a context TLS is spoken: a server that speaks none is an error."""

        class Plain(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(HELLO)
                self.rfile.readline()

        with serving(TCPServer(Plain)) as port:
            client = self.client(port, context=ssl.create_default_context())
            client.act(clients.small)
        self.assertEqual(list(client.tally.errors), ["k: SSLError"])

    def test_bulk(self) -> None:
        """Bodies go down and up, and are compared: what is a good answer to one is wrong for the other."""
        tallies = [self.outcome(self.serve(HELLO), clients.bulk, seed) for seed in range(5)]
        self.assertEqual({wrong for tally in tallies for wrong in tally.wrong}, {"k: Wrong(b'hello\\n')"})
        self.assertEqual(sum(tally.done.total() for tally in tallies), self.got.count(b"PUT"))
        tally = self.outcome(self.serve(OK % MB + bytes(MB)), clients.bulk, 5)
        self.assertEqual(tally.done.total(), self.got.count(b"GET") - sum(len(tally.wrong) for tally in tallies))

    def test_bad_ones(self) -> None:
        """Those who leave, are slow or talk rubbish complain of nothing."""
        self.patch(clients, "_TIMEOUT", 0.05)
        for act in (clients.leave, clients.trickle, clients.rubbish):
            for seed in range(3):
                tally = self.outcome(self.serve(HELLO), act, seed)
                self.assertEqual((tally.errors, tally.wrong), ({}, []))

    def test_live(self) -> None:
        """The same is done again and again, until somebody says stop."""
        stop = Event()
        acts: list[Client] = []

        def act(client: Client) -> None:
            client.done()
            acts.append(client)
            if len(acts) == 3:
                stop.set()

        self.assertEqual(clients.live(self.client(9), act, stop).done, {"k": 3})


class DatagramTests(Case):
    def serve(self, answer: bytes | None) -> socketserver.UDPServer:
        test = self

        class Answer(socketserver.DatagramRequestHandler):
            def handle(self) -> None:
                test.got.append(self.request[0])

            def finish(self) -> None:
                if answer is not None:
                    self.socket.sendto(answer, self.client_address)

        return socketserver.UDPServer(("127.0.0.1", 0), Answer)

    def test_replies(self) -> None:
        """Each datagram has its reply, and counts."""
        tally = self.outcome(self.serve(b"pong pong pong pong pong pong po"), clients.datagrams)
        self.assertEqual(tally.done, {"k": len(self.got)})
        self.assertEqual((tally.errors, tally.wrong), ({}, []))

    def test_no_reply(self) -> None:
        """A datagram that is lost is an error, a reply to something else is wrong."""
        self.assertEqual(self.outcome(self.serve(None), clients.datagrams).errors, {"k: TimeoutError": 1})
        self.assertEqual(self.outcome(self.serve(b"stray"), clients.datagrams).wrong, ["k: Wrong(b'stray')"])

    def test_strange(self) -> None:
        """Datagrams are sent from many ports, and nobody waits for replies."""
        server = self.serve(None)
        client = self.client(server.server_address[1])
        client.act(clients.strange_datagrams)
        thread = Thread(target=lambda: [server.handle_request() for _ in range(3)])
        thread.start()
        thread.join()
        server.server_close()
        self.assertEqual((client.tally.done, len(self.got)), ({"k": 20}, 3))
