"""pylb.proxy.http.variables."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.head import parse_request, parse_response
from pylb.proxy.http.variables import answer_variable, variable

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
            "is_args": b"?",
            "query_string": b"x=1&Y=two&x=3&empty=&flag",
            "server_protocol": b"HTTP/1.1",
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

    def test_without_a_query(self) -> None:
        """`$is_args` is empty then, and `$server_protocol` is the client's."""
        head = parse_request(b"GET /a HTTP/1.0\r\n")
        said = [variable(head, name) for name in ("is_args", "args", "server_protocol")]
        self.assertEqual(said, [b"", b"", b"HTTP/1.0"])


class AnswerTests(SynchronousTestCase):
    def test_each(self) -> None:
        """Headers and cookies of a server's answer; a cookie's name in whatever case, its value without attributes."""
        head = parse_response(
            b"HTTP/1.1 200 OK\r\nX-Session: 7\r\nSet-Cookie: a=1; Path=/\r\n"
            b"Set-Cookie: JSESSION_ID = x=y ;HttpOnly\r\nSet-Cookie: b\r\nSet-Cookie: A=2\r\n"
        )
        for name, value in {
            "upstream_http_x_session": b"7",
            "upstream_http_none": b"",
            "upstream_cookie_a": b"1",
            "upstream_cookie_jsession_id": b"x=y",
            "upstream_cookie_path": b"",
            "upstream_cookie_b": b"",
        }.items():
            self.assertEqual((name, answer_variable(head, name)), (name, value))
