"""etc/pylb.service, Dockerfile and Makefile: do they start what there is to start, with the rights that it needs?"""

from __future__ import annotations

import json
import re
import shlex
from configparser import ConfigParser
from pathlib import Path

from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from pylb.config import load
from pylb.config.scalars import duration
from pylb.model import Config
from pylb.tap import Options
from tests.fakes import keep_signals

ROOT = Path(__file__).resolve().parents[1]


class CommandTestCase(SynchronousTestCase):
    def assert_serves(self, command: list[str], config: str = "/etc/pylb/lb.yaml", demo: bool = False) -> None:
        """It is twistd in the foreground, without a pid file, with pylb and this configuration."""
        keep_signals(self)
        program, *arguments = command
        self.assertEqual(Path(program).name, "twistd")
        twistd = ServerOptions()
        twistd.parseOptions(arguments)
        self.assertEqual((twistd["nodaemon"], twistd["pidfile"], twistd.subCommand), (True, "", "pylb"))
        self.assertIsInstance(twistd.subOptions, Options)
        self.assertEqual((twistd.subOptions["config"], bool(twistd.subOptions["demo"])), (config, demo))


class ServiceTests(CommandTestCase):
    """etc/pylb.service."""

    def setUp(self) -> None:
        unit = ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read(ROOT / "etc" / "pylb.service")
        self.service = unit["Service"]

    def test_command(self) -> None:
        """systemd starts pylb."""
        self.assert_serves(shlex.split(self.service["ExecStart"]))

    def test_rights(self) -> None:
        """It may have many descriptors and low ports, and nothing else, although it is not root."""
        self.assertGreaterEqual(int(self.service["LimitNOFILE"]), 1 << 20)
        self.assertEqual(self.service["User"], "pylb")
        for rights in ("AmbientCapabilities", "CapabilityBoundingSet"):
            self.assertEqual(self.service[rights], "CAP_NET_BIND_SERVICE")

    def test_stop(self) -> None:
        """systemd waits until requests had their time to finish."""
        self.assertEqual(self.service["KillSignal"], "SIGTERM")
        self.assertGreater(duration(self.service["TimeoutStopSec"]), Config(pools={}, listeners={}).shutdown_timeout)


class DockerTests(CommandTestCase):
    """Dockerfile."""

    def setUp(self) -> None:
        self.lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()

    def test_command(self) -> None:
        """The container starts pylb as process 1, without a shell around it."""
        [command] = [line.removeprefix("CMD ") for line in self.lines if re.match("CMD|ENTRYPOINT", line)]
        self.assert_serves(json.loads(command))

    def test_user(self) -> None:
        """It does not run as root."""
        self.assertEqual([line for line in self.lines if line.startswith("USER ")], ["USER pylb"])


class MakefileTests(CommandTestCase):
    """Makefile."""

    def test_run(self) -> None:
        """`make run` starts the demo, which loads and needs no rights."""
        text = (ROOT / "Makefile").read_text(encoding="utf-8")
        [command] = re.findall(r"^run:.*\n\t@exec (.*)$", text, re.M)
        self.assert_serves(shlex.split(command), "etc/demo.yaml", demo=True)
        config = load(str(ROOT / "etc" / "demo.yaml"))
        addresses = [address for listener in config.listeners.values() for address in listener.listen]
        self.assertEqual({str(address).rpartition(":")[0] for address in addresses}, {"127.0.0.1"})
        self.assertGreater(min(address.port for address in addresses), 1023)
