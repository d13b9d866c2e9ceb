"""Body framing: what is decided from a head, and chunks taken apart."""

import contextlib
from itertools import pairwise

import h11
import httptools
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.body import (
    CHUNKED,
    MAX_EXTENSION,
    MAX_TRAILERS,
    UNTIL_CLOSE,
    ChunkedBody,
    body_reader,
    encode_chunk,
    encode_last_chunk,
    request_framing,
    response_framing,
)
from pylb.proxy.http.head import BadHead, parse_request, parse_response


def of_request(block, version=b"1.1"):
    """The framing, or the status of the refusal as text."""
    try:
        return request_framing(parse_request(b"POST / HTTP/%b\r\nHost: a\r\n%b" % (version, block)))
    except BadHead as bad:
        return str(bad.status)


def of_response(block, status=b"200", method=b"GET", version=b"1.1"):
    try:
        return response_framing(parse_response(b"HTTP/%b %b\r\n%b" % (version, status, block)), method)
    except BadHead:
        return "refused"


LENGTH_ATTACKS = {
    "two that differ": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "two alike": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "two, one in another case": b"Content-Length: 5\r\ncontent-length: 5\r\n",
    "list": b"Content-Length: 5, 5\r\n",
    "list with nothing behind": b"Content-Length: 5,\r\n",
    "plus": b"Content-Length: +5\r\n",
    "minus": b"Content-Length: -5\r\n",
    "hexadecimal": b"Content-Length: 0x5\r\n",
    "underscore": b"Content-Length: 5_0\r\n",
    "empty": b"Content-Length:\r\n",
    "white space inside": b"Content-Length: 5 0\r\n",
    "fraction": b"Content-Length: 5.0\r\n",
    "exponent": b"Content-Length: 5e1\r\n",
    "2^63": b"Content-Length: 9223372036854775808\r\n",
    "20 digits": b"Content-Length: 00000000000000000005\r\n",
    "thousands of digits": b"Content-Length: " + b"9" * 5000 + b"\r\n",
    "8-bit digits": b"Content-Length: \xd9\xa5\r\n",
    "quoted": b'Content-Length: "5"\r\n',
}
CODING_ATTACKS = {
    "with Content-Length": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "before Content-Length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "with an invalid Content-Length": b"Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
    "identity with Content-Length": b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
    "two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "two lines, the second another": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "comma before": b"Transfer-Encoding: ,chunked\r\n",
    "comma behind": b"Transfer-Encoding: chunked,\r\n",
    "chunked first": b"Transfer-Encoding: chunked, gzip\r\n",
    "twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "quoted": b'Transfer-Encoding: "chunked"\r\n',
    "parameter": b"Transfer-Encoding: chunked;a=b\r\n",
    "empty": b"Transfer-Encoding:\r\n",
    "white space inside": b"Transfer-Encoding: chun ked\r\n",
    "no-break space": b"Transfer-Encoding: \xa0chunked\r\n",
    "vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "form feed": b"Transfer-Encoding: chunked\x0c\r\n",
    "NUL": b"Transfer-Encoding: chunked\x00\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n",
    "LF before": b"A: b\nTransfer-Encoding: chunked\r\n",
}


class RequestFramingTests(SynchronousTestCase):
    def test_plain(self):
        """No header is no body; one length is that many bytes; chunked, in any case, is chunked."""
        self.assertEqual(
            [
                of_request(b""),
                of_request(b"Content-Length: 0\r\n"),
                of_request(b"Content-Length: \t00042 \r\n"),
                of_request(b"Content-Length: 9223372036854775807\r\n"),
                of_request(b"Transfer-Encoding: chunked\r\n"),
                of_request(b"transfer-encoding: \t CHUNKED\t\r\n"),
            ],
            [0, 0, 42, 2**63 - 1, CHUNKED, CHUNKED],
        )

    def test_length_attacks(self):
        """Every length that parsers read differently is 400."""
        seen = {why: of_request(block) for why, block in LENGTH_ATTACKS.items()}
        self.assertEqual(seen, dict.fromkeys(LENGTH_ATTACKS, "400"))

    def test_coding_attacks(self):
        """Every transfer coding that parsers read differently is 400."""
        seen = {why: of_request(block) for why, block in CODING_ATTACKS.items()}
        self.assertEqual(seen, dict.fromkeys(CODING_ATTACKS, "400"))

    def test_unknown_coding(self):
        """A coding that is clear but not understood is 501."""
        codings = [b"gzip", b"identity", b"gzip, chunked", b"xchunked", b"x, y , chunked"]
        self.assertEqual([of_request(b"Transfer-Encoding: %b\r\n" % coding) for coding in codings], ["501"] * 5)

    def test_version_1_0(self):
        """HTTP/1.0 has no transfer codings: any is 400."""
        self.assertEqual(of_request(b"Transfer-Encoding: chunked\r\n", b"1.0"), "400")
        self.assertEqual(of_request(b"Transfer-Encoding: gzip\r\n", b"1.0"), "400")
        self.assertEqual(of_request(b"Content-Length: 3\r\n", b"1.0"), 3)

    def test_aliases(self):
        """Names that are nearly the framing headers decide nothing."""
        self.assertEqual(of_request(b"Content_Length: 5\r\nTransfer_Encoding: chunked\r\n"), 0)


