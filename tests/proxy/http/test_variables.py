"""pylb.proxy.http.variables."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.head import parse_request
from pylb.proxy.http.variables import variable

HEAD = parse_request(
    b"GET /a/b?x=1&Y=two&x=3&empty=&flag HTTP/1.1\r\n"
    b"Host: Site.Example:8080\r\n"
    b"Accept: text/html\r\nAccept: text/plain\r\n"
    b"X-Forwarded-Proto: https\r\n"
    b"Cookie: id=7; Id=8\r\nCookie: other=9; quoted=a=b\r\n"
)


class VariableTests(SynchronousTestCase):
    def test_each(self) -> None:
        """As in nginx."""
        for name, value in {
            "args": b"x=1&Y=two&x=3&empty=&flag",
            "host": b"site.example",
            "request_method": b"GET",
            "request_uri": b"/a/b?x=1&Y=two&x=3&empty=&flag",
            "uri": b"/a/b",
            "http_host": b"Site.Example:8080",
            "http_accept": b"text/html, text/plain",
            "http_x_forwarded_proto": b"https",
            "http_missing": b"",
            "arg_x": b"1",
            "arg_y": b"two",
            "arg_empty": b"",
            "arg_flag": b"",
            "arg_z": b"",
            "cookie_id": b"7",
            "cookie_Id": b"7",
            "cookie_other": b"9",
            "cookie_quoted": b"a=b",
            "cookie_none": b"",
            "elsewhere": b"",
        }.items():
            self.assertEqual((name, variable(HEAD, name)), (name, value))

    def test_hosts(self) -> None:
        """Without the port, IPv6 in its brackets."""
        for host, value in ((b"[::1]:80", b"[::1]"), (b"[::1]", b"[::1]"), (b"A", b"a")):
            head = parse_request(b"GET / HTTP/1.1\r\nHost: %b\r\n" % host)
            self.assertEqual(variable(head, "host"), value)
