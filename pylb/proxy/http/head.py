"""What does the head of a message say?

Bytes in, a `RequestHead` or a `ResponseHead` out, or `BadHead`.  The rules:

- One expression validates the whole header block: tokens for names, no space before the colon, no folding, CRLF and
  nothing else between lines, no control characters.  What it does not match is refused, never repaired.
- Only the headers that decide something are looked at; the others are carried.  Nothing is forwarded as it was
  received: `Fields.block` is written anew from what was parsed.
- A request says without doubt where it goes: one target, one valid host, no dot segments in the path (servers that
  resolve `/public/../admin` would see another path than the one that was routed).
- First lines, header blocks and whole answers are often the very same bytes again, so parsed ones are kept.  A head is
  shared by all messages that brought the same bytes: nobody changes what it says.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from pylb.proxy.http.kept import Kept

__all__ = [
    "MAX_BLOCK",
    "MAX_FIELDS",
    "MAX_REQUEST_LINE",
    "BadHead",
    "Fields",
    "RequestHead",
    "ResponseHead",
    "parse_fields",
    "parse_request",
    "parse_request_line",
    "parse_response",
]

#: Bytes of a request line without its CRLF; longer is 414.
MAX_REQUEST_LINE: Final = 8 * 1024
#: Bytes and lines of a header block; more is 431.
MAX_BLOCK: Final = 32 * 1024
MAX_FIELDS: Final = 100

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]"
_BLOCK = re.compile(rb"(?:%b++:%b*+\r\n)*+" % (_TOKEN, _VALUE))
#: Small letters would be another method to us than to a server that does not mind case.
_METHOD = rb"[!#$%&'*+.^_`|~0-9A-Z-]"
_REQUEST_LINE = re.compile(rb"(%b++) ([\x21\x22\x24-\x7e]++) HTTP/(\d)\.(\d)" % _METHOD)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: (%b*+))?" % _VALUE)
_HOST = re.compile(rb"(?:[0-9A-Za-z._~-]++|\[[0-9A-Fa-f:.]++\])(?::\d{1,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?]*+)(.*+)", re.IGNORECASE)
_DOT_SEGMENT = re.compile(rb"(?:/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:/|\\|;|%2f|%5c|%3b|\Z)", re.IGNORECASE)

#: Parsed first lines that are kept.
_KEPT_LINES: Final = 256
_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")

#: A number that nobody has asked for yet.
UNREAD: Final = -3


class BadHead(Exception):
    """The message cannot be understood in exactly one way: `status` is the answer if it was a request."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Fields:
    """A validated header block.

    `lines` are (name in lower case, whole line written anew) in order; `values` all values of a name in order.
    """

    __slots__ = ("connection", "forward", "host", "length", "lines", "values")

    def __init__(self, lines: list[tuple[bytes, bytes]], values: dict[bytes, list[bytes]]) -> None:
        self.lines = lines
        self.values = values
        #: The options of `Connection` in lower case.
        self.connection = frozenset(self.elements(b"connection"))
        #: The lines that travel on, once `headers` has sorted them out.
        self.forward: bytes | None = None
        #: The one valid Host of a request, once it was looked for; None if it has none.
        self.host: bytes | None = None
        #: The Content-Length, once `body` has read it; None if there is none.
        self.length: int | None = UNREAD

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self.lines == other.lines

    def __repr__(self) -> str:
        return f"<Fields {self.block!r}>"

    @property
    def block(self) -> bytes:
        """All lines, each with its CRLF."""
        return b"".join([line for _, line in self.lines])

    def first(self, name: bytes) -> bytes:
        """The first value of `name` (lower case), or nothing."""
        values = self.values.get(name)
        return values[0] if values else b""

    def elements(self, name: bytes) -> list[bytes]:
        """The elements of a comma-separated list, over all its lines, in lower case."""
        values = self.values.get(name)
        if not values:
            return []
        return [element for part in b",".join(values).lower().split(b",") if (element := part.strip(b" \t"))]


class RequestHead:
    """A request line and its fields.  `target` is in origin form (or `*`); `host` is empty only in HTTP/1.0."""

    __slots__ = (
        "fields",
        "host",
        "keep_alive",
        "method",
        "minor",
        "referer",
        "request",
        "size",
        "target",
        "user_agent",
        "version",
    )

    def __init__(self, method: bytes, target: bytes, minor: int, host: bytes, fields: Fields, size: int) -> None:
        #: Bytes on the wire, the blank line included.
        self.size = size
        self.method = method
        self.target = target
        self.minor = minor
        self.version = _VERSIONS[minor]
        self.request = b"%b %b %b" % (method, target, self.version)
        self.host = host
        self.fields = fields
        self.referer = fields.first(b"referer")
        self.user_agent = fields.first(b"user-agent")
        #: Whether the client wants to use the connection again.
        self.keep_alive = b"close" not in fields.connection and (minor == 1 or b"keep-alive" in fields.connection)

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]


