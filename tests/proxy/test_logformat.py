"""pylb.proxy.logformat: how does a record become a line?"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.accesslog import Asked, Record
from pylb.proxy.logformat import (
    _HTTP,
    _HTTP_JSON,
    _JSON_TRY,
    _OF_RECORD,
    _OF_TRY,
    _STREAM,
    Moment,
    _text,
    compile_format,
)
from pylb.variables import VARIABLES

ASKED = ("request", "method", "target", "version", "host", "referer", "user_agent")
WALL = 1795416354.25  # 23 November 2026, 06:45:54 UTC


def asked(**said: bytes) -> Asked:
    """What a client asked that said so much and no more."""
    return SimpleNamespace(**{name: said.get(name, b"") for name in ASKED})


def http_record() -> Record:
    """A request that the second server answered, started when the clock read 100."""
    record = Record("web", "http", "192.0.2.7", 4711, 100.0, "backend")
    record.asked = asked(
        request=b"GET /a?b=c HTTP/1.1",
        method=b"GET",
        target=b"/a?b=c",
        version=b"HTTP/1.1",
        host=b"example.com",
        user_agent=b"curl/8.5",
    )
    record.tried("10.0.0.1:80").connect_time = 0.0011
    answered = record.tried("10.0.0.2:80")
    answered.status, answered.connect_time, answered.header_time = 200, 0.0005, 0.0109
    record.status, record.bytes_received, record.bytes_sent = 200, 78, 5316
    record.queue_time = 0.2509
    return record


def stream_record(protocol: str) -> Record:
    """A connection or session with one server, started when the clock read 100."""
    record = Record("db", protocol, "2001:db8::7", 4711, 100.0, "mysql")
    record.tried("[2001:db8::1]:3306").connect_time = 0.002
    record.status, record.bytes_received, record.bytes_sent = 200, 10, 20
    record.upstream_bytes_received, record.upstream_bytes_sent = 21, 11
    return record


class _InUtc(SynchronousTestCase):
    zone = "UTC0"

    def setUp(self) -> None:
        before = os.environ.get("TZ")
        self.addCleanup(self.set_zone, before)
        self.set_zone(self.zone)
        self.moment = Moment(101.5, WALL)

    def set_zone(self, zone: str | None) -> None:
        """Make the process live in this time zone."""
        if zone is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = zone
        time.tzset()

    def line(self, template: str, record: Record) -> str:
        """The record's line, written 1.5 s after it started."""
        return compile_format(template)[record.protocol](record, 101.5, self.moment)


class MomentTests(_InUtc):
    zone = "XYZ-05:30"

    def test_texts(self) -> None:
        """Both texts are in local time, with its distance from UTC."""
        self.assertEqual(self.moment.time_local, "23/Nov/2026:12:15:54 +0530")
        self.assertEqual(self.moment.time_iso8601, "2026-11-23T12:15:54+05:30")

    def test_ends_with_the_second(self) -> None:
        """A moment that was made a quarter into a second is over three quarters later."""
        self.assertAlmostEqual(self.moment.ends, 101.5 + 0.75, places=6)


class CombinedTests(_InUtc):
    def test_http(self) -> None:
        """nginx's combined line comes first, so that what reads nginx's logs reads ours."""
        self.assertEqual(
            self.line("combined", http_record()),
            '192.0.2.7 - - [23/Nov/2026:06:45:54 +0000] "GET /a?b=c HTTP/1.1" 200 5316 "-" "curl/8.5"'
            ' web backend "10.0.0.1:80, 10.0.0.2:80" "-, 200" rt=1.500 uct="0.001, 0.000" uht="-, 0.010"',
        )

    def test_streams(self) -> None:
        """TCP and UDP have a line of their own."""
        for protocol in ("tcp", "udp"):
            self.assertEqual(
                self.line("combined", stream_record(protocol)),
                f"2001:db8::7 [23/Nov/2026:06:45:54 +0000] {protocol.upper()} 200 20 10 1.500"
                ' db mysql "[2001:db8::1]:3306" "11" "21" uct="0.002"',
            )

    def test_nothing_known(self) -> None:
        """A request that could not be read and was not answered still makes a whole line."""
        self.assertEqual(
            self.line("combined", Record("web", "http", "unix:", None, 100.0)),
            'unix: - - [23/Nov/2026:06:45:54 +0000] "-" 000 0 "-" "-" web - "-" "-" rt=1.500 uct="-" uht="-"',
        )


