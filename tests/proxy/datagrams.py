"""Sockets for tests of datagrams, on Twisted's reactor or on a poller of pylb's."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from pylb.proxy.poller import Poller, can_poll


class Sockets(TestCase):
    """`network` is what watches the sockets."""

    timeout = 30

    def setUp(self) -> None:
        self.network = self.make_network()

    def make_network(self):
        return reactor

    def bound(self, host: str, number: int = 0) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        sock.bind((host, number))
        return sock


class OnPoller:
    """Gives a case a poller, which watches nothing in the end."""

    if not can_poll(reactor):
        skip = "there is no poller on this system"

    def make_network(self) -> Poller:
        network = Poller(reactor)
        self.addCleanup(lambda: self.assertEqual((network.removeAll(), network in reactor.getReaders()), ([], False)))
        return network
