"""Where does the body of a message end?

One answer for each message, or `BadHead`.  A framing is a number: so many bytes, or `CHUNKED`, or `UNTIL_CLOSE`.

- A request has a body when it says so, in one way: one `Content-Length` of plain digits, or one `Transfer-Encoding`
  that is `chunked` (HTTP/1.1 only).  Both, or several, or anything near it, is refused.
- An answer likewise; without either it lasts until the server closes.  Answers to HEAD, 1xx, 204 and 304 have none.
- Chunks are taken apart strictly (hexadecimal digits, CRLF, bounded extensions that go no further) and framed anew.
- A body's length is the receiver's only proof that nothing is missing: a reader knows whether it is `done`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Final, Protocol

from pylb.proxy.http.head import UNREAD, BadHead, Fields, RequestHead, ResponseHead, parse_fields

__all__ = [
    "CHUNKED",
    "UNTIL_CLOSE",
    "BodyReader",
    "ChunkedBody",
    "LengthBody",
    "UntilCloseBody",
    "body_reader",
    "content_length",
    "encode_chunk",
    "encode_last_chunk",
    "request_framing",
    "response_framing",
]

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

#: Bytes of the extensions of one chunk, and of all chunks of a body.
MAX_EXTENSION: Final = 256
MAX_EXTENSIONS: Final = 16 * 1024
#: Bytes of a trailer block.
MAX_TRAILERS: Final = 8 * 1024

_LARGEST: Final = 2**63 - 1
_LENGTH = re.compile(rb"\d{1,19}")
_CODINGS = re.compile(rb"[0-9a-z-]++(?:[ \t]*+,[ \t]*+[0-9a-z-]++)*+")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e])*+"'
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;%b(?:=(?:%b|%b))?)*+" % (_TOKEN, _TOKEN, _QUOTED))
_LONGEST_CHUNK_LINE: Final = 16 + MAX_EXTENSION


def request_framing(head: RequestHead) -> int:
    """The framing of a request's body; raises BadHead with 400 or 501."""
    codings = head.fields.values.get(b"transfer-encoding")
    if codings:
        return _chunked(head.fields, codings, head.minor)
    length = content_length(head.fields)
    return 0 if length is None else length


def response_framing(head: ResponseHead, method: bytes) -> int:
    """The framing of the answer to a request by `method`; raises BadHead."""
    if head.framing == UNREAD:
        head.framing = _read_framing(head)
    return 0 if method == b"HEAD" else head.framing


def _read_framing(head: ResponseHead) -> int:
    if head.status < 200:
        return 0
    codings = head.fields.values.get(b"transfer-encoding")
    framing = _chunked(head.fields, codings, head.minor) if codings else content_length(head.fields)
    if head.status in (204, 304):
        return 0
    return UNTIL_CLOSE if framing is None else framing


def content_length(fields: Fields) -> int | None:
    """The one Content-Length, if there is one; raises BadHead."""
    if fields.length == UNREAD:
        fields.length = _read_length(fields)
    return fields.length


def _read_length(fields: Fields) -> int | None:
    values = fields.values.get(b"content-length")
    if not values:
        return None
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]) or (length := int(values[0])) > _LARGEST:
        raise BadHead(400, "invalid Content-Length")
    return length


def _chunked(fields: Fields, codings: list[bytes], minor: int) -> int:
    if b"content-length" in fields.values:
        raise BadHead(400, "both Transfer-Encoding and Content-Length")
    if minor == 0 or len(codings) > 1:
        raise BadHead(400, "ambiguous Transfer-Encoding")
    coding = codings[0].lower()
    if coding == b"chunked":
        return CHUNKED
    if _CODINGS.fullmatch(coding) and b"chunked" not in fields.elements(b"transfer-encoding")[:-1]:
        raise BadHead(501, "only chunked is understood")
    raise BadHead(400, "malformed Transfer-Encoding")


