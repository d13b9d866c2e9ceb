"""pylb.demo: its servers, behind a real load balancer."""

from __future__ import annotations

import io
import socket

from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody

from pylb.config import from_dict
from pylb.demo import Demo
from pylb.proxy.listen import BindError
from pylb.service import LoadBalancer
from tests.backends import Peer, socket_path, until
from tests.functional.rig import free_port


class DemoTests(TestCase):
    timeout = 30

    def free(self) -> str:
        """An address; it stays this test's until all are chosen."""
        port = free_port()
        while port in self.chosen:
            port = free_port()
        self.chosen.add(port)
        return f"127.0.0.1:{port}"

    def setUp(self):
        self.chosen = set()
        self.path = socket_path(self)
        self.web, self.spare, self.datagrams = self.free(), self.free(), self.free()
        listens = {"web": self.free(), "echo": self.free(), "time": self.free()}
        config = {
            "shutdown_timeout": "2s",
            "pools": {
                "web": {"servers": [self.web, {"address": self.spare, "backup": True}]},
                "echo": {"servers": [f"unix:{self.path}"]},
                "time": {"servers": [self.datagrams]},
            },
            "listeners": {
                "web": {"protocol": "http", "listen": listens["web"], "pool": "web"},
                "echo": {"protocol": "tcp", "listen": listens["echo"], "pool": "echo"},
                "time": {"protocol": "udp", "listen": listens["time"], "pool": "time", "responses": 1},
            },
        }
        self.listens = listens
        self.services = MultiService()
        self.balancer = LoadBalancer(from_dict(config))
        self.balancer.setServiceParent(self.services)

    def start(self) -> str:
        out = io.StringIO()
        Demo(self.balancer, out).setServiceParent(self.services)
        self.services.startService()
        self.addCleanup(self.services.stopService)
        return out.getvalue()

    def test_greeting(self):
        """Where it listens, and a line to try each with."""
        web, echo, time = self.listens.values()
        self.assertEqual(
            self.start().strip().splitlines(),
            [
                "pylb serves:",
                f"  http://{web}/  (web)",
                f"  tcp {echo}  (echo)",
                f"  udp {time}  (time)",
                "try:",
                f"  curl http://{web}/",
                f"  echo hello | nc -w 1 {echo.replace(':', ' ')}",
                f"  echo hello | nc -u -w 1 {time.replace(':', ' ')}",
                "Ctrl-C ends all of it.",
            ],
        )

    async def test_http(self):
        self.start()
        answer = await Agent(reactor).request(b"GET", f"http://{self.listens['web']}/x?y".encode())
        self.assertEqual((await readBody(answer)).decode(), f"server {self.web} answers GET /x?y\n")

    async def test_backup_says_so(self):
        self.start()
        answer = await Agent(reactor).request(b"GET", f"http://{self.spare}/".encode())
        self.assertEqual((await readBody(answer)).decode(), f"backup {self.spare} answers GET /\n")

    async def test_tcp(self):
        """Over a Unix socket, even; the end of the question is the end of the answer."""
        self.start()
        host, port = self.listens["echo"].split(":")
        client = await connectProtocol(TCP4ClientEndpoint(reactor, host, int(port)), Peer())
        client.transport.write(b"hello")
        client.transport.loseWriteConnection()
        await until(lambda: client.lost)
        self.assertTrue(client.clean)
        self.assertEqual(client.heard.decode(), f"server unix:{self.path}: hello")

    async def test_udp(self):
        self.start()
        heard = []
        client = DatagramProtocol()
        client.datagramReceived = lambda datagram, addr: heard.append(datagram.decode())
        port = reactor.listenUDP(0, client, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        host, number = self.listens["time"].split(":")
        client.transport.write(b"hello", (host, int(number)))
        await until(lambda: heard)
        self.assertEqual(heard, [f"server {self.datagrams}: hello"])

    async def test_nothing_is_left(self):
        """Neither a port nor the file of a socket."""
        self.start()
        client = await connectProtocol(UNIXClientEndpoint(reactor, str(self.path)), Peer())
        client.transport.loseConnection()
        await self.services.stopService()
        self.assertFalse(self.path.exists())
        for address in (self.web, self.spare, self.listens["web"], self.listens["echo"]):
            # A connection that has ended may linger at the port; whoever listens would be in the way all the same.
            self.assert_free(address, socket.SOCK_STREAM, reuse=1)
        for address in (self.datagrams, self.listens["time"]):
            self.assert_free(address, socket.SOCK_DGRAM, reuse=0)

    def assert_free(self, address: str, kind: int, reuse: int) -> None:
        host, port = address.split(":")
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            sock.bind((host, int(port)))

    def test_address_in_use(self):
        host, port = self.web.split(":")
        with socket.socket() as sock:
            sock.bind((host, int(port)))
            sock.listen()
            self.assertRaises(BindError, Demo, self.balancer)
        self.balancer.close()
