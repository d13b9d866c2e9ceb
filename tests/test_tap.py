"""pylb.tap: what the command line makes, or says."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path

from twisted.application.service import IService
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pylb.tap import Options, Signals, makeService
from pylb.workers.supervisor import Supervisor


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Twistd(dict):
    """twistd's own options, as far as pylb asks for them."""


class OptionsTests(SynchronousTestCase):
    def parsed(self, *arguments) -> Options:
        options = Options()
        options.parseOptions(arguments)
        return options

    def refused(self, *arguments) -> str:
        return str(self.assertRaises(SystemExit, self.parsed, *arguments))

    def test_defaults(self):
        options = self.parsed()
        self.assertEqual((options["config"], options["demo"]), ("etc/lb.yaml", 0))

    def test_given(self):
        options = self.parsed("--config", "x.yaml", "--demo")
        self.assertEqual((options["config"], options["demo"]), ("x.yaml", 1))

    def test_misspelt(self):
        """One line, not twistd's page of options."""
        for arguments, problem in (
            (["--confog", "x"], "option --confog not recognized"),
            (["--config"], "option --config requires argument"),
            (["-n"], "option -n not recognized"),
            (["lb.yaml"], 'unexpected "lb.yaml", did you mean --config lb.yaml?'),
        ):
            self.assertEqual(
                self.refused(*arguments),
                f'twistd pylb: {problem} (twistd\'s own options come before "pylb"; see twistd pylb --help)',
            )


class MakeServiceTests(SynchronousTestCase):
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

    def made(self, *arguments, nodaemon=True) -> IService:
        options = Options()
        options.parent = Twistd(nodaemon=nodaemon)
        options.parseOptions(["--config", str(self.path), *arguments])
        return makeService(options)

    def refused(self, *arguments, **more) -> str:
        return str(self.assertRaises(SystemExit, self.made, *arguments, **more))

    def test_bound(self):
        """Every socket listens before anything is started, wherever the program goes later."""
        port = free_port()
        self.config(port)
        self.path = os.path.relpath(self.path)
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
        """Each is one line that begins with the file's whole path."""
        path = self.path.absolute()
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
            self.refused(nodaemon=False),
            f"{self.path.absolute()}: access_log.path: a daemon has no standard output: name a file, or use twistd -n",
        )
        self.made().services[1].close()

    def test_access_log(self):
        self.config(free_port(), "access_log: {path: nowhere/access.log}")
        log = self.folder.absolute() / "nowhere" / "access.log"
        self.assertEqual(self.refused(), f"{self.path.absolute()}: cannot open {log}: No such file or directory")

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
                f"server {server}: cannot listen on tcp {server}: Address already in use", self.refused("--demo")
            )
        self.assertFalse((self.folder / "s.sock").exists())


class Reactor(Clock):
    """Runs at once what is to be run in its thread or when it runs."""

    stopped = 0

    def callWhenRunning(self, call):
        call()

    def callFromThread(self, call, *arguments):
        call(*arguments)

    def stop(self):
        if self.stopped:
            raise ReactorNotRunning
        self.stopped += 1


class Balancer:
    def __init__(self):
        self.calls = []

    def abort(self):
        self.calls.append("abort")

    def reopen_log(self):
        self.calls.append("reopen_log")


class SignalsTests(SynchronousTestCase):
    def setUp(self):
        self.rotated = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        signal.signal(signal.SIGUSR1, lambda number, frame: self.rotated.append(number))
        self.reactor, self.balancer = Reactor(), Balancer()
        Signals(self.balancer, self.reactor).startService()

    def said(self, *numbers) -> list[str]:
        with capturedLogs() as logs:
            for number in numbers:
                os.kill(os.getpid(), number)
        return [formatEvent(log) for log in logs]

    def test_stop(self):
        """The first signal stops the reactor, each further one cuts what still runs."""
        for first, second in ((signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)):
            self.setUp()
            self.assertEqual(self.said(first), [f"{first.name}: stopping; once more to close at once"])
            self.assertEqual((self.reactor.stopped, self.balancer.calls), (1, []))
            self.assertEqual(self.said(second), [f"{second.name} again: closing what still runs"])
            self.assertEqual((self.reactor.stopped, self.balancer.calls), (1, ["abort"]))

    def test_reload(self):
        said = self.said(signal.SIGHUP)
        self.assertEqual(said, ["SIGHUP: reloading is not supported yet; the configuration stays as it is"])
        self.assertEqual((self.reactor.stopped, self.balancer.calls), (0, []))

    def test_reopen(self):
        """The access log is reopened, and twistd's own handler still rotates its log."""
        self.said(signal.SIGUSR1)
        self.assertEqual((self.balancer.calls, self.rotated), (["reopen_log"], [signal.SIGUSR1]))

    def test_reopen_alone(self):
        """twistd has no handler when it logs to standard output."""
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        Signals(self.balancer, self.reactor).startService()
        self.said(signal.SIGUSR1)
        self.assertEqual(self.balancer.calls, ["reopen_log"])
