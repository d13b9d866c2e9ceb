"""The head parser: bytes to heads, and what it refuses."""

import h11
import httptools
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http import head as head_module
from pylb.proxy.http.head import (
    MAX_BLOCK,
    MAX_FIELDS,
    MAX_REQUEST_LINE,
    BadHead,
    parse_fields,
    parse_request,
    parse_response,
)

HOST = b"Host: a.example\r\n"


def request(line=b"GET / HTTP/1.1", block=HOST):
    return parse_request(line + b"\r\n" + block)


def refusal(line=b"GET / HTTP/1.1", block=HOST):
    """The status of the answer, or None when the head is accepted."""
    try:
        request(line, block)
    except BadHead as bad:
        return bad.status
    return None


def written(head):
    return b"%b %b HTTP/1.%d\r\n%b" % (head.method, head.target, head.minor, head.fields.block)


class RequestLineTests(SynchronousTestCase):
    def test_parts(self):
        """A request line is a method, a target and a version."""
        head = request(b"PUT /a/b?c=%20d HTTP/1.1")
        self.assertEqual(
            (head.method, head.target, head.path, head.minor, head.host),
            (b"PUT", b"/a/b?c=%20d", b"/a/b", 1, b"a.example"),
        )

    def test_unknown_method(self):
        """Any token is a method."""
        self.assertEqual(request(b"M-SEARCH!1 / HTTP/1.1").method, b"M-SEARCH!1")

    def test_lower_case(self):
        """Methods with small letters are none: `trace` could be TRACE to a server, and `head` an answer with a body."""
        for method in (b"get", b"trace", b"connect", b"Head"):
            self.assertEqual(refusal(method + b" / HTTP/1.1"), 400)

    def test_refused_methods(self):
        """CONNECT and TRACE are refused with 405."""
        self.assertEqual(
            [refusal(b"CONNECT a:1 HTTP/1.1"), refusal(b"TRACE / HTTP/1.1"), refusal(b"CONNECT / HTTP/1.1")],
            [405, 405, 405],
        )

    def test_versions(self):
        """HTTP/1.0 and 1.1 only: other versions (and the HTTP/2 preface) are 505, anything else is 400."""
        versions = [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.11"]
        self.assertEqual([refusal(b"GET / " + version) for version in versions], [505, 505, 505, 400, 400, 400, 400])
        self.assertEqual(refusal(b"PRI * HTTP/2.0", b""), 505)
        self.assertEqual(refusal(b"GET /"), 400)

    def test_malformed(self):
        """Only single spaces separate the parts, and a target has no control, space, `#` or 8-bit character."""
        lines = [
            b"GET  / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1 x",
            b"GET /a b HTTP/1.1",
            b"GET /a#b HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /\x7f HTTP/1.1",
            b"GET /\x80 HTTP/1.1",
            b"GET /\xff HTTP/1.1",
            b"GET /\n HTTP/1.1",
            b"GET /\r HTTP/1.1",
            b"G(T / HTTP/1.1",
            b" / HTTP/1.1",
            b"",
        ]
        self.assertEqual({line: refusal(line) for line in lines}, dict.fromkeys(lines, 400))

    def test_line_limit(self):
        """A request line has at most 8 KiB; more is 414."""
        target = b"/" + b"a" * (MAX_REQUEST_LINE - len(b"GET / HTTP/1.1"))
        self.assertEqual(request(b"GET " + target + b" HTTP/1.1").target, target)
        self.assertEqual(refusal(b"GET a" + target + b" HTTP/1.1"), 414)


class TargetTests(SynchronousTestCase):
    def test_absolute_form(self):
        """The authority of an absolute target wins over Host, and the target becomes a path."""
        cases = {
            b"GET http://B.example:81/x?y HTTP/1.1": (b"B.example:81", b"/x?y"),
            b"GET HTTP://b.example HTTP/1.1": (b"b.example", b"/"),
            b"GET https://b.example?q=/ HTTP/1.1": (b"b.example", b"/?q=/"),
            b"OPTIONS http://b.example HTTP/1.1": (b"b.example", b"*"),
            b"GET http://[::1]:8080/ HTTP/1.1": (b"[::1]:8080", b"/"),
        }
        heads = {line: request(line) for line in cases}
        self.assertEqual({line: (head.host, head.target) for line, head in heads.items()}, cases)

    def test_asterisk(self):
        """`*` is for OPTIONS only."""
        self.assertEqual(request(b"OPTIONS * HTTP/1.1").target, b"*")
        self.assertEqual(refusal(b"GET * HTTP/1.1"), 400)

    def test_other_forms(self):
        """Targets that are neither path, absolute http URI nor `*` are refused, user information too."""
        targets = [
            b"a/b",
            b"a.example:80",
            b"ftp://a/",
            b"http://",
            b"http:///x",
            b"http://u@a/",
            b"http://a:b/",
            b"?x",
        ]
        self.assertEqual([refusal(b"GET %b HTTP/1.1" % target) for target in targets], [400] * len(targets))

    def test_dot_segments(self):
        """A path that a server could resolve to another path is refused, however its dots are written."""
        refused = [
            b"/..",
            b"/a/../b",
            b"/a/./b",
            b"/.",
            b"/%2e%2E/",
            b"/.%2e/",
            b"/a%2F../b",
            b"/a/..%2fb",
            b"/a/..;/b",
        ]
        refused += [b"/a\\..\\b", b"/..%5cb", b"/..?x", b"http://a/../b", b"/..%3bx/"]
        self.assertEqual([refusal(b"GET %b HTTP/1.1" % path) for path in refused], [400] * len(refused))

    def test_dots_that_are_names(self):
        """Dots in names and in the query mean nothing."""
        accepted = [b"/.well-known/x", b"/a..b", b"/...", b"/a.", b"/a/..b", b"/?a=/../", b"//", b"/%2ea", b"/a;..b"]
        self.assertEqual([request(b"GET %b HTTP/1.1" % path).target for path in accepted], accepted)


class HostTests(SynchronousTestCase):
    def test_exactly_one(self):
        """HTTP/1.1 needs exactly one Host; HTTP/1.0 may come without, but not with two."""
        self.assertEqual(refusal(block=b""), 400)
        self.assertEqual(refusal(block=HOST + HOST), 400)
        self.assertEqual(refusal(b"GET http://a/ HTTP/1.1", b""), 400)
        self.assertEqual(refusal(b"GET / HTTP/1.0", HOST + HOST), 400)
        self.assertEqual(request(b"GET / HTTP/1.0", b"").host, b"")

    def test_valid(self):
        """A host is a name or an address in brackets, with or without a port."""
        hosts = [b"a", b"A.example.:80", b"10.0.0.1:8080", b"[::1]", b"[fe80::1]:443", b"a_b-c~d"]
        self.assertEqual([request(block=b"Host: %b\r\n" % host).host for host in hosts], hosts)

    def test_invalid(self):
        """Anything else in Host is refused: lists, paths, user information, empty ones."""
        hosts = [
            b"",
            b"a,b",
            b"a b",
            b"a/b",
            b"u@a",
            b"a:",
            b"a:80:80",
            b":80",
            b"::1",
            b"[::1",
            b"a:123456",
            b"a\x80",
            b"a:+1",
        ]
        self.assertEqual({host: refusal(block=b"Host: %b\r\n" % host) for host in hosts}, dict.fromkeys(hosts, 400))


class BlockTests(SynchronousTestCase):
    def test_order_and_repetition(self):
        """Fields keep order and spelling; values lose the white space around them and nothing else."""
        fields = parse_fields(b"B: 1\r\na:\t x  y \t\r\nb:\r\nB:\xe4\r\n")
        self.assertEqual(fields.block, b"B: 1\r\na: x  y\r\nb: \r\nB: \xe4\r\n")
        self.assertEqual(fields.values, {b"b": [b"1", b"", b"\xe4"], b"a": [b"x  y"]})

    def test_malformed(self):
        """Whatever parsers are known to read differently is refused."""
        blocks = {
            "bare LF ends a line": b"A: b\nC: d\r\n",
            "bare LF in a value": b"A: b\nc\r\n",
            "bare CR in a value": b"A: b\rc\r\n",
            "CR before CRLF": b"A: b\r\r\n",
            "NUL in a value": b"A: b\x00c\r\n",
            "control character in a value": b"A: b\x0bc\r\n",
            "DEL in a value": b"A: \x7f\r\n",
            "NUL in a name": b"A\x00: b\r\n",
            "8-bit character in a name": b"A\xe4: b\r\n",
            "space before the colon": b"A : b\r\n",
            "tab before the colon": b"A\t: b\r\n",
            "fold": b"A: b\r\n c\r\n",
            "fold with tab": b"A: b\r\n\tc\r\n",
            "fold at the beginning": b" A: b\r\n",
            "empty name": b": b\r\n",
            "no colon": b"A\r\n",
            "empty line inside": b"A: b\r\n\r\nC: d\r\n",
            "unfinished line": b"A: b",
        }
        self.assertEqual(
            {why: refusal(block=HOST + block) for why, block in blocks.items()}, dict.fromkeys(blocks, 400)
        )

    def test_limits(self):
        """A header block has at most 32 KiB and 100 lines; more is 431."""
        pad = b"A: %b\r\n" % (b"x" * (MAX_BLOCK - len(HOST) - 5))
        self.assertIsNone(refusal(block=HOST + pad))
        self.assertEqual(refusal(block=HOST + b"x" + pad), 431)
        self.assertIsNone(refusal(block=HOST + b"a:\r\n" * (MAX_FIELDS - 1)))
        self.assertEqual(refusal(block=HOST + b"a:\r\n" * MAX_FIELDS), 431)

    def test_many_blocks(self):
        """Blocks that were seen before are remembered, however many came in between, with their own fields."""
        first = request(block=HOST + b"N: first\r\n").fields
        for n in range(2000):
            self.assertEqual(request(block=HOST + b"N: %d\r\n" % n).fields.first(b"n"), b"%d" % n)
        self.assertEqual(request(block=HOST + b"N: first\r\n").fields, first)

    def test_what_is_refused_stays_refused(self):
        """Nothing that was refused is remembered as good, whatever it is that is wrong; nor is it by another version."""
        wrong = [
            {"line": b"get / HTTP/1.1"},
            {"block": b"Host: a b\r\n"},
            {"block": HOST + HOST},
            {"block": b"A : b\r\n"},
        ]
        for bad in wrong * 2:
            self.assertEqual(refusal(**bad), 400)
        without_host = b"N: nobody\r\n"
        for _ in range(2):
            self.assertIsNone(refusal(b"GET / HTTP/1.0", without_host))
            self.assertEqual(refusal(b"GET / HTTP/1.1", without_host), 400)

    def test_bounded(self):
        """So many blocks and lines are remembered and no more, and no long blocks."""
        for n in range(2000):
            parse_response(b"HTTP/1.1 200 %d\r\nN: %d\r\n" % (n, n))
            request(b"GET /%d HTTP/1.1" % n, HOST + b"N: %d\r\n" % n)
        request(block=HOST + b"A: %b\r\n" % bytes(4096).replace(b"\0", b"a"))
        for kept in (head_module._request_blocks, head_module._response_blocks, head_module._responses):
            self.assertLessEqual(len(kept), 512)
            self.assertLess(max(map(len, kept)), 4096)
        for lines in (head_module.parse_request_line, head_module._parse_status_line):
            self.assertEqual(lines.cache_info().currsize, 256)

    def test_time_is_linear(self):
        """A block of white space costs no more than one of letters."""
        head = request(block=HOST + b"A: a" + b" \t" * 15000 + b"b\r\n")
        self.assertEqual(len(head.fields.first(b"a")), 30002)


class KeepAliveTests(SynchronousTestCase):
    def keep_alive(self, version, connection):
        return request(b"GET / HTTP/" + version, HOST + connection).keep_alive

    def test_requests(self):
        """HTTP/1.1 keeps the connection unless told otherwise, HTTP/1.0 closes it unless told otherwise."""
        self.assertEqual(
            [
                self.keep_alive(b"1.1", b""),
                self.keep_alive(b"1.1", b"Connection: foo, Close\r\n"),
                self.keep_alive(b"1.1", b"Connection: foo\r\nConnection: close\r\n"),
                self.keep_alive(b"1.0", b""),
                self.keep_alive(b"1.0", b"Connection: Keep-Alive\r\n"),
                self.keep_alive(b"1.0", b"Connection: keep-alive, close\r\n"),
            ],
            [True, False, False, False, True, False],
        )


class ResponseTests(SynchronousTestCase):
    def test_parts(self):
        """A status line is a version, a status and perhaps a reason."""
        head = parse_response(b"HTTP/1.0 404 Not \xe4 here\r\nA: b\r\n")
        self.assertEqual((head.status, head.reason, head.minor), (404, b"Not \xe4 here", 0))
        self.assertEqual(parse_response(b"HTTP/1.1 200 \r\n").reason, b"")
        self.assertEqual(parse_response(b"HTTP/1.1 200\r\n").reason, b"")

    def test_malformed(self):
        """What is no status line of HTTP/1.0 or 1.1 is refused."""
        lines = [b"HTTP/2 200 OK", b"HTTP/1.2 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 x"]
        lines += [b"HTTP/1.1  200 OK", b"HTTP/1.1 200 O\x00K", b"200 OK", b"", b"ICY 200 OK", b"HTTP/1.1 2e1 OK"]
        for line in lines:
            self.assertRaises(BadHead, parse_response, line + b"\r\n")

    def test_keep_alive(self):
        """Only an HTTP/1.1 server that does not say close is asked again."""
        heads = [
            b"HTTP/1.1 200\r\n",
            b"HTTP/1.1 200\r\nConnection: close\r\n",
            b"HTTP/1.0 200\r\nConnection: keep-alive\r\n",
        ]
        self.assertEqual([parse_response(head).keep_alive for head in heads], [True, False, False])


# Bytes that are nearly heads: valid ones with a splinter somewhere.
SPLINTERS = [
    b"",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\x00",
    b"\x0b",
    b"\x80",
    b"_",
    b"/",
    b"#",
    b",",
    b"\r\n ",
    b"\xa0",
]
methods = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"M-SEARCH"])
targets = st.sampled_from([b"/", b"/a/b?c", b"*", b"http://b.example/x", b"/%2e", b"/a..b", b"//x"])
names = st.sampled_from([b"A", b"Accept", b"x-y_z", b"Cookie", b"Connection", b"A"])
values = st.sampled_from([b"", b" b", b"\tb ", b"b, c", b"close", b" keep-alive, a", b"\xe4", b"a:b"])
lines = st.lists(st.tuples(names, values).map(b":".join), max_size=4)
splinters = st.lists(st.tuples(st.integers(0, 200), st.sampled_from(SPLINTERS) | st.binary(max_size=2)), max_size=2)


