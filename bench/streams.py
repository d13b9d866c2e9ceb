"""Bodies of messages, one after the other over one connection: how long do they take?

The work is the kernel's (and OpenSSL's): what comes over a plain connection is dropped there without a copy, what goes is
sent from the page cache.  So one core of CPython is fast enough to keep any proxy busy.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from bench.outcome import SECONDS, LoadFailed, Outcome, outcome

__all__ = ["MB", "download", "upload"]

MB = 1_000_000

_TIMEOUT = 10
_BUFFER = bytearray(1 << 20)
_GET = b"GET /%dm HTTP/1.1\r\nHost: bench\r\n\r\n"
_PUT = b"PUT /take HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n"


def download(port: int, megabytes: int, tls: bool = False) -> Outcome:
    """Get bodies of so many MB; an operation is one MB.  Raises LoadFailed or OSError."""

    def once(connection: socket.socket) -> None:
        connection.sendall(_GET % megabytes)
        _take_answer(connection, megabytes * MB)

    return _repeat(port, once, megabytes, tls)


def upload(port: int, body: Path) -> Outcome:
    """Put the bytes of a file again and again; an operation is one MB.  Raises LoadFailed or OSError."""
    size = body.stat().st_size

    def once(connection: socket.socket) -> None:
        connection.sendall(_PUT % size)
        with body.open("rb") as file:
            connection.sendfile(file)
        _take_answer(connection, 0)

    return _repeat(port, once, size / MB, tls=False)


def _repeat(port: int, once: Callable[[socket.socket], None], megabytes: float, tls: bool) -> Outcome:
    times = []
    with _connect(port, tls) as connection:
        started = now = perf_counter()
        while now < started + SECONDS:
            once(connection)
            before, now = now, perf_counter()
            times.append(now - before)
    return outcome(times, now - started, megabytes)


def _connect(port: int, tls: bool) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
    # Else the end of a body waits until its beginning is acknowledged, which TCP puts off.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    if not tls:
        return connection
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def _take_answer(connection: socket.socket, least: int) -> None:
    """Read an answer to its end.  Raises LoadFailed when it is an error, or cut, or its body too short."""
    head, _, rest = _take_head(connection).partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if not head.startswith(b"HTTP/1.1 2") or not length or int(length[1]) < least:
        raise LoadFailed(f"an answer begins with {head[:60]!r}")
    _drop(connection, int(length[1]) - len(rest))


def _take_head(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        if not (more := connection.recv(4096)):
            raise LoadFailed("closed before an answer")
        got += more
    return got


def _drop(connection: socket.socket, size: int) -> None:
    # TCP then counts the bytes and copies none (tcp(7)); OpenSSL has to copy.
    flags = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_TRUNC
    while size > 0:
        if not (count := connection.recv_into(_BUFFER, min(size, len(_BUFFER)), flags)):
            raise LoadFailed("an answer was cut")
        size -= count