class BodyReader(Protocol):
    """Takes a body out of what arrives; after `done`, `rest` is what came behind it."""

    done: bool
    rest: bytes
    #: Valid once done; None unless there was a trailer section.
    trailers: Fields | None

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`; raises BadHead when the framing is broken."""

    @property
    def left(self) -> int:
        """So many bytes of payload come next, with nothing between them."""

    def skip(self, count: int) -> None:
        """So many of them have come, and need not be fed."""

    def close(self) -> bool:
        """The sender has closed: whether the body is whole."""


def body_reader(framing: int) -> BodyReader:
    """A reader for one body."""
    if framing >= 0:
        return LengthBody(framing)
    return ChunkedBody() if framing == CHUNKED else UntilCloseBody()


class LengthBody:
    """So many bytes."""

    __slots__ = ("done", "left", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""
        self.trailers: Fields | None = None

    def feed(self, data: bytes) -> bytes:
        missing = self.left
        self.left = missing - len(data)
        if self.left > 0:
            return data
        self.done = True
        self.rest = data[missing:]
        return data[:missing]

    def skip(self, count: int) -> None:
        self.left -= count
        self.done = not self.left

    def close(self) -> bool:
        return self.done


class UntilCloseBody:
    """All bytes until the sender closes."""

    __slots__ = ("done", "rest", "trailers")
    left = sys.maxsize

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: Fields | None = None

    def feed(self, data: bytes) -> bytes:
        return data

    def skip(self, count: int) -> None:
        """There is always more."""

    def close(self) -> bool:
        self.done = True
        return True


class ChunkedBody:
    """Chunks, taken apart in steps; each step says whether it got through or needs more bytes."""

    __slots__ = ("_data", "_extensions", "_missing", "_payload", "_step", "done", "rest", "trailers")
    left = 0

    def __init__(self) -> None:
        self._data = b""
        self._missing = 0
        self._extensions = 0
        self._payload: list[bytes] = []
        self._step: Callable[[ChunkedBody, bytes, int], int | None] = ChunkedBody._size
        self.done = False
        self.rest = b""
        self.trailers: Fields | None = None

    def feed(self, data: bytes) -> bytes:
        if self._data:
            data = self._data + data
        at = 0
        while not self.done and (ahead := self._step(self, data, at)) is not None:
            at = ahead
        if self.done:
            self.rest, self._data = data[at:], b""
        else:
            self._data = data[at:]
        payload, self._payload = self._payload, []
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def skip(self, count: int) -> None:
        raise NotImplementedError("chunks are read")

    def close(self) -> bool:
        return self.done

    # Each step takes the data and a position and returns the position behind what it took, or None to wait.

    def _size(self, data: bytes, at: int) -> int | None:
        end = data.find(b"\r\n", at, at + _LONGEST_CHUNK_LINE + 2)
        if end < 0:
            if len(data) - at > _LONGEST_CHUNK_LINE + 1 or data.find(b"\n", at) >= 0:
                raise BadHead(400, "malformed chunk")
            return None
        matched = _CHUNK_LINE.fullmatch(data, at, end)
        if matched is None:
            raise BadHead(400, "malformed chunk size")
        self._extensions += end - matched.end(1)
        self._missing = int(matched[1], 16)
        if self._extensions > MAX_EXTENSIONS or end - matched.end(1) > MAX_EXTENSION or self._missing > _LARGEST:
            raise BadHead(400, "chunk size or extensions too long")
        self._step = ChunkedBody._chunk if self._missing else ChunkedBody._trailers
        return end + 2

    def _chunk(self, data: bytes, at: int) -> int | None:
        if at == len(data):
            return None
        piece = data[at : at + self._missing]
        self._missing -= len(piece)
        self._payload.append(piece)
        if not self._missing:
            self._step = ChunkedBody._chunk_end
        return at + len(piece)

    def _chunk_end(self, data: bytes, at: int) -> int | None:
        if not b"\r\n".startswith(data[at : at + 2]):
            raise BadHead(400, "chunk longer than its size")
        if len(data) - at < 2:
            return None
        self._step = ChunkedBody._size
        return at + 2

    def _trailers(self, data: bytes, at: int) -> int | None:
        if data.startswith(b"\r\n", at):
            self.done = True
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
        if end < 0:
            if len(data) - at >= MAX_TRAILERS:
                raise BadHead(400, "trailers too long")
            if data.count(b"\n", at) != data.count(b"\r\n", at):
                raise BadHead(400, "line without CRLF")
            return None
        self.trailers = parse_fields(data[at : end + 2])
        self.done = True
        return end + 4


def encode_chunk(data: bytes) -> bytes:
    """One chunk; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_last_chunk(trailers: bytes = b"") -> bytes:
    """The end of a chunked body; `trailers` is a block of lines, each with its CRLF."""
    return b"0\r\n%b\r\n" % trailers
