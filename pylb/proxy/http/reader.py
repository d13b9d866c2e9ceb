"""Is the head whole yet?

Collects what arrives until the blank line, within limits.  What cannot become a valid head is refused as soon as that is
certain, so that a client that speaks something else gets an answer and not a timeout.
"""

from __future__ import annotations

import re

from pylb.proxy.http.head import MAX_BLOCK, MAX_REQUEST_LINE, BadHead, parse_request_line

__all__ = ["HeadReader", "RequestReader"]

_EMPTY_LINES = re.compile(rb"\A(?:\r\n){1,16}")


class HeadReader:
    """Bytes of the next head."""

    __slots__ = ("_line_seen", "begun")

    def __init__(self) -> None:
        #: What has come of a head that is not whole.
        self.begun = b""
        self._line_seen = False

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The head without its blank line, once it is whole, and what came behind it; raises BadHead."""
        searched = 0
        if self.begun:
            searched = max(0, len(self.begun) - 3)
            data, self.begun = self.begun + data, b""
        end = data.find(b"\r\n\r\n", searched)
        if end >= 0:
            self._line_seen = False
            return data[: end + 2], data[end + 4 :]
        self._check(data)
        self.begun = data
        return None

    def _check(self, data: bytes) -> None:
        line_end = data.find(b"\r\n")
        if line_end < 0 and len(data) > MAX_REQUEST_LINE + 1:
            raise BadHead(414, "request line too long")
        if line_end >= 0 and len(data) - line_end > MAX_BLOCK + 3:
            raise BadHead(431, "header block too large")
        if data.count(b"\n") != data.count(b"\r\n"):
            raise BadHead(400, "line without CRLF")
        if line_end >= 0 and not self._line_seen:
            self._line_seen = True
            self._check_line(data[:line_end])

    def _check_line(self, line: bytes) -> None:
        """Raise BadHead if no head begins so."""


class RequestReader(HeadReader):
    """Also passes over a few empty lines before the request line, which old clients send behind a body."""

    __slots__ = ()

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        if self.begun[:1] == b"\r" or (not self.begun and data.startswith(b"\r")):
            data, self.begun = _EMPTY_LINES.sub(b"", self.begun + data, count=1), b""
        return super().feed(data)

    def _check_line(self, line: bytes) -> None:
        parse_request_line(line)
