"""pylb.workers.estate."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from mmap import mmap
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb import model
from pylb.balance.scoreboard import Scoreboard
from pylb.model import (
    Balance,
    Certificate,
    Config,
    InetAddress,
    ListenerTLS,
    OwnCheck,
    PoolSpec,
    ServerSpec,
    TcpListener,
    UdpListener,
    UnixAddress,
    UpstreamTLS,
)
from pylb.proxy.accesslog import open_access_log
from pylb.proxy.listen import bind_rows
from pylb.workers.estate import Estate
from tests.backends import socket_path

ANY = InetAddress("127.0.0.1", 0)


class EstateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def config(self, *listeners: model.Listener, **pool: object) -> Config:
        return Config(
            pools={"p": PoolSpec(**{"name": "p", "servers": (), **pool})},
            listeners={listener.name: listener for listener in listeners},
            workers=2,
        )

    def estate(self, config: Config) -> Estate:
        estate = Estate(config)
        self.addCleanup(estate.close)
        return estate

    def test_class_that_is_not_found(self) -> None:
        """What a function has made no worker would find; nothing is left open."""

        class Mine: ...

        before = os.listdir("/proc/self/fd")
        for asked in (
            {"balance": Balance(method="mine:Mine", own=Mine)},
            {"health_check": (OwnCheck(name="mine:Mine", own=Mine),)},
        ):
            error = self.assertRaises(ValueError, Estate, self.config(**asked))
            self.assertRegex(str(error), "^mine:Mine cannot be found by several workers: its module .*Can't pickle")
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_sockets(self) -> None:
        """A worker is told its own sockets and the others', all of which it gets."""
        estate = self.estate(config := self.config(TcpListener(name="a", listen=(ANY,), pool="p")))
        estate.rows = bind_rows(config.listeners.values(), 2)
        (first,), (second,) = estate.rows
        start, inherited = estate.share(2, 1.5)
        self.assertEqual((start.number, start.beat, start.config, start.log), (2, 1.5, config, None))
        [(one,), (two,)] = start.rows
        self.assertEqual((one.listener, one.address), ("a", ANY))
        del inherited[start.board]
        self.assertEqual(inherited, {one.fd: first.socket.fileno(), two.fd: second.socket.fileno()})
        self.assertGreater(min(inherited), 2)

    def test_scoreboard(self) -> None:
        """A row for each worker, with a place for each server, in memory that all map."""
        server = ServerSpec(address=InetAddress("10.0.0.1", 80))
        estate = self.estate(self.config(servers=(server,) * 3))
        start, inherited = estate.share(1, 1.0)
        memory = memoryview(mmap(inherited[start.board], 0))
        self.assertEqual(len(memory), Scoreboard.size(2, 3))
        Scoreboard(memory).rows[1].heartbeat = 7.0
        self.assertEqual([row.heartbeat for row in estate.board.rows], [0.0, 7.0])

    def test_files(self) -> None:
        """Certificates, keys and authorities are read once, and not where they were."""
        for name in ("cert", "key", "ca"):
            (self.folder / name).write_text(f"the {name}")
        paths = {name: str(self.folder / name) for name in ("cert", "key", "ca")}
        tls = ListenerTLS(certificates=(Certificate(cert=paths["cert"], key=paths["key"]),))
        listeners = TcpListener(name="a", listen=(), pool="p", tls=tls), UdpListener(name="u", listen=(), pool="p")
        estate = self.estate(self.config(*listeners, tls=UpstreamTLS(ca=paths["ca"])))
        for path in paths.values():
            Path(path).unlink()
        start, inherited = estate.share(1, 1.0)
        (pair,) = start.config.listeners["a"].tls.certificates
        for path, name in ((pair.cert, "cert"), (pair.key, "key"), (start.config.pools["p"].tls.ca, "ca")):
            parent = inherited[int(path.removeprefix("/dev/fd/"))]
            self.assertEqual(Path(f"/dev/fd/{parent}").read_text(), f"the {name}")

    def test_unreadable(self) -> None:
        """The error names the path."""
        missing = str(self.folder / "missing")
        gc.collect()
        before = os.listdir("/proc/self/fd")
        filename = self.assertRaises(OSError, Estate, self.config(tls=UpstreamTLS(ca=missing))).filename
        self.assertEqual(filename, missing)
        gc.collect()
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_access_log(self) -> None:
        """The file that is open now, so that who comes after a rotation gets the new one."""
        path = self.folder / "access.log"
        estate = self.estate(self.config())
        estate.log = open_access_log(model.AccessLog(path=str(path)), Clock(), lambda: 0.0)
        for moved in ("first", "second"):
            start, inherited = estate.share(1, 1.0)
            os.write(inherited[start.log], b"a line\n")
            self.assertEqual(path.read_text(), "a line\n")
            path.rename(self.folder / moved)
            estate.log.reopen()

    def test_close(self) -> None:
        """Sockets, the log and files without a name, once; what a worker has of them it keeps."""
        gc.collect()
        before = sorted(os.listdir("/proc/self/fd"))
        estate = Estate(config := self.config(TcpListener(name="a", listen=(ANY,), pool="p")))
        estate.rows = bind_rows(config.listeners.values(), 2)
        estate.log = open_access_log(model.AccessLog(path=str(self.folder / "access.log")), Clock(), lambda: 0.0)
        board = estate.board.rows[0]
        for _ in range(2):
            estate.close()
            self.assertEqual((estate.rows, estate.log.fd), ([], None))
        board.heartbeat = 7.0
        self.assertEqual(board.heartbeat, 7.0)
        del board, estate
        gc.collect()
        self.assertEqual(sorted(os.listdir("/proc/self/fd")), before)

    def test_close_for_another(self) -> None:
        """What the other has, too, stays: sockets by what they are, and the log if it is the same; files of its own go."""
        unix = UnixAddress(str(socket_path(self)))
        listener = TcpListener(name="a", listen=(ANY, unix), pool="p")
        log = open_access_log(model.AccessLog(path=str(self.folder / "access.log")), Clock(), lambda: 0.0)
        estate, other = self.estate(self.config(listener)), self.estate(self.config())
        estate.rows = bind_rows([listener], 2)
        other.rows = bind_rows([TcpListener(name="b", listen=(unix,), pool="p")], 2, estate.rows)
        estate.log = other.log = log
        inet = [row[0 if row is estate.rows[0] else 1].socket for row in estate.rows]
        estate.close(other)
        self.assertEqual([sock.fileno() for sock in inet], [-1, -1])
        self.assertTrue(all(bound.socket.fileno() > 0 for row in other.rows for bound in row))
        self.assertTrue(Path(unix.path).is_socket())
        self.assertEqual((estate.rows, estate._files), ([], {}))
        self.assertIsNotNone(log.fd)
        other.share(1, 1.0)
        another = self.estate(self.config())
        other.close(another)
        self.assertIsNone(log.fd)
        self.assertFalse(Path(unix.path).exists())

    def test_own_methods(self) -> None:
        """Workers look for modules where the supervisor does, and where it found methods and checks of one's own."""
        (self.folder / "package").mkdir()
        for name in ("estate_near.py", "package/__init__.py"):
            (self.folder / name).write_text("class Near: pass")
        sys.path.append(str(self.folder))
        try:
            modules = [importlib.import_module(name) for name in ("estate_near", "package")]
        finally:
            sys.path.remove(str(self.folder))
        for module in modules:
            own = {"balance": Balance(method="near:Near", own=module.Near)}
            check = {"health_check": (OwnCheck(name="near:Near", own=module.Near),)}
            for asked in (own, check):
                estate = self.estate(self.config(**asked))
                self.assertEqual(estate.folders, [*map(os.path.abspath, sys.path), str(self.folder)])
            del sys.modules[module.__name__]
