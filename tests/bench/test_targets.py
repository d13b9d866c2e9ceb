from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import targets
from pylb.config import load

SERVERS = {"backend_1": 1, "backend_2": 2}


class TargetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        targets.prepare(self.folder)

    def test_pylb(self) -> None:
        """pylb takes its configuration, listens on the ports that are measured, and logs to a file."""
        program = targets.pylb(self.folder, SERVERS)
        config = load(str(self.folder / "pylb.yaml"))
        self.assertEqual(
            {name: [str(address) for address in listener.listen] for name, listener in config.listeners.items()},
            {name: [f"127.0.0.1:{port}"] for name, port in program.ports.items()},
        )
        assert config.access_log is not None
        self.assertEqual(Path(config.access_log.path).resolve().parent, self.folder.resolve())

    def test_soaked(self) -> None:
        """So it does in the soak."""
        program = targets.soaked(self.folder, {f"backend_{number}": number for number in (1, 2, 3)})
        config = load(str(self.folder / "soak.yaml"))
        self.assertEqual(
            {name: [str(address) for address in listener.listen] for name, listener in config.listeners.items()},
            {name: [f"127.0.0.1:{port}"] for name, port in program.ports.items()},
        )

    def test_same_ports(self) -> None:
        """The others listen on a port of each name, HAProxy on none for UDP, and pass on to both servers."""
        for make, name in ((targets.nginx, "nginx.conf"), (targets.haproxy, "haproxy.cfg")):
            program = make(self.folder, SERVERS)
            text = (self.folder / name).read_text(encoding="utf-8")
            listening = {int(port) for port in re.findall(r"(?:listen|bind) 127\.0\.0\.1:(\d+)", text)}
            self.assertEqual(listening, set(program.ports.values()))
            self.assertEqual(set(re.findall(r"server .*127\.0\.0\.1:(\d+)", text)), {"1", "2"})
        self.assertEqual(set(targets.haproxy(self.folder, SERVERS).ports), {"http", "tcp", "tls"})

    def test_variables(self) -> None:
        """nginx's own variables stay as they are."""
        targets.nginx(self.folder, SERVERS)
        self.assertIn("X-Forwarded-For $remote_addr;", (self.folder / "nginx.conf").read_text(encoding="utf-8"))

    def test_bodies(self) -> None:
        """Bodies have the size that their name says."""
        sizes = {path.name: path.stat().st_size for path in (self.folder / "bodies").iterdir()}
        self.assertEqual(sizes, {"1m": 10**6, "100m": 10**8})

    def test_profile(self) -> None:
        """twistd is told to profile only when somebody asks."""
        plain, profiled = targets.pylb(self.folder, SERVERS), targets.pylb(self.folder, SERVERS, Path("there"))
        self.assertNotIn("--profile=there", plain._command)
        self.assertIn("--profile=there", profiled._command)


class NeedTests(SynchronousTestCase):
    def test_missing(self) -> None:
        """What is not there is named as Debian's packages are."""
        self.patch(
            targets, "_NEEDED", {"no-such-program": "a", "/no/such/file": "b", "sh": "c", "/dev": "d", __file__: "e"}
        )
        self.assertEqual(targets.missing(), ["a", "b", "d"])

    def test_ports(self) -> None:
        """Each name has a port of its own, below those that connections get."""
        ports = targets.free_ports([str(number) for number in range(100)])
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        self.assertEqual(len(set(ports.values())), 100)
        self.assertLess(max(ports.values()), max(lowest, 2048))