class TemplateTests(_InUtc):
    def test_every_variable(self) -> None:
        """Each variable that a format may name gives the value that the documentation promises."""
        values = {
            "bytes_received": "78",
            "bytes_sent": "5316",
            "http_host": "example.com",
            "http_referer": "-",
            "http_user_agent": "curl/8.5",
            "listener": "web",
            "msec": "1795416354.250",
            "pool": "backend",
            "protocol": "HTTP",
            "remote_addr": "192.0.2.7",
            "remote_port": "4711",
            "remote_user": "-",
            "request": "GET /a?b=c HTTP/1.1",
            "request_method": "GET",
            "request_time": "1.500",
            "request_uri": "/a?b=c",
            "server_protocol": "HTTP/1.1",
            "session_time": "1.500",
            "status": "200",
            "time_iso8601": "2026-11-23T06:45:54+00:00",
            "time_local": "23/Nov/2026:06:45:54 +0000",
            "upstream_addr": "10.0.0.1:80, 10.0.0.2:80",
            "upstream_bytes_received": "0",
            "upstream_bytes_sent": "0",
            "upstream_connect_time": "0.001, 0.000",
            "upstream_header_time": "-, 0.010",
            "upstream_queue_time": "0.250",
            "upstream_status": "-, 200",
        }
        self.assertEqual({name: self.line(f"${name}", http_record()) for name in VARIABLES}, values)
        self.assertEqual(VARIABLES, _OF_RECORD.keys() | _OF_TRY.keys())

    def test_literal_text(self) -> None:
        """What is not a variable stands in the line as it is, whatever it means to Python."""
        for literal in ("100% ", "%s ", "{r} ", "'", '"', "\\n", "'''", "é"):
            self.assertEqual(self.line(literal + "$status", http_record()), literal + "200")

    def test_refused(self) -> None:
        """What is no format raises ValueError in the words of check_format."""
        error = self.assertRaises(ValueError, compile_format, "$remote_add")
        self.assertEqual(str(error), 'unknown variable "$remote_add", did you mean "$remote_addr"?')

    def test_escapes(self) -> None:
        """Quotes, backslashes, control characters and all beyond ASCII are written as nginx does."""
        record = http_record()
        record.asked = asked(target=b'/"\\\r\n\x00\x7f\xff~ ')
        self.assertEqual(self.line("$request_uri", record), r"/\x22\x5C\x0D\x0A\x00\x7F\xFF~ ")

    def test_text_is_escaped_as_utf8(self) -> None:
        """Names are text; what is not ASCII in them is escaped byte by byte of UTF-8."""
        self.assertEqual(self.line("$listener", Record("wéb", "tcp", "", None, 0.0)), r"w\xC3\xA9b")

    def test_remembered_texts_are_bounded(self) -> None:
        """However many and long the texts that clients send, few and short ones are remembered."""
        for n in range(3000):
            self.assertEqual(_text[b"/%d" % n], f"/{n}")
        self.assertEqual(_text[b"x" * 10_000], "x" * 10_000)
        self.assertLessEqual(len(_text), 1024)
        self.assertLessEqual(max(map(len, _text)), 256)


