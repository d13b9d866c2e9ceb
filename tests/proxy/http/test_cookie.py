"""pylb.proxy.http.cookie: the Set-Cookie line of a pool."""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.sticky import CookieSessions
from pylb.model import StickyCookie
from pylb.proxy.http.cookie import SessionCookie, cookie_time
from pylb.proxy.http.head import RequestHead, parse_request
from tests.balance.fakes import make_server

#: Sun Sep 9 01:46:40 2001 UTC.
NOW = 1_000_000_000.0


def request(cookie: str = "") -> RequestHead:
    line = f"Cookie: {cookie}\r\n" if cookie else ""
    return parse_request(f"GET / HTTP/1.1\r\nHost: a\r\n{line}".encode())


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.a = make_server("a", route="one")

    def line(self, cookie: str = "", **asked: Any) -> str:
        sessions = CookieSessions(StickyCookie(name="id", **asked), "web")
        sessions.use([self.a])
        return SessionCookie(sessions, lambda: NOW).line(request(cookie), self.a).decode()

    def test_attributes(self) -> None:
        """Those that were asked for and no others, spelt as nginx does."""
        for asked, attributes in (
            ({}, ""),
            ({"expires": 3600.0}, "; expires=Sun, 09-Sep-01 02:46:40 GMT; max-age=3600"),
            ({"expires": 1.9}, "; expires=Sun, 09-Sep-01 01:46:41 GMT; max-age=1"),
            ({"expires": inf}, "; expires=Thu, 31-Dec-37 23:55:55 GMT; max-age=315360000"),
            ({"domain": ".example.com"}, "; domain=.example.com"),
            ({"httponly": True}, "; httponly"),
            ({"secure": True}, "; secure"),
            ({"samesite": "lax"}, "; samesite=lax"),
            ({"path": "/"}, "; path=/"),
        ):
            self.assertEqual(self.line(**asked), f"Set-Cookie: id=one{attributes}\r\n")

    def test_order(self) -> None:
        """All together, in nginx's order."""
        line = self.line(path="/p", samesite="none", secure=True, httponly=True, domain="d.test", expires=1.0)
        self.assertEqual(
            line,
            "Set-Cookie: id=one; expires=Sun, 09-Sep-01 01:46:41 GMT; max-age=1; domain=d.test; httponly; secure;"
            " samesite=none; path=/p\r\n",
        )

    def test_only_when_it_changes(self) -> None:
        """A client that brought the right one gets none; who brought none, another or only a part of it does."""
        got = [bool(self.line(cookie)) for cookie in ("id=one", "x=y; id=one", "", "id=two", "id=on", "x=one")]
        self.assertEqual(got, [False, False, True, True, True, True])

    def test_refresh(self) -> None:
        """On every answer if the operator wants that."""
        self.assertEqual(self.line("id=one", refresh=True), "Set-Cookie: id=one\r\n")

    def test_secret(self) -> None:
        """The signed name, and a client that brings the bare one gets it too."""
        line = self.line("id=one", secret="0123456789abcdef")
        self.assertRegex(line, r"\ASet-Cookie: id=[\w-]{43}\r\n\Z")
        self.assertEqual(self.line(line[12:-2], secret="0123456789abcdef"), "")


class TimeTests(SynchronousTestCase):
    def test_year(self) -> None:
        """Two digits up to 2037, then four, as in nginx."""
        self.assertEqual(cookie_time(2145916555), "Thu, 31-Dec-37 23:55:55 GMT")
        self.assertEqual(cookie_time(2145916800), "Fri, 01-Jan-2038 00:00:00 GMT")
