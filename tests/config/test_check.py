"""pylb.config.check: how health checks are asked for."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.config.check import CheckForm, MatchForm, unescaped
from pylb.model import (
    AgentCheck,
    ExecCheck,
    GrpcCheck,
    HeaderTest,
    HealthCheck,
    HttpCheck,
    HttpMatch,
    OwnCheck,
    TcpCheck,
    UdpCheck,
)
from tests.config.files import ConfigTestCase

OWN = """
class Mine:
    async def check(self, target):
        pass

class Deaf:
    pass

number = 7
"""


class CheckTestCase(ConfigTestCase):
    def text(self, check: str, server: str = "10.0.0.1:80", protocol: str = "tcp") -> str:
        return (
            f"pools:\n  p:\n    servers: [{server}]\n    health_check: {check}\n"
            f"listeners:\n  l: {{protocol: {protocol}, listen: 1, pool: p}}\n"
        )

    def checks(self, check: str, **more: str) -> tuple[HealthCheck, ...]:
        return self.load(self.text(check, **more)).pools["p"].health_check

    def check(self, check: str, **more: str) -> Any:
        [found] = self.checks(f"{{{check}}}", **more)
        return found

    def wrong(self, check: str, **more: str) -> list[str]:
        """The mistakes, without the path that they have in common."""
        mistakes = self.mistakes(self.text(check, **more))
        return [mistake.replace("lb.yaml:", "").replace("pools.p.", "") for mistake in mistakes]


class CheckTests(CheckTestCase):
    def test_none(self) -> None:
        """Without the key nobody is checked."""
        self.assertEqual(self.load(self.text("{type: tcp}").replace("health_check:", "#")).pools["p"].health_check, ())

    def test_one_or_several(self) -> None:
        self.assertEqual(self.checks("{type: http}"), (HttpCheck(),))
        self.assertEqual(self.checks("[{type: http}, {type: tcp, port: 8}]"), (HttpCheck(), TcpCheck(port=8)))

    def test_when(self) -> None:
        """All types have the keys that say when, and how often."""
        text = "interval: 2s, jitter: 500ms, unhealthy_interval: 1s, timeout: 300ms, "
        text += "fails: 3, passes: 2, mandatory: true, port: 9"
        asked: dict[str, Any] = {
            "interval": 2.0,
            "jitter": 0.5,
            "unhealthy_interval": 1.0,
            "timeout": 0.3,
            "fails": 3,
            "passes": 2,
            "mandatory": True,
            "port": 9,
        }
        for type_, expected in (
            ("http", HttpCheck(**asked)),
            ("tcp", TcpCheck(**asked)),
            ("udp", UdpCheck(**asked)),
            ("grpc", GrpcCheck(**asked)),
            ("agent", AgentCheck(**asked)),
            ("exec, command: ['true']", ExecCheck(command=("true",), **asked)),
        ):
            self.assertEqual(self.check(f"type: {type_}, {text}"), expected)

    def test_no_body(self) -> None:
        """A server may be told that there is none."""
        spec = self.check("type: http, method: POST, headers: {Content-Length: '0'}")
        self.assertEqual(spec.headers, (("Content-Length", "0"),))

    def test_http(self) -> None:
        """All keys; ranges of status, header tests by lower-case names, regexes of bytes."""
        text = (
            "type: http, uri: '/health?a=1', method: HEAD, headers: {Host: app.example.com, X-Check: a}, "
            "keepalive_time: 1m, match: {status: [200, 301-302], "
            "header: {Server: present, Age: absent, A: = b, B: '!= c d', C: ~ ^x, D: '!~ y'}, "
            "body: '!~ err.r'}"
        )
        tests = [("server", "present", ""), ("age", "absent", ""), ("a", "=", "b"), ("b", "!=", "c d")]
        tests += [("c", "~", "^x"), ("d", "!~", "y")]
        expected = HttpCheck(
            uri="/health?a=1",
            method="HEAD",
            headers=(("Host", "app.example.com"), ("X-Check", "a")),
            keepalive_time=60.0,
            match=HttpMatch(
                status=((200, 200), (301, 302)),
                header=tuple(HeaderTest(name, kind, value) for name, kind, value in tests),
                body=re.compile(b"err.r", re.DOTALL),
                not_body=True,
            ),
        )
        self.assertEqual(self.check(text), expected)
        self.assertEqual(self.check("type: http, match: {status: 204}").match, HttpMatch(status=((204, 204),)))
        self.assertEqual(self.check("type: http, match: {body: ~ a}").match.not_body, False)

    def test_send_and_expect(self) -> None:
        """Text is itself, whatever it means in a regex; escapes are bytes."""
        found = self.check(r"type: tcp, send: 'PING\r\n\x00\xff', expect: '+PONG\x0d'")
        self.assertEqual(found.send, b"PING\r\n\0\xff")
        self.assertEqual([bool(found.expect.search(said)) for said in (b" +PONG\r", b"PPONG\r")], [True, False])
        self.assertTrue(self.check(r"type: udp, expect: '~ ^[0-9]\x2e.$'").expect.search(b"7.\n"))
        self.assertTrue(self.check("type: tcp, expect: '~* pong'").expect.search(b"PONG"))
        self.assertFalse(self.check("type: tcp, expect: ~pong").expect.search(b"pong"))

    def test_presets(self) -> None:
        self.assertEqual(self.check("type: udp, preset: dns"), UdpCheck(preset="dns"))
        self.assertEqual(
            self.check("type: udp, preset: radius, secret: hush"), UdpCheck(preset="radius", secret="hush")
        )

    def test_grpc(self) -> None:
        self.assertEqual(self.check("type: grpc, service: a.B, status: 12"), GrpcCheck(service="a.B", status=12))

    def test_exec(self) -> None:
        """A program by its path or its name, and its arguments as they are."""
        self.assertEqual(
            self.check("type: exec, command: [sh, -c, 'exit 1']"), ExecCheck(command=("sh", "-c", "exit 1"))
        )
        self.assertEqual(self.check("type: exec, command: [/bin/sh]").command, ("/bin/sh",))
        path = Path(self.write("bin/mine", "#!/bin/sh\n"))
        path.chmod(0o755)
        self.assertEqual(self.check("type: exec, command: [bin/mine]").command, (str(path),))

    def test_own(self) -> None:
        """A class of a module beside the file."""
        self.write("mine.py", OWN)
        self.addCleanup(sys.modules.pop, "mine", None)
        found = self.check("type: mine:Mine, interval: 1s")
        self.assertEqual(found, OwnCheck(name="mine:Mine", own=sys.modules["mine"].Mine, interval=1.0))

    def test_every_key(self) -> None:
        """The forms have the keys of all types and no others."""
        kinds = (HttpCheck, TcpCheck, UdpCheck, GrpcCheck, ExecCheck, AgentCheck)
        built = {field.name for kind in kinds for field in fields(kind)}
        self.assertEqual(set(CheckForm.model_fields), built | {"type"})
        self.assertEqual(set(MatchForm.model_fields), {field.name for field in fields(HttpMatch)} - {"not_body"})

    def test_secret_is_not_repeated(self) -> None:
        self.assertNotIn("hush", repr(self.check("type: udp, preset: radius, secret: hush")))


class MistakeTests(CheckTestCase):
    def test_values(self) -> None:
        """Each with its place and what to do."""
        leave = "which the request of a check has not: leave it out"
        table = {
            "type: htp": 'type: unknown type of health check "htp", did you mean "http"?',
            "type: own": 'type: unknown type of health check "own"',
            "type: http, interval: 0": "interval: must be longer than 0",
            "type: http, fails: 0": "fails: must be from 1 to 2147483647, not 0",
            "type: http, port: 0": "port: must be from 1 to 65535, not 0",
            "type: http, port: 65536": "port: must be from 1 to 65535, not 65536",
            "type: http, uri: health": 'uri: "health" is no path of a URL',
            "type: http, uri: /a b": 'uri: "/a b" is no path of a URL',
            "type: http, method: get": 'method: "get" is no method of HTTP',
            "type: http, method: CONNECT": (
                "method: CONNECT asks a proxy for a tunnel: write GET or HEAD, or have the type tcp connect"
            ),
            "type: http, headers: {a b: c}": 'headers: "a b" is no name of a header',
            "type: http, headers: {a: é}": 'headers: a must be text of plain characters, not "é"',
            "type: http, headers: []": "headers: must be a mapping of names of headers",
            "type: http, match: {status: 99}": (
                'match.status: must be a status such as 200 or a range such as 200-399, not "99"'
            ),
            "type: http, match: {status: [200, 300-299]}": 'match.status.1: "300-299" ends before it begins',
            "type: http, match: {header: {a: b}}": (
                'match.header: a must be present, absent, = TEXT, != TEXT, ~ REGEX or !~ REGEX, not "b"'
            ),
            "type: http, match: {header: {a: ~ (}}": (
                'match.header: "(" is no regular expression: missing ), unterminated subpattern at position 0'
            ),
            "type: http, match: {body: fine}": 'match.body: must be ~ REGEX or !~ REGEX, not "fine"',
            "type: http, match: {bodi: fine}": 'match.bodi: unknown key "bodi", did you mean "body"?',
            r"type: tcp, send: '\q'": r"send: unknown escape \q (known: \xHH \r \n \t \0 \\)",
            r"type: tcp, send: '\x4'": r"send: unknown escape \x (known: \xHH \r \n \t \0 \\)",
            "type: tcp, expect: '~ ['": (
                'expect: "[" is no regular expression: unterminated character set at position 0'
            ),
            "type: udp, preset: snmp": 'preset: must be "dns" or "ntp" or "radius", not "snmp"',
            "type: grpc, status: 0": "status: must be from 1 to 2147483647, not 0",
            "type: exec, command: []": "command: must not be empty",
            "type: exec, command: [no-such-program]": (
                'command: there is no program "no-such-program" in the PATH that may be run'
            ),
            "type: exec, command: [/dev/null]": 'command: there is no program "/dev/null" that may be run',
            "type: http, headers: {a: []}": 'headers: a must be text of plain characters, not "[]"',
            "type: http, headers: {a: 1}": 'headers: a must be text, not 1: write "1"',
            "type: http, headers: {a: true}": 'headers: a must be text, not true: write "true"',
            "type: http, headers: {Host: a, host: b}": "headers: host is the header Host once more: leave one out",
            **{
                f"type: http, headers: {{{line}}}": f"headers: {line.partition(':')[0]} speaks of a body, {leave}"
                for line in ("Content-Length: '5'", "transfer-encoding: chunked", "Expect: 100-continue", "Trailer: a")
            },
        }
        for text, mistake in table.items():
            [found] = self.wrong(f"{{{text}}}")
            self.assertEqual(found.partition("health_check.")[2], mistake)
            [found] = self.wrong(f"[{{type: tcp}}, {{{text}}}]")
            self.assertEqual(found.partition("health_check.1.")[2], mistake)

    def test_places(self) -> None:
        """The line and the column are those of the value; of an unknown key the key's."""
        self.assertEqual(self.wrong("{type: tcp, fails: 0}")[0][:5], "4:38:")
        self.assertEqual(self.wrong("[{type: tcp}, {type: http, match: {a: b}}]")[0][:5], "4:54:")

    def test_together(self) -> None:
        """Keys of another type, keys that are missing, and what does not go together."""
        table = {
            "{}": '"type" is missing',
            "{type: tcp, uri: /}": '"uri" belongs to the type http, not to tcp',
            "{type: http, send: a}": '"send" belongs to the type tcp and udp and agent, not to http',
            "{type: exec}": 'the type exec needs "command"',
            "{type: agent}": 'the type agent needs "port": where the agent listens',
            "{type: udp, preset: dns, send: a}": (
                '"preset: dns" sends and expects for itself: leave "send" and "expect" out'
            ),
            "{type: udp, preset: radius}": '"preset: radius" needs "secret", which no other check has',
            "{type: udp, secret: a}": '"preset: radius" needs "secret", which no other check has',
        }
        for text, mistake in table.items():
            self.assertEqual(self.wrong(text), [f"4:19: health_check: {mistake}"])

    def test_own(self) -> None:
        """What is no check is told before anything starts."""
        self.write("mine.py", OWN)
        self.addCleanup(sys.modules.pop, "mine", None)
        table = {
            "mine:Mime": 'the module "mine" has no "Mime", did you mean "Mine"?',
            "mine:Deaf": '"Deaf" is no health check, it lacks check',
            "mine:number": '"7" is no class, and a health check is one',
        }
        for name, mistake in table.items():
            self.assertEqual(self.wrong(f"{{type: {name}}}"), [f"4:26: health_check.type: {mistake}"])

    def test_unix_sockets(self) -> None:
        """They have no ports, and take no datagrams; the other checks can be made."""
        unix = "10.0.0.1:80, {address: unix:/run/a}"
        self.assertEqual(
            self.wrong("{type: tcp, port: 8}", server=unix),
            ["4:37: health_check.port: a server of this pool is a Unix socket, which has no other port"],
        )
        self.assertEqual(
            self.wrong("[{type: tcp}, {type: udp}]", server=unix),
            ["4:40: health_check.1.type: a server of this pool is a Unix socket, which takes no datagrams"],
        )
        self.assertEqual(self.checks("[{type: tcp}, {type: http}]", server=unix), (TcpCheck(), HttpCheck()))

    def test_side_ports(self) -> None:
        """A pool of datagrams may be asked over streams, at the same port or another, and the other way round."""
        self.assertEqual(self.check("type: http, port: 8080", protocol="udp"), HttpCheck(port=8080))
        self.assertEqual(self.check("type: tcp", protocol="udp"), TcpCheck())
        self.assertEqual(self.check("type: udp, preset: dns"), UdpCheck(preset="dns"))


class EscapeTests(SynchronousTestCase):
    def test_each(self) -> None:
        """Bytes by their number, a few letters, and the backslash; all else is UTF-8."""
        table = {
            "": b"",
            "é": b"\xc3\xa9",
            r"\xe9": b"\xe9",
            r"\x41": b"A",
            r"\r\n\t\0\\": b"\r\n\t\0\\",
            r"\\x41": rb"\x41",
            r"a\\": b"a\\",
        }
        for text, expected in table.items():
            self.assertEqual(unescaped(text), expected)

    def test_wrong(self) -> None:
        """A backslash that stands for nothing."""
        for text in (r"\d", "\\", r"\xg0", r"\8"):
            self.assertRaises(ValueError, unescaped, text)