class JsonTests(_InUtc):
    def test_http(self) -> None:
        """A request's object has these keys, in this order."""
        self.assertEqual(
            list(json.loads(self.line("json", http_record())).items()),
            [
                ("time", "2026-11-23T06:45:54+00:00"),
                ("listener", "web"),
                ("protocol", "http"),
                ("remote_addr", "192.0.2.7"),
                ("remote_port", 4711),
                ("pool", "backend"),
                ("status", 200),
                ("bytes_received", 78),
                ("bytes_sent", 5316),
                ("upstream_bytes_received", 0),
                ("upstream_bytes_sent", 0),
                ("request_time", 1.5),
                ("queue_time", 0.25),
                (
                    "tries",
                    [
                        {"server": "10.0.0.1:80", "status": None, "connect_time": 0.001, "header_time": None},
                        {"server": "10.0.0.2:80", "status": 200, "connect_time": 0.0, "header_time": 0.01},
                    ],
                ),
                ("request_method", "GET"),
                ("request_uri", "/a?b=c"),
                ("server_protocol", "HTTP/1.1"),
                ("http_host", "example.com"),
                ("http_referer", None),
                ("http_user_agent", "curl/8.5"),
            ],
        )

    def test_stream(self) -> None:
        """A connection's object has the same keys, without those of HTTP; what is unknown is null."""
        record = Record("db", "tcp", "unix:", None, 100.0)
        self.assertEqual(
            json.loads(self.line("json", record)),
            {
                "time": "2026-11-23T06:45:54+00:00",
                "listener": "db",
                "protocol": "tcp",
                "remote_addr": "unix:",
                "remote_port": None,
                "pool": None,
                "status": None,
                "bytes_received": 0,
                "bytes_sent": 0,
                "upstream_bytes_received": 0,
                "upstream_bytes_sent": 0,
                "request_time": 1.5,
                "queue_time": None,
                "tries": [],
            },
        )

    def test_bytes_that_are_no_text(self) -> None:
        """UTF-8 is text; other bytes are shown as \\xhh, so that every JSON reader takes the line."""
        record = http_record()
        record.asked = asked(target="/é".encode() + b"\xff\n")
        self.assertEqual(json.loads(self.line("json", record))["request_uri"], "/é\\xff\n")


TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
FIELDS: dict[str, Any] = {
    "listener": TEXT,
    "pool": TEXT,
    "remote_addr": TEXT,
    "asked": st.builds(asked, **dict.fromkeys(ASKED, st.binary())),
}
TEMPLATE = " ".join(f'"${name}"' for name in sorted(VARIABLES))


class AnyFieldTests(_InUtc):
    @settings(deadline=None)
    @given(st.sampled_from(["http", "tcp", "udp"]), st.fixed_dictionaries(FIELDS), st.lists(TEXT, max_size=3))
    def test_one_line(self, protocol: str, fields: dict[str, Any], servers: list[str]) -> None:
        """Whatever the fields hold, a record is one line: ASCII, no control character, no quote from a field."""
        record = Record("", protocol, "", None, 100.0)
        for name, value in fields.items():
            setattr(record, name, value)
        for server in servers:
            record.tried(server)
        for template in ("combined", "json", TEMPLATE):
            line = self.line(template, record)
            self.assertTrue(line.isascii() and line.isprintable(), line)
        self.assertEqual(line.count('"'), 2 * len(VARIABLES))
        self.assertEqual(json.loads(self.line("json", record))["listener"], fields["listener"] or None)


class DocumentationTests(SynchronousTestCase):
    page = (Path(__file__).parents[2] / "docs" / "access-log.md").read_text(encoding="utf-8")

    def test_combined(self) -> None:
        """docs/access-log.md shows both forms of `combined` as they are."""
        self.assertIn(f"\n{_HTTP}\n", self.page)
        self.assertIn(f"\n{_STREAM}\n", self.page)

    def test_json_keys(self) -> None:
        """docs/access-log.md names each key of `json`, and no other."""
        table = self.page.partition("\n## json\n")[2].partition("\n## ")[0]
        rows = [line for line in table.splitlines() if line.startswith("| `")]
        keys = {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])}
        self.assertEqual(keys, set(_HTTP_JSON))
        self.assertEqual(
            set(re.findall(r"`(\w+)`", next(row for row in rows if "`tries`" in row))), {"tries", *_JSON_TRY}
        )
