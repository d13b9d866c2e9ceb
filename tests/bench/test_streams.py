from __future__ import annotations

import socketserver
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import streams
from bench.outcome import LoadFailed, Outcome
from tests.bench.servers import TCPServer, serving


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(streams, "SECONDS", 0.01)
        self.requests: list[bytes] = []
        self.bodies: list[int] = []

    def serve(self, answer: bytes, body: int = 0) -> TCPServer:
        """Answers with so many zeros behind this."""
        test = self

        class Answer(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while head := self.rfile.readline():
                    while (line := self.rfile.readline()) != b"\r\n":
                        head += line
                    test.requests.append(head)
                    test.bodies.append(len(self.rfile.read(int(head.partition(b"Length: ")[2] or 0))))
                    self.wfile.write(answer + bytes(body))
                    if b"close" in answer:
                        return

        return TCPServer(Answer)

    def download(self, answer: bytes, body: int = 0) -> Outcome:
        with serving(self.serve(answer, body)) as port:
            return streams.download(port, 1)

    def test_download(self) -> None:
        """Bodies come one after the other, and each counts with its MB."""
        done = self.download(b"HTTP/1.1 200 OK\r\nContent-length: 1000000\r\n\r\n", streams.MB)
        self.assertEqual(self.requests, [b"GET /1m HTTP/1.1\r\nHost: bench\r\n"] * int(done.operations))
        self.assertTrue(0 < done.p50 <= done.p99 <= done.seconds, done)

    def test_upload(self) -> None:
        """Bodies go whole, and each counts with its MB."""
        body = Path(self.mktemp())
        body.write_bytes(bytes(500_000))
        with serving(self.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 5)) as port:
            done = streams.upload(port, body)
        self.assertEqual(self.bodies, [500_000] * int(done.operations * 2))

    def test_refused(self) -> None:
        """An error is no download, however long its page is; nor is an answer that is shorter than the body."""
        for answer in (
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        ):
            self.assertRaises(LoadFailed, self.download, answer)

    def test_cut(self) -> None:
        """Nor is one that ends too early."""
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 close",
        ):
            self.assertRaises(LoadFailed, self.download, answer)
