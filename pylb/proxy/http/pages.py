"""What does pylb answer when no server's answer can be passed on?

A status, one line of plain text, and nothing about the inside.  The reason goes into the log.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

__all__ = ["ALLOWED_METHODS", "page", "page_body", "reason_phrase"]

ALLOWED_METHODS = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


def reason_phrase(status: int) -> bytes:
    """The registered words for a status."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def page_body(status: int) -> bytes:
    """The line of text."""
    return b"%d %b\n" % (status, reason_phrase(status))


def page(status: int, *, close: bool, method: bytes = b"") -> bytes:
    """A whole answer.  `method` is the request's, if that was understood: HEAD gets no body."""
    body = page_body(status)
    lines = [
        b"HTTP/1.1 %d %b" % (status, reason_phrase(status)),
        b"Date: " + formatdate(usegmt=True).encode("ascii"),
        b"Content-Type: text/plain",
        b"Content-Length: %d" % len(body),
    ]
    if status == 405:
        lines.append(b"Allow: " + ALLOWED_METHODS)
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join([*lines, b"", b"" if method == b"HEAD" else body])
