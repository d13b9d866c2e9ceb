"""What does pylb answer when no server's answer can be passed on?

A status, one line of plain text, and nothing about the inside.  Only what a client can mend it is told.
"""

from __future__ import annotations

from email.utils import formatdate

__all__ = ["ALLOWED_METHODS", "page", "page_body"]

ALLOWED_METHODS = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


_PHRASES = {
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


def page_body(status: int, why: bytes = b"") -> bytes:
    """The line of text."""
    return b"%d %b%b%b\n" % (status, _PHRASES[status], b": " * bool(why), why)


def page(status: int, *, close: bool, method: bytes = b"", why: bytes = b"") -> bytes:
    """A whole answer.  `method` is the request's, if that was understood: HEAD gets no body."""
    body = page_body(status, why)
    lines = [
        b"HTTP/1.1 %d %b" % (status, _PHRASES[status]),
        b"Date: " + formatdate(usegmt=True).encode("ascii"),
        b"Content-Type: text/plain",
        b"Content-Length: %d" % len(body),
    ]
    if status == 405:
        lines.append(b"Allow: " + ALLOWED_METHODS)
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join([*lines, b"", b"" if method == b"HEAD" else body])
