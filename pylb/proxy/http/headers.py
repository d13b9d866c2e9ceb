"""Which headers travel on, and what does pylb write itself?

- First everything goes that concerns one connection only: the hop-by-hop headers and what `Connection` nominates.  A
  nomination cannot remove what pylb writes itself (Host, the framing, X-Forwarded-*), because that comes afterwards.
- Of a request, names of anything but letters, digits and hyphens go too: servers that map `-` and `_` to one variable
  would take `X_Forwarded_For` for ours.
- All others keep their order, their repetitions and their spelling.  Date and Server pass through; there is no Via.
"""

from __future__ import annotations

import re

from pylb.proxy.http.body import CHUNKED, UNTIL_CLOSE, content_length
from pylb.proxy.http.head import Fields, RequestHead, ResponseHead

__all__ = [
    "UPGRADE_LINES",
    "expects_continue",
    "framing_line",
    "length_line",
    "request_end",
    "request_start",
    "response_lines",
    "response_start",
    "trailer_block",
]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
#: `Proxy` becomes HTTP_PROXY in CGI programs, which then send their own requests where the client wants.
_OURS_IN_REQUESTS = frozenset(
    {b"expect", b"host", b"proxy", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
)
_REQUEST_DROPPED = _HOP_BY_HOP | _FRAMING | _OURS_IN_REQUESTS
_RESPONSE_DROPPED = _HOP_BY_HOP | _FRAMING
#: Fields that decide about the message, its way or its reader's rights have no place behind the body.
_TRAILERS_DROPPED = (
    _REQUEST_DROPPED
    | {b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type", b"cookie"}
    | {b"max-forwards", b"range", b"set-cookie", b"trailer"}
)

_PLAIN_NAME = re.compile(rb"[0-9a-z-]++")

#: Asks a server, or tells a client, to leave HTTP for WebSocket.
UPGRADE_LINES = b"Connection: upgrade\r\nUpgrade: websocket\r\n"


def expects_continue(head: RequestHead) -> bool:
    """Whether the client asks for a 100 before it sends its body.  An HTTP/1.0 client cannot be sent one."""
    expectations = head.fields.values.get(b"expect")
    return expectations is not None and head.minor == 1 and [e.lower() for e in expectations] == [b"100-continue"]


def request_start(head: RequestHead, host: bytes) -> bytes:
    """The head for the server, as far as it is the same whoever the client is."""
    fields = head.fields
    forward = fields.forward
    if forward is None:
        forward = fields.forward = _travelling(fields, _REQUEST_DROPPED, plain=True)
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (head.method, head.target, host, forward)


def request_end(head: RequestHead, framing: int) -> bytes:
    """The end of the head for the server, its blank line included."""
    expectation = b"Expect: 100-continue\r\n" if expects_continue(head) else b""
    has_body = framing or b"content-length" in head.fields.values
    return b"%b%b\r\n" % (expectation, framing_line(framing) if has_body else b"")


def response_start(head: ResponseHead) -> bytes:
    """The head for the client but for its end: lines that tell of this connection, then an empty one, follow."""
    if not head.start:
        line = b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)
        head.start = line + response_lines(head) + length_line(head)
    return head.start


def response_lines(head: ResponseHead) -> bytes:
    """The lines of an answer that travel on."""
    fields = head.fields
    forward = fields.forward
    if forward is None:
        forward = fields.forward = _travelling(fields, _RESPONSE_DROPPED, plain=False)
    return forward


def trailer_block(fields: Fields | None) -> bytes:
    """The trailers that travel on."""
    return _travelling(fields, _TRAILERS_DROPPED, plain=True) if fields else b""


def framing_line(framing: int) -> bytes:
    """The header that announces a body; none for one that lasts until the end of the connection."""
    if framing == CHUNKED:
        return b"Transfer-Encoding: chunked\r\n"
    return b"" if framing == UNTIL_CLOSE else b"Content-Length: %d\r\n" % framing


def length_line(head: ResponseHead) -> bytes:
    """The length that an answer tells, be it with a body or without (HEAD, 304)."""
    length = None if head.status < 200 or head.status == 204 else content_length(head.fields)
    return b"" if length is None else framing_line(length)


def _travelling(fields: Fields, dropped: frozenset[bytes], *, plain: bool) -> bytes:
    dropped = dropped | fields.connection
    return b"".join(
        [line for name, line in fields.lines if name not in dropped and (not plain or _PLAIN_NAME.fullmatch(name))]
    )
