from __future__ import annotations

import socketserver
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench import datagrams
from bench.outcome import LoadFailed
from tests.bench.servers import serving


class ExchangeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(datagrams, "SECONDS", 0.1)
        self.patch(datagrams, "_LOST_AFTER", 0.01)
        self.seen: list[Any] = []

    def serve(self, answers: bool = True, loses: int = 0) -> socketserver.UDPServer:
        seen = self.seen

        class Echo(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                seen.append(self.client_address)
                if answers and len(seen) > loses:
                    self.request[1].sendto(self.request[0], self.client_address)

        return socketserver.UDPServer(("127.0.0.1", 0), Echo)

    def test_exchange(self) -> None:
        """What is counted was answered, to all of the sockets, and took some of the time."""
        self.patch(datagrams, "_LOST_AFTER", 10.0)  # However busy the machine is, none counts as lost.
        with serving(self.serve()) as port:
            done = datagrams.exchange(port)
        self.assertEqual(len(set(self.seen)), datagrams.SOCKETS)
        self.assertLessEqual(0, len(self.seen) - done.operations)
        self.assertLessEqual(len(self.seen) - done.operations, datagrams.SOCKETS)
        self.assertTrue(0 < done.p50 <= done.p99 <= done.seconds, done)

    def test_lost(self) -> None:
        """A socket goes on after a datagram that was lost."""
        with serving(self.serve(loses=datagrams.SOCKETS)) as port:
            self.assertGreater(datagrams.exchange(port).operations, 0)

    def test_silence(self) -> None:
        """A load that nobody answers has failed."""
        with serving(self.serve(answers=False)) as port:
            self.assertRaises(LoadFailed, datagrams.exchange, port)