class ResponseHead:
    """A status line and its fields."""

    __slots__ = ("fields", "framing", "keep_alive", "minor", "reason", "start", "status", "wire")

    def __init__(self, status: int, reason: bytes, minor: int, fields: Fields, wire: bytes) -> None:
        #: As it came, the blank line included.
        self.wire = wire
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields = fields
        #: Whether the server may be asked again on the connection: HTTP/1.0 servers are not.
        self.keep_alive = minor == 1 and b"close" not in fields.connection
        #: The framing of the body, once `body` has read it, and what is written to clients, once `headers` has.
        self.framing = UNREAD
        self.start = b""


def parse_request(head: bytes) -> RequestHead:
    """What the client asks.  `head` ends with the CRLF of its last line, without the empty one; raises BadHead."""
    line, _, block = head.partition(b"\r\n")
    method, target, minor = parse_request_line(line)
    fields = _request_blocks.get(block) or _request_blocks.keep(block, _request_fields(block))
    host = fields.host or b""
    if minor and fields.host is None:
        raise BadHead(400, "not exactly one Host")
    if target[0] != 0x2F:
        host, target = _other_target(method, target, host)
    if (b"." in target or b"%" in target) and _DOT_SEGMENT.search(target.partition(b"?")[0]):
        raise BadHead(400, "dot segment in the path")
    return RequestHead(method, target, minor, host, fields, len(head) + 2)


@lru_cache(_KEPT_LINES)
def parse_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target as sent, minor version; raises BadHead."""
    if len(line) > MAX_REQUEST_LINE:
        raise BadHead(414, "request line too long")
    matched = _REQUEST_LINE.fullmatch(line)
    if matched is None:
        raise BadHead(400, "malformed request line")
    method, target, major, minor = matched.groups()
    if major != b"1" or minor not in b"01":
        raise BadHead(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if method in (b"CONNECT", b"TRACE"):
        raise BadHead(405, "method refused")
    return method, target, int(minor)


def _other_target(method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """Host and target of a request whose target is not a path: its own authority wins over Host."""
    if target == b"*" and method == b"OPTIONS":
        return host, target
    matched = _ABSOLUTE.fullmatch(target)
    if matched is None or not _HOST.fullmatch(matched[1]):
        raise BadHead(400, "malformed target")
    authority, path = matched.groups()
    if not path and method == b"OPTIONS":
        return authority, b"*"
    return authority, path if path.startswith(b"/") else b"/" + path


def parse_response(head: bytes) -> ResponseHead:
    """What the server answers; `head` as for requests; raises BadHead (whose status means nothing here)."""
    return _responses.get(head) or _responses.keep(head, _parse_response(head))


def _parse_response(head: bytes) -> ResponseHead:
    line, _, block = head.partition(b"\r\n")
    status, reason, minor = _parse_status_line(line)
    fields = _response_blocks.get(block) or _response_blocks.keep(block, parse_fields(block))
    return ResponseHead(status, reason, minor, fields, head + b"\r\n")


@lru_cache(_KEPT_LINES)
def _parse_status_line(line: bytes) -> tuple[int, bytes, int]:
    matched = _STATUS_LINE.fullmatch(line)
    if matched is None:
        raise BadHead(502, "malformed status line")
    minor, status, reason = matched.groups()
    return int(status), reason or b"", int(minor)


def parse_fields(block: bytes) -> Fields:
    """A header or trailer block, every line with its CRLF; raises BadHead."""
    if len(block) > MAX_BLOCK or block.count(b"\n") > MAX_FIELDS:
        raise BadHead(431, "header block too large")
    if not _BLOCK.fullmatch(block):
        raise BadHead(400, "malformed header block")
    lines = []
    values: dict[bytes, list[bytes]] = {}
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        lower = name.lower()
        lines.append((lower, b"%b: %b\r\n" % (name, value)))
        values.setdefault(lower, []).append(value)
    return Fields(lines, values)


def _request_fields(block: bytes) -> Fields:
    fields = parse_fields(block)
    hosts = fields.values.get(b"host", ())
    if len(hosts) > 1:
        raise BadHead(400, "not exactly one Host")
    if hosts:
        fields.host = hosts[0]
        if not _HOST.fullmatch(hosts[0]):
            raise BadHead(400, "invalid Host")
    return fields


_request_blocks = Kept[Fields]()
_response_blocks = Kept[Fields]()
_responses = Kept[ResponseHead]()
