"""Collecting a head from pieces, within limits."""

from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.head import MAX_BLOCK, MAX_REQUEST_LINE, BadHead, parse_request
from pylb.proxy.http.reader import HeadReader, RequestReader

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


def refusal(data, reader=None):
    """(status, bytes it took) of the refusal when `data` drips in."""
    reader = reader or RequestReader()
    for at in range(len(data)):
        try:
            reader.feed(data[at : at + 1])
        except BadHead as bad:
            return bad.status, at + 1
    return None


class HeadReaderTests(SynchronousTestCase):
    def test_splits(self):
        """However it is cut, the head comes out whole and the rest behind it."""
        data = HEAD + b"\r\nrest"
        for cut in range(1, len(data)):
            reader = RequestReader()
            pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
            rest = data[len(HEAD) + 2 : cut] if cut >= len(HEAD) + 2 else b"rest"
            found = [reader.feed(piece) for piece in pieces[: 1 if cut >= len(HEAD) + 2 else 2]]
            self.assertEqual(found[-1], (HEAD, rest))

    def test_one_after_another(self):
        """A reader is used for all heads of a connection."""
        reader = RequestReader()
        self.assertEqual((reader.feed(HEAD + b"\r\n" + HEAD), reader.begun), ((HEAD, HEAD), b""))
        self.assertEqual((reader.feed(HEAD), reader.begun), (None, HEAD))
        self.assertEqual(reader.feed(b"\r\n"), (HEAD, b""))

    def test_empty_lines_before(self):
        """Empty lines before a request line are passed over; before a status line they are not."""
        for data in (b"\r\n" + HEAD, b"\r\n\r\n\r\n" + HEAD):
            self.assertEqual(RequestReader().feed(data + b"\r\n"), (HEAD, b""))
            self.assertIsNone(refusal(data))
        self.assertEqual(HeadReader().feed(b"\r\n\r\n"), (b"\r\n", b""))

    def test_many_empty_lines(self):
        """A few of them, that is: more are refused, without a copy of the rest for each."""
        self.assertEqual(RequestReader().feed(b"\r\n" * 16 + HEAD + b"\r\n"), (HEAD, b""))
        for data in (b"\r\n" * 17, b"\r\n" * 17 + HEAD + b"\r\n", b"\r\n" * 30_000):
            with self.assertRaises(BadHead) as caught:
                parse_request(RequestReader().feed(data)[0])
            self.assertEqual(caught.exception.status, 400)

    def test_empty_lines_in_pieces(self):
        """However these are cut."""
        data = b"\r\n\r\n" + HEAD + b"\r\n"
        for cut in range(1, len(data)):
            reader = RequestReader()
            self.assertEqual((reader.feed(data[:cut]), reader.feed(data[cut:])), (None, (HEAD, b"")))

    def test_bare_line_feed(self):
        """A line that ends with LF alone is refused at once."""
        self.assertEqual(refusal(b"GET / HTTP/1.1\nHost: a\n\n"), (400, 15))
        self.assertEqual(refusal(b"\nGET / HTTP/1.1\r\n"), (400, 1))
        self.assertEqual(refusal(HEAD + b"A: b\n"), (400, len(HEAD) + 5))

    def test_early_request_line(self):
        """A request line that cannot be one is refused before the rest has come."""
        self.assertEqual(refusal(b"GET /\r\n"), (400, 7))
        self.assertEqual(refusal(b"PRI * HTTP/2.0\r\n"), (505, 16))
        self.assertEqual(refusal(b"CONNECT a:1 HTTP/1.1\r\n"), (405, 22))

    def test_limits(self):
        """Neither a line nor a block without end is collected."""
        line = b"GET /" + b"a" * MAX_REQUEST_LINE
        self.assertRaises(BadHead, RequestReader().feed, line)
        block = HEAD + b"A: b\r\n" * MAX_BLOCK
        with self.assertRaises(BadHead) as caught:
            RequestReader().feed(block)
        self.assertEqual(caught.exception.status, 431)
