"""pylb.workers.wire, over real sockets."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.names import dns
from twisted.trial.unittest import TestCase

from pylb.model import Config, InetAddress, PoolSpec, TcpListener
from pylb.proxy.dns.follow import Found, Target
from pylb.proxy.dns.message import Question
from pylb.proxy.resolve import Name
from pylb.workers.wire import Channel, Socket, Start, receive
from tests.backends import until

CONFIG = Config(
    pools={"p": PoolSpec(name="p", servers=())},
    listeners={"a": TcpListener(name="a", listen=(InetAddress("127.0.0.1", 80),), pool="p")},
    workers=2,
)
FOUND = Found([Target("10.0.0.1", 80)], ((Question("app.test", dns.A), ("10.0.0.1",)),))
START = Start(
    2,
    CONFIG,
    1.0,
    ((Socket("a", InetAddress("127.0.0.1", 80), 3),), ()),
    4,
    None,
    names={Name("app.test", followed=True): FOUND},
)


class WireTests(TestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def channel(self, sock: socket.socket, **answers: Any) -> Channel:
        """A channel over one end of the pair, which is closed at the end of the test."""
        channel = Channel(answers)
        with sock:
            sock.setblocking(False)
            reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: channel))
        self.addCleanup(channel.close)
        return channel

    async def test_start_and_messages(self) -> None:
        """What comes first is read by itself, and nothing of what comes then."""
        ours = self.channel(self.ours)
        ours.start(START)
        ours.send("serve", 1)
        self.assertEqual(await deferToThread(receive, self.theirs), START)
        heard: list[Any] = []
        self.channel(self.theirs, serve=heard.append, leave=lambda *more: heard.append(more))
        ours.send("leave", 2, "x")
        await until(lambda: len(heard) == 2)
        self.assertEqual(heard, [1, (2, "x")])

    def test_supervisor_is_gone(self) -> None:
        """Whether before, or in the middle."""
        for sent in (b"", b"\0\0", struct.pack("!I", 100) + b"x"):
            ours, theirs = socket.socketpair()
            with theirs:
                with ours:
                    ours.sendall(sent)
                self.assertRaises(EOFError, receive, theirs)

    async def test_close(self) -> None:
        """What was sent before arrives; the other side hears the end, and may go on sending in vain."""
        heard: list[str] = []
        ours, theirs = self.channel(self.ours), self.channel(self.theirs, log=heard.append)
        ours.send("log", "x" * 500_000)
        await ours.close()
        await theirs.lost
        self.assertEqual([len(text) for text in heard], [500_000])
        theirs.send("stop")

    async def test_too_much(self) -> None:
        """Of what may be lost no more is kept than the sockets hold and some; it goes on when the other side reads again."""
        ours = self.channel(self.ours)
        sent = 0
        while ours.offer("log", "x" * 1000):
            sent += 1
            self.assertLess(sent, 10_000)
        heard: list[str] = []
        self.channel(self.theirs, log=heard.append)
        await until(lambda: len(heard) == sent + 1)
        self.assertTrue(ours.offer("log", "y"))
        await until(lambda: heard[-1] == "y")