class ResponseFramingTests(SynchronousTestCase):
    def test_plain(self):
        """A length, chunked, or until the server closes."""
        self.assertEqual(of_response(b"Content-Length: 7\r\n"), 7)
        self.assertEqual(of_response(b"Transfer-Encoding: chunked\r\n"), CHUNKED)
        self.assertEqual(of_response(b""), UNTIL_CLOSE)
        self.assertEqual(of_response(b"", version=b"1.0"), UNTIL_CLOSE)

    def test_without_body(self):
        """Answers to HEAD, 1xx, 204 and 304 have no body, whatever they announce."""
        for block in (b"", b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n"):
            seen = [of_response(block, method=b"HEAD"), of_response(block, b"304"), of_response(block, b"204")]
            self.assertEqual([*seen, of_response(block, b"100"), of_response(block, b"101")], [0] * 5)

    def test_attacks(self):
        """Answers are read as strictly as requests, those to HEAD and 304 too."""
        for attacks in (LENGTH_ATTACKS, CODING_ATTACKS):
            seen = {why: of_response(block) for why, block in attacks.items()}
            self.assertEqual(seen, dict.fromkeys(attacks, "refused"))
        self.assertEqual(of_response(b"Content-Length: 1\r\n" * 2, method=b"HEAD"), "refused")
        self.assertEqual(of_response(b"Content-Length: 1\r\n" * 2, b"204"), "refused")
        self.assertEqual(of_response(b"Transfer-Encoding: chunked\r\n", version=b"1.0"), "refused")
        self.assertEqual(of_response(b"Transfer-Encoding: gzip, chunked\r\n"), "refused")


def read(reader, pieces):
    """Payload, and the reader when it is done or the pieces end."""
    payload = b""
    for at, piece in enumerate(pieces):
        payload += reader.feed(piece)
        if reader.done:
            reader.rest += b"".join(pieces[at + 1 :])
            break
    return payload


class LengthBodyTests(SynchronousTestCase):
    def test_splits(self):
        """However the bytes arrive, so many belong to the body and the rest does not."""
        for cut in range(9):
            reader = body_reader(5)
            data = b"abcdeXYZ"
            self.assertEqual(read(reader, [data[:cut], data[cut:]]), b"abcde")
            self.assertEqual((reader.done, reader.rest), (True, b"XYZ"))

    def test_truncated(self):
        """A body that ends early is not whole."""
        reader = body_reader(5)
        reader.feed(b"abcd")
        self.assertFalse(reader.close())

    def test_skipped(self):
        """What came by another way counts: the body says how much is left."""
        reader = body_reader(9)
        reader.feed(b"abc")
        reader.skip(4)
        self.assertEqual((reader.left, reader.done), (2, False))
        reader.skip(2)
        self.assertEqual((reader.left, reader.done), (0, True))

    def test_empty(self):
        """Nothing is needed to finish a body of no bytes."""
        self.assertTrue(body_reader(0).done)


class UntilCloseBodyTests(SynchronousTestCase):
    def test_close(self):
        """Everything belongs to the body, and the close ends it well."""
        reader = body_reader(UNTIL_CLOSE)
        self.assertEqual((reader.feed(b"abc"), reader.done, reader.close(), reader.done), (b"abc", False, True, True))


BODY = b"3;ext=1\r\nabc\r\n0010\r\n0123456789abcdef\r\n0\r\nA: b\r\nC:d\r\n\r\nGET"

CHUNK_ATTACKS = {
    "bare LF behind the size": b"3\nabc\r\n0\r\n\r\n",
    "bare CR behind the size": b"3\rabc\r\n0\r\n\r\n",
    "LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "LF in a quoted extension": b'3;a="\n"\r\nabc\r\n0\r\n\r\n',
    "CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "NUL in an extension": b"3;a\x00\r\nabc\r\n0\r\n\r\n",
    "hexadecimal prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "minus": b"-3\r\nabc\r\n0\r\n\r\n",
    "underscore": b"0_3\r\nabc\r\n0\r\n\r\n",
    "space before": b" 3\r\nabc\r\n0\r\n\r\n",
    "space behind": b"3 \r\nabc\r\n0\r\n\r\n",
    "space before an extension": b"3 ;a\r\nabc\r\n0\r\n\r\n",
    "no digit": b"\r\nabc\r\n0\r\n\r\n",
    "no digit but an extension": b";a\r\nabc\r\n0\r\n\r\n",
    "17 digits": b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    "2^63": b"8000000000000000\r\nabc\r\n",
    "two bytes that are not CRLF behind the data": b"3\r\nabcXY0\r\n\r\n",
    "LF behind the data": b"3\r\nabc\n0\r\n\r\n",
    "data longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "data shorter than its size": b"5\r\nabc\r\n0\r\n\r\n",
    "malformed trailer": b"0\r\nA : b\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "LF in trailers": b"0\r\nA: b\nC: d\r\n\r\n",
    "extension without a name": b"3;\r\nabc\r\n0\r\n\r\n",
    "extension that is no token": b"3;a b\r\nabc\r\n0\r\n\r\n",
    "unfinished quotes": b'3;a="\r\nabc\r\n0\r\n\r\n',
    "long extension": b"3;" + b"a" * MAX_EXTENSION + b"\r\nabc\r\n0\r\n\r\n",
    "endless extension": b"3;" + b"a" * 1000,
    "endless size": b"0" * 1000,
    "many extensions": b"1;%b\r\na\r\n" % (b"x" * 200) * 90,
    "bare LF for the end": b"0\r\n\n",
    "bare LF in the trailers": b"0\r\nA: b\n",
    "long trailers": b"0\r\nA: " + b"b" * MAX_TRAILERS,
    "many trailers": b"0\r\n" + b"A:\r\n" * 101 + b"\r\n",
}


class ChunkedBodyTests(SynchronousTestCase):
    def test_whole(self):
        """Payload without framing and extensions; trailers; and what came behind."""
        reader = ChunkedBody()
        self.assertEqual(reader.feed(BODY), b"abc0123456789abcdef")
        self.assertEqual((reader.done, reader.rest), (True, b"GET"))
        self.assertEqual(reader.trailers.values, {b"a": [b"b"], b"c": [b"d"]})

    def test_byte_by_byte(self):
        """The same, however slowly it comes."""
        reader = ChunkedBody()
        pieces = [BODY[at : at + 1] for at in range(len(BODY))]
        self.assertEqual(read(reader, pieces), b"abc0123456789abcdef")
        self.assertEqual((reader.done, reader.rest, len(reader.trailers.lines)), (True, b"GET", 2))

    def test_truncated(self):
        """Before the last byte the body is not whole, wherever it ends."""
        end = len(BODY) - len(b"GET")
        for cut in range(end):
            reader = ChunkedBody()
            reader.feed(BODY[:cut])
            self.assertFalse(reader.close(), BODY[:cut])

    def test_attacks(self):
        """Every chunk that parsers read differently is refused, whole or byte by byte."""
        for why, data in CHUNK_ATTACKS.items():
            with self.assertRaises(BadHead, msg=why):
                ChunkedBody().feed(data)
            with self.assertRaises(BadHead, msg=why):
                read(ChunkedBody(), [data[at : at + 1] for at in range(len(data))])

    def test_no_buffering(self):
        """Payload is handed on as it comes, before its chunk is whole."""
        reader = ChunkedBody()
        self.assertEqual((reader.feed(b"fffff\r\nab"), reader.feed(b"c")), (b"ab", b"c"))

    def test_encode(self):
        """What the encoder writes, the reader reads."""
        reader = ChunkedBody()
        data = encode_chunk(b"x" * 300) + encode_chunk(b"y") + encode_last_chunk(b"A: b\r\n")
        self.assertEqual(reader.feed(data), b"x" * 300 + b"y")
        self.assertEqual(reader.trailers.block, b"A: b\r\n")


class LlhttpBody:
    def __init__(self):
        self.body, self.done = b"", False

    def on_body(self, data):
        self.body += data

    def on_message_complete(self):
        self.done = True


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


SPLINTERS = [b"", b"\r\n", b"\n", b"\r", b" ", b";", b"0", b"\x00", b"F", b"_", b"+", b"\t", b"\x80"]
chunks = st.tuples(
    st.binary(min_size=1, max_size=20), st.sampled_from([b"", b";a", b";a=b", b';a="b;\\"c"', b";\xe4", b";a;b=c"])
).map(lambda pair: b"%X%b\r\n%b\r\n" % (len(pair[0]), pair[1], pair[0]))


@st.composite
def bodies(draw):
    body = b"".join(draw(st.lists(chunks, max_size=4))) + draw(st.sampled_from([b"0\r\n\r\n", b"00\r\nA: b\r\n\r\n"]))
    for at, splinter in draw(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(SPLINTERS)), max_size=2)):
        at %= len(body)
        body = body[:at] + splinter + body[at:]
    return body


