"""pylb.tap: what the command line makes, or says."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pylb.signals import SIGNALS
from pylb.tap import Options, makeService
from tests.fakes import keep_signals
from tests.functional.rig import free_port


class OptionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        keep_signals(self)

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

    def test_signals_wait(self):
        """From here on, until somebody answers them."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self.parsed()
        self.assertLessEqual(SIGNALS, signal.pthread_sigmask(signal.SIG_BLOCK, ()))


class MakeServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        keep_signals(self)

    def made(self, config: Path, nodaemon: bool):
        options = Options()
        options.parent = {"nodaemon": nodaemon}
        options.parseOptions(["--config", os.path.relpath(config)])
        return makeService(options)

    def test_file_and_foreground(self):
        """The file is known by its whole path, wherever the program goes later; only a daemon has no standard output."""
        with tempfile.TemporaryDirectory() as folder:
            path, port = Path(folder, "lb.yaml"), free_port()
            path.write_text(
                f"access_log: {{path: '-'}}\npools: {{p: {{servers: [127.0.0.1:9]}}}}\n"
                f"listeners: {{a: {{protocol: tcp, listen: 127.0.0.1:{port}, pool: p}}}}\n"
            )
            error = self.assertRaises(SystemExit, self.made, path, nodaemon=False)
            self.assertTrue(str(error).startswith(f"{path}: access_log.path: a daemon has no standard output"), error)
            services = self.made(path, nodaemon=True)
            self.addCleanup(services.services[1].close)
            socket.create_connection(("127.0.0.1", port)).close()
