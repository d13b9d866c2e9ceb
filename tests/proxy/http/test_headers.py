"""What travels on, and what pylb writes itself."""

from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.body import CHUNKED, UNTIL_CLOSE
from pylb.proxy.http.head import parse_fields, parse_request, parse_response
from pylb.proxy.http.headers import framing_line, length_line, request_end, request_start, response_start, trailer_block


def request(block, framing=0, extra=b"", line=b"GET /x?y HTTP/1.1"):
    head = parse_request(line + b"\r\nHost: A.example:80\r\n" + block)
    return request_start(head, head.host) + extra + request_end(head, framing)


def travelling(block):
    return request(block).partition(b"Host: A.example:80\r\n")[2]


class RequestTests(SynchronousTestCase):
    def test_whole(self):
        """Method, target and Host as they came; then what travels on, in order and spelling; then what is ours."""
        self.assertEqual(
            request(b"b: 1\r\nA: 2\r\nB:3\r\nDate: x\r\n", 5, b"X-Forwarded-For: c\r\n", b"PUT /x?y HTTP/1.0"),
            b"PUT /x?y HTTP/1.1\r\nHost: A.example:80\r\nb: 1\r\nA: 2\r\nB: 3\r\nDate: x\r\n"
            b"X-Forwarded-For: c\r\nContent-Length: 5\r\n\r\n",
        )

    def test_hop_by_hop(self):
        """Headers of one connection end here."""
        block = b"Connection: keep-alive\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\nUpgrade: h2c\r\n"
        self.assertEqual(travelling(block + b"HTTP2-Settings: x\r\nProxy: evil\r\nOk: 1\r\n"), b"Ok: 1\r\n\r\n")

    def test_nominated(self):
        """What Connection nominates ends here, however it is spelt and on whichever line."""
        self.assertEqual(
            travelling(b"X-A: 1\r\nConnection: close, x-a\r\nConnection: X-B\r\nx-b: 2\r\nC: 3\r\n"), b"C: 3\r\n\r\n"
        )

    def test_nomination_of_ours(self):
        """A nomination does not remove what pylb writes: the host, the framing, what it says of the client."""
        block = b"Connection: host, content-length, x-forwarded-for\r\nContent-Length: 5\r\n"
        self.assertEqual(
            request(block, 5, b"X-Forwarded-For: c\r\n"),
            b"GET /x?y HTTP/1.1\r\nHost: A.example:80\r\nX-Forwarded-For: c\r\nContent-Length: 5\r\n\r\n",
        )

    def test_claims(self):
        """What the client says about forwarding does not travel; nor do names that some servers take for it."""
        block = b"X-Forwarded-For: e\r\nx-forwarded-proto: e\r\nX-Forwarded-Host: e\r\nX_Forwarded_For: e\r\nX.A: e\r\n"
        self.assertEqual(travelling(block), b"\r\n")

    def test_framing(self):
        """The framing is written anew; no body and no length stays so."""
        self.assertIn(b"\r\nContent-Length: 7\r\n", request(b"content-length: 0007\r\n", 7))
        self.assertEqual(request(b"Content-Length: 0\r\n").count(b"Content-Length: 0\r\n"), 1)
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", request(b"Transfer-encoding: CHUNKED\r\n", CHUNKED))
        self.assertNotIn(b"ontent", request(b""))

    def test_expect(self):
        """Expect goes to the server, except from an HTTP/1.0 client, to whom a 100 cannot be sent."""
        block = b"Expect: 100-continue\r\n"
        self.assertEqual(travelling(block), b"Expect: 100-continue\r\n\r\n")
        self.assertNotIn(b"Expect", request(block, line=b"GET / HTTP/1.0"))

    def test_other_expectations(self):
        """Only one `100-continue`, in whatever case, goes on: of another nobody knows what a server makes of it."""
        self.assertEqual(travelling(b"Expect: 100-Continue\r\n"), b"Expect: 100-continue\r\n\r\n")
        for block in (
            b"Expect: x\r\n",
            b"Expect: 100-continue, x\r\n",
            b"Expect:\r\n",
            b"Expect: 100-continue\r\n" * 2,
        ):
            self.assertEqual(travelling(block), b"\r\n")

    def test_same_block_again(self):
        """A block that was seen before is written the same."""
        self.assertEqual(request(b"Again: 1\r\n"), request(b"Again: 1\r\n"))


class ResponseTests(SynchronousTestCase):
    def test_whole(self):
        """Status, reason, Date, Server and repeated headers pass; hop-by-hop and framing do not; no Via."""
        block = (
            b"Server: x\r\nDate: y\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nConnection: close, Z\r\nz: 1\r\n"
            b"Keep-Alive: 5\r\nTransfer-Encoding: chunked\r\nX_Y: 1\r\n"
        )
        head = parse_response(b"HTTP/1.0 299 Odd one\r\n" + block)
        self.assertEqual(
            response_start(head),
            b"HTTP/1.1 299 Odd one\r\nServer: x\r\nDate: y\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX_Y: 1\r\n",
        )

    def test_same_block_in_requests(self):
        """A block that came in a request is sorted out by an answer's own rules."""
        request(b"X-Forwarded-For: a\r\nTwice: 1\r\n")
        head = parse_response(b"HTTP/1.1 200 OK\r\nHost: A.example:80\r\nX-Forwarded-For: a\r\nTwice: 1\r\n")
        self.assertIn(b"X-Forwarded-For: a\r\nTwice: 1\r\n", response_start(head))

    def test_length(self):
        """A length is told, as one number, whether a body comes with it or not; where none may be, it is not."""
        cases = [
            (b"200 OK", b"Content-Length: 007\r\n", b"Content-Length: 7\r\n"),
            (b"200 OK", b"Content-Length: 0\r\n", b"Content-Length: 0\r\n"),
            (b"304 Not Modified", b"Content-Length: 7\r\n", b"Content-Length: 7\r\n"),
            (b"200 OK", b"", b""),
            (b"204 No Content", b"Content-Length: 7\r\n", b""),
            (b"103 Early Hints", b"Content-Length: 7\r\n", b""),
        ]
        for status, block, line in cases:
            head = parse_response(b"HTTP/1.1 %b\r\n%b" % (status, block))
            self.assertEqual((length_line(head), response_start(head)), (line, b"HTTP/1.1 %b\r\n%b" % (status, line)))

    def test_framing_lines(self):
        """A length, chunks, or nothing."""
        self.assertEqual(
            [framing_line(0), framing_line(12), framing_line(CHUNKED), framing_line(UNTIL_CLOSE)],
            [b"Content-Length: 0\r\n", b"Content-Length: 12\r\n", b"Transfer-Encoding: chunked\r\n", b""],
        )


class TrailerTests(SynchronousTestCase):
    def test_trailers(self):
        """Trailers travel, except those that decide about the message."""
        fields = parse_fields(
            b"Sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: b\r\nSet-Cookie: c\r\nsum: 2\r\n"
        )
        self.assertEqual(trailer_block(fields), b"Sum: 1\r\nsum: 2\r\n")
        self.assertEqual(trailer_block(None), b"")