FRAMINGS = [b"", b"Content-Length: 3", b"Content-Length: 0", b"Content-Length: 03", b"Transfer-Encoding: chunked"]
FRAMINGS += [
    b"Content-Length: 3, 3",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content_Length: 1",
]
PAYLOADS = [b"", b"abc", b"abcdef", b"3\r\nabc\r\n0\r\n\r\n", b"3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n", b"0\r\n\r\nabc"]
framings = st.lists(st.sampled_from(FRAMINGS), max_size=2).map(lambda lines: [line for line in lines if line])


@st.composite
def messages(draw, first=b"POST / HTTP/1.%d"):
    line = first % draw(st.integers(0, 1)) if b"%d" in first else first
    lines = [line, b"Host: a", *draw(framings)]
    data = b"\r\n".join([*lines, b"", draw(st.sampled_from(PAYLOADS))])
    for at, splinter in draw(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(SPLINTERS)), max_size=1)):
        at %= len(data)
        data = data[:at] + splinter + data[at:]
    return data


def answers():
    statuses = st.sampled_from([b"200 OK", b"204 No Content", b"304 Not Modified", b"404 X"])
    return st.tuples(st.integers(0, 1), statuses).flatmap(lambda pair: messages(b"HTTP/1.%d %b" % pair))


def our_reading(data, parse, framing_of):
    """(payload, what came behind) of a whole message, or None."""
    head, _, rest = data.partition(b"\r\n\r\n")
    try:
        reader = body_reader(framing_of(parse(head + b"\r\n")))
        if reader.done:
            return b"", rest
        payload = reader.feed(rest)
    except BadHead:
        return None
    return (payload, reader.rest) if reader.close() else None


