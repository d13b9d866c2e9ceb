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
    UpstreamTLS,
)
from pylb.proxy.accesslog import open_access_log
from pylb.proxy.listen import bind_rows
from pylb.workers.estate import Estate

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
