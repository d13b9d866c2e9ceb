from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from pylb import __version__
from pylb.cli import main
from tests.backends import socket_path
from tests.config.files import ConfigTestCase

STORED = Path(__file__).parents[1] / "etc" / "lb.schema.json"
RIGHT = (
    "pools:\n"
    "  a: {servers: [app.example:80, '[::1]:80', unix:/run/a]}\n"
    "  b:\n"
    "    servers: [other.example:80, app.example:81]\n"
    "listeners:\n"
    "  web: {protocol: http, listen: [8080, '[::]:8080'], routes: [{path: /, pool: a}, {path: /b, pool: b}]}\n"
    "  dns: {protocol: udp, listen: 127.0.0.1:5353, pool: b}\n"
)


class CheckTestCase(ConfigTestCase):
    """Runs `pylb check`."""

    def run_check(self, text: str, *options: str) -> Result:
        result = CliRunner().invoke(main, ["check", self.write("lb.yaml", text), *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def write_module(self, name: str, text: str) -> None:
        """Beside the configuration."""
        self.write(f"{name}.py", text)
        self.addCleanup(sys.modules.pop, name, None)

    def shown(self, text: str) -> str:
        return text.replace(f"{self.folder}/", "")


class Check(CheckTestCase):
    def test_ok(self) -> None:
        """A right configuration: what it comes to, a line a listener, and exit status 0."""
        result = self.run_check(RIGHT)
        self.assertEqual((0, ""), (result.exit_code, result.stderr))
        self.assertEqual(
            "lb.yaml: ok, 2 pools, 5 servers, 2 listeners\n"
            "  web: http on 0.0.0.0:8080, [::]:8080 -> a, b\n"
            "  dns: udp on 127.0.0.1:5353 -> b\n",
            self.shown(result.stdout),
        )

    def test_own_method(self) -> None:
        """A balancing method of somebody's own is looked for, and is a mistake like any other if it is not there."""
        text = RIGHT.replace("[app.example:80, '[::1]:80', unix:/run/a]", "[x:1], balance: checked_method:Mine")
        result = self.run_check(text)
        problem = f'no module "checked_method", neither in Python\'s sys.path nor in {self.folder}'
        self.assertEqual(
            (result.exit_code, result.stderr), (1, f"{self.folder}/lb.yaml:2:32: pools.a.balance: {problem}\n")
        )
        self.write_module(
            "checked_method",
            "class Mine:\n    def __init__(self, servers): ...\n    add = remove = choose = __init__\n",
        )
        self.assertEqual(self.run_check(text).exit_code, 0)

    def test_own_that_cannot_be_made(self) -> None:
        """A method or a check of somebody's own that raises when it is made, each at its place."""
        self.write_module(
            "checked_broken",
            "class Mine:\n    def __init__(self, *given): raise OSError('no\\ndisk')\n"
            "    def check(self, target): ...\n    add = remove = choose = check\n",
        )
        own = "checked_broken:Mine"
        result = self.run_check(
            f"pools:\n  a: {{servers: [x:1], balance: {own}}}\n"
            f"  b: {{servers: [x:1], balance: {{method: {own}}}, health_check: {{type: {own}}}}}\n"
            f"  c: {{servers: [x:1], health_check: [{{type: tcp}}, {{type: {own}}}]}}\n"
            "listeners:\n  web: {protocol: http, listen: 8080, pool: a}\n"
        )
        method = f"balancing method {own} cannot be made of a list of servers: OSError: no\\ndisk"
        check = f"health check {own} cannot be made: OSError: no\\ndisk"
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertEqual(
            f"lb.yaml:2:32: pools.a.balance: {method}\n"
            f"lb.yaml:3:41: pools.b.balance.method: {method}\n"
            f"lb.yaml:3:84: pools.b.health_check.type: {check}\n"
            f"lb.yaml:4:58: pools.c.health_check.1.type: {check}\n",
            self.shown(result.stderr),
        )

    def test_own_that_end_the_program(self) -> None:
        """What is raised as a method is handed its servers, and every sys.exit, is a mistake at its place as well."""
        self.write_module(
            "checked_exits",
            "import sys\n"
            "class Exits:\n    def __init__(self, *given): sys.exit('bye')\n"
            "    def check(self, target): ...\n    add = remove = choose = check\n"
            "class Full:\n    def __init__(self, servers): ...\n"
            "    def add(self, server): raise ValueError('no\\nroom')\n    remove = choose = add\n"
            "class ExitsLater(Full):\n    def add(self, server): sys.exit('bye')\n",
        )
        server = "servers: ['10.0.0.1:1']"
        result = self.run_check(
            f"pools:\n  a: {{{server}, balance: checked_exits:Full}}\n"
            f"  b: {{{server}, balance: checked_exits:ExitsLater}}\n"
            f"  c: {{{server}, balance: checked_exits:Exits, health_check: {{type: checked_exits:Exits}}}}\n"
            "listeners:\n  web: {protocol: http, listen: 8080, pool: a}\n"
        )
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        method = "balancing method checked_exits"
        self.assertEqual(
            f"lb.yaml:2:41: pools.a.balance: {method}:Full takes no server: ValueError: no\\nroom\n"
            f"lb.yaml:3:41: pools.b.balance: {method}:ExitsLater takes no server: SystemExit: bye\n"
            f"lb.yaml:4:41: pools.c.balance: {method}:Exits cannot be made of a list of servers: SystemExit: bye\n"
            "lb.yaml:4:83: pools.c.health_check.type: health check checked_exits:Exits cannot be made: SystemExit: bye\n",
            self.shown(result.stderr),
        )

    def test_tls(self) -> None:
        """A listener that speaks TLS is said to; one of a thing is not called several."""
        self.write_certificate("site", "site.example")
        tls = "tls: {certificates: [{cert: site.pem, key: site.key}]}"
        text = "pools: {a: {servers: [10.0.0.1:80]}}\nlisteners: {w: {protocol: tcp, listen: 443, pool: a, %s}}\n"
        self.assertEqual(
            "lb.yaml: ok, 1 pool, 1 server, 1 listener\n  w: tcp on 0.0.0.0:443 with TLS -> a\n",
            self.shown(self.run_check(text % tls).stdout),
        )

    def test_mistakes(self) -> None:
        """All mistakes on standard error, nothing on standard output, and exit status 1."""
        result = self.run_check("pools: {a: {servers: []}}\ncolour: red\n")
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertEqual(
            "lb.yaml:1:1: no listeners, nothing would be served\n"
            "lb.yaml:1:22: pools.a.servers: must not be empty\n"
            'lb.yaml:2:1: colour: unknown key "colour"\n',
            self.shown(result.stderr),
        )

    def test_no_file(self) -> None:
        """What cannot be read is one line, without a traceback."""
        for name, reason in [("none.yaml", "No such file or directory"), (".", "Is a directory")]:
            result = CliRunner().invoke(main, ["check", f"{self.folder}/{name}"])
            self.assertEqual(1, result.exit_code)
            self.assertEqual(f"{self.folder}/{name}: cannot be read: {reason}\n", result.stderr)


class Machine(CheckTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = socket_path(self).parent

    def test_lacks(self) -> None:
        """What this machine has not is told on standard error, each at its place; the configuration is right."""
        text = (
            "access_log: {path: logs/access.log}\n"
            "pools: {a: {servers: [10.0.0.1:80]}}\n"
            "listeners:\n"
            "  w: {protocol: tcp, listen: [127.0.0.1:8080, 192.0.2.1:80, unix:run/s], pool: a}\n"
            "  u: {protocol: udp, listen: '[2001:db8::1]:53', pool: a}\n"
        )
        result = self.run_check(text)
        self.assertEqual(
            (0, "lb.yaml: ok, 1 pool, 1 server, 2 listeners"),
            (result.exit_code, self.shown(result.stdout).splitlines()[0]),
        )
        none = "Cannot assign requested address on this machine"
        self.assertEqual(
            [
                f'lb.yaml:1:20: access_log.path: there is no folder "{self.folder}/logs" on this machine',
                f"lb.yaml:4:47: listeners.w.listen.1: cannot listen on 192.0.2.1:80: {none}",
                f'lb.yaml:4:61: listeners.w.listen.2: there is no folder "{self.folder}/run" on this machine',
                f"lb.yaml:5:30: listeners.u.listen: cannot listen on [2001:db8::1]:53: {none}",
            ],
            result.stderr.replace(f"{self.folder}/lb.yaml", "lb.yaml").splitlines(),
        )

    def test_has(self) -> None:
        """An address that is in use here, perhaps by pylb, and low ports are no lack; nobody is disturbed."""
        for name in ("logs", "run"):
            Path(self.folder, name).mkdir()
        with socket.socket() as used:
            used.bind(("127.0.0.1", 0))
            used.listen()
            listen = f"['127.0.0.1:{used.getsockname()[1]}', 127.0.0.1:1, 80, '[::]:80', unix:run/s]"
            for path in ("logs/access.log", "'-'"):
                result = self.run_check(
                    f"access_log: {{path: {path}}}\npools: {{a: {{servers: [10.0.0.1:80]}}}}\n"
                    f"listeners: {{w: {{protocol: tcp, listen: {listen}, pool: a}}}}\n"
                )
                self.assertEqual((result.exit_code, result.stderr), (0, ""))


class Resolve(CheckTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.asked: list[str] = []
        self.patch(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host: str, port: None, type: int) -> list[Any]:
        self.asked.append(host)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, 6, "", (address, 0)) for address in self.known[host]]

    known = {"app.example": ["10.0.0.1", "10.0.0.2", "10.0.0.1"], "other.example": ["10.0.0.3"]}

    def test_only_when_asked(self) -> None:
        """Without --resolve no name is looked up."""
        self.run_check(RIGHT)
        self.assertEqual([], self.asked)

    def test_resolved(self) -> None:
        """Every name is looked up once, and shown with its addresses."""
        result = self.run_check(RIGHT, "--resolve")
        self.assertEqual(["app.example", "other.example"], self.asked)
        self.assertEqual(0, result.exit_code)
        self.assertEqual(["app.example: 10.0.0.1, 10.0.0.2", "other.example: 10.0.0.3"], result.stdout.splitlines()[:2])

    def test_unknown_name(self) -> None:
        """A name that stands for nothing is a mistake at its place, and exit status 1."""
        self.known = {"app.example": ["10.0.0.1"]}
        result = self.run_check(RIGHT, "--resolve")
        self.assertEqual((1, "app.example: 10.0.0.1\n"), (result.exit_code, result.stdout))
        self.assertEqual(
            'lb.yaml:4:15: pools.b.servers.0: cannot look up "other.example": Name or service not known\n',
            self.shown(result.stderr),
        )


class Schema(SynchronousTestCase):
    def test_printed(self) -> None:
        """`pylb schema` prints what etc/lb.schema.json holds, and nothing else."""
        result = CliRunner().invoke(main, ["schema"])
        self.assertEqual((0, ""), (result.exit_code, result.stderr))
        self.assertEqual(STORED.read_text(), result.stdout)


class Command(ConfigTestCase):
    def test_version(self) -> None:
        """`pylb --version`."""
        result = CliRunner().invoke(main, ["--version"])
        self.assertEqual((0, f"pylb, version {__version__}\n"), (result.exit_code, result.stdout))