class OracleTests(SynchronousTestCase):
    HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    @settings(max_examples=300, deadline=None)
    @given(bodies(), st.lists(st.integers(0, 200), max_size=4))
    def test_oracles(self, data, places):
        """A chunked body that is accepted, in whatever pieces, is the same for h11 and for llhttp."""
        reader = ChunkedBody()
        try:
            payload = read(reader, cut(data, places))
        except BadHead:
            return
        if not reader.done:
            return
        data = data[: len(data) - len(reader.rest)]
        self.assertEqual((payload, True), self.h11_reads(data))
        self.assertEqual((payload, True), self.llhttp_reads(data))

    @settings(max_examples=200, deadline=None)
    @given(bodies(), st.lists(st.integers(0, 200), max_size=6))
    def test_splits(self, data, places):
        """Where the bytes are cut makes no difference: neither to the payload nor to a refusal."""

        def outcome(pieces):
            reader = ChunkedBody()
            try:
                return read(reader, pieces), reader.done, reader.rest
            except BadHead:
                return "refused"

        self.assertEqual(outcome(cut(data, places)), outcome([data]))

    @settings(max_examples=400, deadline=None)
    @given(messages())
    def test_requests(self, data):
        """A whole request that is accepted has the same body for h11 and for llhttp."""
        if (found := our_reading(data, parse_request, request_framing)) is None:
            return
        payload, rest = found
        data = data[: len(data) - len(rest)]
        self.assertEqual((payload, True), self.h11_reads(data, b""))
        with contextlib.suppress(httptools.HttpParserInvalidMethodError):  # llhttp knows a closed list of methods
            self.assertEqual((payload, True), self.llhttp_reads(data, b""))

    @settings(max_examples=400, deadline=None)
    @given(answers(), st.sampled_from([b"GET", b"HEAD"]))
    def test_answers(self, data, method):
        """A whole answer that is accepted has the same body for h11."""
        found = our_reading(data, parse_response, lambda head: response_framing(head, method))
        if found is None:
            return
        payload, rest = found
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data[: len(data) - len(rest)])
        client.receive_data(b"")
        self.assertIsInstance(client.next_event(), h11.Response)
        body = b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            body += event.data
        self.assertEqual(payload, body)

    def h11_reads(self, data, head=HEAD):
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(head + data)
        body = b""
        while not isinstance(event := connection.next_event(), (h11.EndOfMessage, type(h11.NEED_DATA))):
            body += getattr(event, "data", b"")
        return bytes(body), isinstance(event, h11.EndOfMessage)

    def llhttp_reads(self, data, head=HEAD):
        seen = LlhttpBody()
        httptools.HttpRequestParser(seen).feed_data(head + data)
        return seen.body, seen.done