@st.composite
def heads(draw):
    request_line = b"%b %b HTTP/1.%d" % (draw(methods), draw(targets), draw(st.integers(0, 1)))
    head = b"\r\n".join([request_line, b"Host: a.example", *draw(lines), b""])
    for at, splinter in draw(splinters):
        at %= len(head)
        head = head[:at] + splinter + head[at:]
    return head


def accepted(data):
    """The head, or None."""
    try:
        return parse_request(data)
    except BadHead:
        return None


class LlhttpSeen:
    def __init__(self):
        self.url, self.fields = b"", []

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.fields.append((name.lower(), value.rstrip(b" \t")))


def lower_fields(head):
    return [(line.partition(b":")[0].lower(), line.partition(b":")[2][1:-2]) for _, line in head.fields.lines]


class OracleTests(SynchronousTestCase):
    """What is accepted means the same to h11 and to llhttp.

    Both accept more than we do (several Hosts for llhttp, LF line ends for h11, dot segments, 8-bit targets).
    """

    @settings(max_examples=300, deadline=None)
    @given(heads())
    def test_rewritten(self, data):
        """What is accepted reads the same after our own serialiser wrote it, and is then its own canonical form."""
        if not (head := accepted(data)):
            return
        again = parse_request(written(head))
        self.assertEqual(written(again), written(head))
        self.assertEqual(again.fields, head.fields)

    @settings(max_examples=300, deadline=None)
    @given(heads())
    def test_h11(self, data):
        """h11 reads the same method, target and fields."""
        if not (head := accepted(data)):
            return
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data + b"\r\n")
        event = connection.next_event()
        self.assertIsInstance(event, h11.Request)
        self.assertEqual(event.method, head.method)
        self.assertEqual(list(event.headers), lower_fields(head))
        if event.target.startswith(b"/"):
            self.assertEqual(event.target, head.target)

    @settings(max_examples=300, deadline=None)
    @given(heads())
    def test_llhttp(self, data):
        """llhttp (through httptools) reads the same target and fields."""
        if not (head := accepted(data)):
            return
        seen = LlhttpSeen()
        parser = httptools.HttpRequestParser(seen)
        try:
            parser.feed_data(data + b"\r\n")
        except httptools.HttpParserInvalidMethodError:
            return  # a closed list of methods
        self.assertEqual(seen.fields, lower_fields(head))
        if seen.url.startswith(b"/"):
            self.assertEqual(seen.url, head.target)
