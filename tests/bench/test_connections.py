from __future__ import annotations

import socketserver
from time import sleep

from twisted.trial.unittest import SynchronousTestCase

from bench import connections
from bench.outcome import LoadFailed
from bench.tools import CONNECTIONS
from tests.bench.servers import TCPServer, serving

PAUSE = 0.05


class ConnectionTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(connections, "SECONDS", 0.1)
        self.requests: list[bytes] = []
        self.open = 0

    def serve(self, status: bytes = b"200 OK", pause: float = 0) -> TCPServer:
        test = self

        class Answer(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                test.open += 1
                while request := self.request.recv(4096):
                    test.requests.append(request)
                    sleep(pause)
                    self.request.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)
                test.open -= 1

        return TCPServer(Answer)


class IdleTests(ConnectionTestCase):
    def test_idle(self) -> None:
        """Each has carried one exchange, all are open together, and none afterwards."""
        server = self.serve()
        with serving(server) as port:
            with connections.idle(port, 5):
                self.assertEqual((len(self.requests), self.open), (5, 5))
            server.server_close()  # waits for the threads
            self.assertEqual(self.open, 0)

    def test_refused(self) -> None:
        """One that gets an error shows nothing."""
        with serving(self.serve(b"502 Bad Gateway")) as port, self.assertRaises(LoadFailed), connections.idle(port, 1):
            pass


class PacedTests(ConnectionTestCase):
    def test_pace(self) -> None:
        """So many requests a second are made, with the headers that were asked for."""
        with serving(self.serve()) as port:
            done = connections.paced(port, 400, ("Accept: x",))
        self.assertTrue(39 <= done.operations <= 41, done)
        self.assertEqual(self.requests, [b"GET / HTTP/1.1\r\nHost: bench\r\nAccept: x\r\n\r\n"] * int(done.operations))

    def test_late(self) -> None:
        """What waits for a free connection is late: its time counts from when it was due."""
        with serving(self.serve(pause=PAUSE)) as port:
            done = connections.paced(port, CONNECTIONS / PAUSE * 2, ())
        self.assertGreater(done.p50, 1.5 * PAUSE)

    def test_refused(self) -> None:
        """An error is no answer."""
        with serving(self.serve(b"502 Bad Gateway")) as port:
            self.assertRaises(LoadFailed, connections.paced, port, 100, ())
