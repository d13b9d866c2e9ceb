"""pylb.program: what a configuration file becomes, or why it does not."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from pathlib import Path

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pylb.model import Config
from pylb.program import Reload, program
from pylb.proxy.listen import BindError
from pylb.reloads import ReloadBroke
from pylb.signals import Signals
from pylb.workers.supervisor import Supervisor
from tests.functional.rig import free_port


class ProgramCase(SynchronousTestCase):
    def setUp(self):
        # Not trial's: the path of a Unix socket is short, and the tests may lie deep.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "lb.yaml"

    def config(self, port: int, more: str = "") -> None:
        self.path.write_text(
            f"{more}\npools: {{p: {{servers: [127.0.0.1:9]}}}}\n"
            f"listeners: {{a: {{protocol: tcp, listen: [127.0.0.1:{port}, unix:s.sock], pool: p}}}}\n"
        )

    def made(self, foreground: bool = True, demo: bool = False) -> IService:
        return program(str(self.path), foreground, demo)

    def refused(self, **more) -> str:
        return str(self.assertRaises(SystemExit, self.made, **more))


class ProgramTests(ProgramCase):
    def test_bound(self):
        """Every socket listens before anything is started."""
        port = free_port()
        self.config(port)
        services = self.made()
        verifyObject(IService, services)
        with socket.create_connection(("127.0.0.1", port)):
            self.assertTrue((self.folder / "s.sock").is_socket())
        signals, balancer = services.services
        self.assertIsInstance(signals, Signals, "they are answered before anything else begins")
        balancer.close()

    def test_several_workers(self):
        """A supervisor has all sockets bound, too, and has started nobody."""
        port = free_port()
        self.config(port, "workers: 2")
        services = self.made()
        with socket.create_connection(("127.0.0.1", port)):
            supervisor = services.services[1]
        self.assertIsInstance(supervisor, Supervisor)
        supervisor.close()
        self.assertFalse((self.folder / "s.sock").exists())

    def test_unreadable(self):
        """Each is one line that begins with the file's path."""
        path = self.path
        self.assertIn(f"{path}: ", self.refused())
        self.path.mkdir()
        self.assertIn(f"{path}: ", self.refused())
        self.path.rmdir()
        for content in (b"", bytes(range(256))):
            self.path.write_bytes(content)
            error = self.refused()
            self.assertTrue(error.startswith(f"{path}:"), error)
            self.assertEqual(len(error.splitlines()), 1)

    def test_mistakes(self):
        """All at once, with line and column."""
        self.config(99999, "wrokers: 1\nshutdown_timeout: never")
        places = [line.split(": ")[0] for line in self.refused().splitlines()]
        path = self.path.absolute()
        self.assertEqual(places, [f"{path}:{place}" for place in ("1:1", "2:19", "4:41")])

    def test_port_in_use(self):
        """Names the listener and its line."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            self.config(sock.getsockname()[1])
            self.assertRegex(
                self.refused(), r"^.*lb\.yaml:3:\d+: listeners\.a: cannot listen on tcp 127\.0\.0\.1:\d+: "
            )
        self.assertFalse((self.folder / "s.sock").exists())

    def test_daemon_and_standard_output(self):
        self.config(free_port(), 'access_log: {path: "-"}')
        self.assertEqual(
            self.refused(foreground=False),
            f"{self.path}: access_log.path: a daemon has no standard output: name a file, or use twistd -n",
        )
        self.made().services[1].close()

    def test_access_log(self):
        self.config(free_port(), "access_log: {path: nowhere/access.log}")
        log = self.folder / "nowhere" / "access.log"
        self.assertEqual(self.refused(), f"{self.path}: cannot open {log}: No such file or directory")

    def test_own_that_cannot_be_made(self):
        """A class of somebody's own that raises when it is made, with one process or with several."""
        (self.folder / "broken_at_once.py").write_text(
            "class Mine:\n    def __init__(self, *given): 1 / 0\n"
            "    def check(self, target): ...\n    add = remove = choose = check\n"
        )
        self.addCleanup(sys.modules.pop, "broken_at_once", None)
        for workers in (1, 2):
            for key in ("balance: broken_at_once:Mine", "health_check: {type: 'broken_at_once:Mine'}"):
                self.path.write_text(
                    f"workers: {workers}\npools: {{p: {{servers: [127.0.0.1:9], {key}}}}}\n"
                    f"listeners: {{a: {{protocol: tcp, listen: unix:s.sock, pool: p}}}}\n"
                )
                self.assertRegex(
                    self.refused(), "^.*lb.yaml: .* broken_at_once:Mine cannot be made.*: division by zero$"
                )
                self.assertFalse((self.folder / "s.sock").exists())

    def test_demo_address_in_use(self):
        """What the load balancer had already is given back."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            server = f"127.0.0.1:{sock.getsockname()[1]}"
            self.path.write_text(
                f"pools: {{p: {{servers: [{server}]}}}}\nlisteners: {{a: {{protocol: tcp, listen: unix:s.sock, pool: p}}}}\n"
            )
            self.assertIn(
                f"server {server}: cannot listen on tcp {server}: Address already in use", self.refused(demo=True)
            )
        self.assertFalse((self.folder / "s.sock").exists())


class Balancer:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.configs: list[Config] = []
        self.answer: Deferred[None] = Deferred()

    def reload(self, config: Config) -> Deferred[None]:
        self.configs.append(config)
        return self.answer


class ReloadTests(ProgramCase):
    """The file is read again; whatever is wrong is said line by line, and changes nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.balancer = Balancer()
        self.config(free_port())

    def said(self, foreground: bool = True, answer: object = None) -> list[str]:
        """What the log says, before and after the balancer's answer."""
        with capturedLogs() as logs:
            Reload(str(self.path), foreground, self.balancer)()
            if self.balancer.configs:
                self.balancer.answer.callback(answer)
        self.logged = self.flushLoggedErrors()
        first, *said = [formatEvent(log) for log in logs]
        self.assertEqual(first, f"reloading {self.path}")
        return said

    def test_read(self) -> None:
        """As it is now."""
        self.config(free_port(), "shutdown_timeout: 7s")
        self.assertEqual(self.said(), [])
        [config] = self.balancer.configs
        self.assertEqual(config.shutdown_timeout, 7.0)

    def test_mistakes(self) -> None:
        self.config(99999, "wrokers: 1")
        *lines, last = self.said()
        places = [line.split(": ")[0].removeprefix(str(self.path.absolute())) for line in lines]
        self.assertEqual((places, last), ([":1:1", ":3:41"], "no reload, the configuration stays as it was"))
        self.path.unlink()
        self.assertIn(f"{self.path}: ", self.said()[0])
        self.config(free_port(), 'access_log: {path: "-"}')
        self.assertIn("a daemon has no standard output", self.said(foreground=False)[0])
        self.assertEqual(self.balancer.configs, [])

    def test_cannot_be_had(self) -> None:
        """What the balancer finds wrong is said in the same way; what nobody expected, with its traceback."""
        for error, said in (
            (BindError("one\ntwo"), ["one", "two"]),
            (OSError(13, "Permission denied", "/a.pem"), [f"{self.path}: cannot open /a.pem: Permission denied"]),
            (ValueError("no workers"), [f"{self.path}: no workers"]),
            (KeyError("x"), ["the reload breaks"]),
        ):
            self.balancer = Balancer()
            self.assertEqual(
                self.said(answer=Failure(error)), [*said, "no reload, the configuration stays as it was"], error
            )

    def test_broken(self) -> None:
        """What cannot be undone is not called undone."""
        try:
            raise ReloadBroke from ValueError("not twice")
        except ReloadBroke:
            said = self.said(answer=Failure())
        self.assertEqual(said, ["the reload broke half way: stop pylb, and start it again"])
        self.assertEqual([failure.getErrorMessage() for failure in self.logged], ["not twice"])

    def test_again(self) -> None:
        """However often it is asked for meanwhile, the file is read once more afterwards; not if pylb stops."""
        reload = Reload(str(self.path), True, self.balancer)
        for _ in range(3):
            reload()
        self.assertEqual(len(self.balancer.configs), 1)
        answer, self.balancer.answer = self.balancer.answer, Deferred()
        self.config(free_port(), "shutdown_timeout: 7s")
        answer.callback(None)
        self.assertEqual([config.shutdown_timeout for config in self.balancer.configs], [30.0, 7.0])
        reload()
        self.balancer.answer.errback(CancelledError())
        self.assertEqual(len(self.balancer.configs), 2)

    def test_stopped(self) -> None:
        self.assertEqual(self.said(answer=Failure(CancelledError())), ["no reload: pylb stops"])
