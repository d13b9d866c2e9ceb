"""pylb.announce."""

from __future__ import annotations

from dataclasses import replace

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from pylb import __version__
from pylb.announce import announce, announce_reload
from pylb.capacity import Capacity, capacity
from pylb.model import Config, InetAddress, PoolSpec, TcpListener, UdpListener, UnixAddress
from pylb.proxy.listen import bind, close
from tests.backends import socket_path

ANY = InetAddress("127.0.0.1", 0)
ROOM = Capacity(descriptors=1000, connections=400, sessions={"u": 5, "v": 7}, idle={}, pipes=0)


class AnnounceTests(SynchronousTestCase):
    def setUp(self) -> None:
        path = UnixAddress(str(socket_path(self)))
        listeners = TcpListener(name="t", listen=(ANY, path), pool="p"), UdpListener(name="u", listen=(ANY,), pool="p")
        pool = PoolSpec(name="p", servers=())
        self.config = Config(pools={"p": pool}, listeners={each.name: each for each in listeners})
        self.bound = bind(listeners)
        self.addCleanup(close, self.bound)
        inet, _, udp = (bound.where for bound in self.bound)
        self.lines = [f"listener t: tcp on {inet}", f"listener t: tcp on {path}", f"listener u: udp on {udp}"]
        self.room = "room for 400 connections and 12 UDP sessions, with 1000 descriptors"

    def said(self, call, *arguments) -> list[str]:
        with capturedLogs() as logs:
            call(*arguments)
        self.warned = [formatEvent(log) for log in logs if log["log_level"] is LogLevel.warn]
        return [formatEvent(log) for log in logs if log["log_level"] is LogLevel.info]

    def test_start(self) -> None:
        """Who serves, where, and for how many."""
        said = self.said(announce, self.config, self.bound, ROOM)
        self.assertEqual(said, [f"pylb {__version__} serves", *self.lines, self.room])

    def test_workers(self) -> None:
        """The room is that of each."""
        said = self.said(announce, replace(self.config, workers=3), self.bound, ROOM)
        self.assertEqual(said[-1], f"{self.room}, in each of 3 workers")

    def test_shortfalls(self) -> None:
        """What was asked for and cannot be is a warning each, at a start and at a reload that changes it."""
        config = replace(self.config, max_connections=1_000_000)
        room = capacity(config, 1000)
        self.said(announce, config, self.bound, room)
        [warning] = self.warned
        self.assertTrue(warning.startswith("too few descriptors (LimitNOFILE, ulimit -n): "), warning)
        self.said(announce_reload, self.config, config, [], room)
        self.assertEqual(self.warned, [warning])

    def test_reload(self) -> None:
        """What has changed, and the sockets that are new; of the room only if it is another."""
        config = replace(self.config, shutdown_timeout=1.0, pools={})
        self.assertEqual(
            self.said(announce_reload, self.config, config, self.bound[2:], ROOM),
            ["reloaded: pools.p removed, shutdown_timeout changed", self.lines[2], self.room],
        )
        said = self.said(announce_reload, self.config, config, [], None)
        self.assertEqual(said, ["reloaded: pools.p removed, shutdown_timeout changed"])

    def test_same(self) -> None:
        """A reload that finds all as it was says that it has been done."""
        said = self.said(announce_reload, self.config, replace(self.config), [], None)
        self.assertEqual(said, ["reloaded: the same keys and values; certificates are read again"])
