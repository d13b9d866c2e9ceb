"""What was asked of the balancer, who answered, and how long did it take?

One `Record` a request (HTTP), a connection (TCP) or a session (UDP).  Whoever carries the traffic fills it in and writes
it once, at the end; the time of writing is the record's end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from pylb import model
from pylb.proxy.logfile import LogFile
from pylb.proxy.logformat import Line, Moment, compile_format

__all__ = ["NOTHING", "AccessLog", "Asked", "NullLog", "Record", "Try", "open_access_log"]


class Try:
    """A server that was tried: its name, its status, seconds until it was connected and until its head came (HTTP).

    The status is what the server sent (HTTP).  Or 502: it could not be reached, or it closed or sent rubbish before there
    was a head; or 504: it was late with either.  `started` is a reading of the clock.
    """

    __slots__ = ("connect_time", "header_time", "server", "started", "status")

    def __init__(self, server: str, started: float = 0.0) -> None:
        self.server = server
        self.started = started
        self.status: int | None = None
        self.connect_time: float | None = None
        self.header_time: float | None = None


class Asked(Protocol):
    """What a client of HTTP asked, as it came: each may hold any byte.  `request` is its line, `b"GET / HTTP/1.1"`."""

    request: bytes
    method: bytes
    target: bytes
    version: bytes
    host: bytes
    referer: bytes
    user_agent: bytes


class _Nothing:
    """What was not understood, or not asked in HTTP."""

    __slots__ = ()
    request = method = target = version = host = referer = user_agent = b""


NOTHING: Asked = _Nothing()


class Record:
    """What is known of one request, connection or session.

    `started` is a reading of the clock.  `status` 0: nothing was answered.  `bytes_received` and `bytes_sent` are the
    client's side.
    """

    __slots__ = (
        "asked",
        "bytes_received",
        "bytes_sent",
        "listener",
        "pool",
        "protocol",
        "queue_time",
        "remote_addr",
        "remote_port",
        "started",
        "status",
        "tries",
        "upstream_bytes_received",
        "upstream_bytes_sent",
    )

    def __init__(
        self,
        listener: str,
        protocol: str,
        remote_addr: str,
        remote_port: int | None,
        started: float,
        pool: str = "",
    ) -> None:
        self.listener = listener
        self.protocol = protocol
        self.remote_addr = remote_addr
        self.remote_port = remote_port
        self.started = started
        self.pool = pool
        self.tries: list[Try] = []
        self.status = 0
        #: Seconds that were spent in a pool's queue; None: it did not wait there.
        self.queue_time: float | None = None
        self.bytes_received = self.bytes_sent = 0
        self.upstream_bytes_received = self.upstream_bytes_sent = 0
        self.asked: Asked = NOTHING

    def tried(self, server_name: str, now: float = 0.0) -> Try:
        """Note that a server is tried; the caller fills in what becomes of it."""
        attempt = Try(server_name, now)
        self.tries.append(attempt)
        return attempt


class AccessLog:
    """Writes records to a file as `lines` (see `compile_format`) say.

    `clock` reads monotonic seconds and is the one that `Record.started` was read from, `wall` reads seconds since 1970.
    """

    __slots__ = ("_clock", "_file", "_lines", "_moment", "_wall")

    def __init__(
        self,
        file: LogFile,
        lines: Mapping[str, Line],
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._lines = lines
        self._clock = clock
        self._wall = wall
        self._moment = Moment(clock(), wall())

    def write(self, record: Record) -> None:
        """Write the line of a record that is complete; never raises, never waits."""
        now = self._clock()
        if now >= self._moment.ends:
            self._moment = Moment(now, self._wall())
        line = self._lines[record.protocol](record, now, self._moment)
        self._file.write(line.encode() + b"\n")

    @property
    def fd(self) -> int | None:
        """The descriptor of the file that lines go to now, unless that is standard output."""
        return self._file.fd

    def reopen(self) -> None:
        """Go on in a new file of the same path; the old one was moved away (logrotate)."""
        self._file.reopen()

    def close(self) -> None:
        """Write what is left and close; records written later are dropped."""
        self._file.close()


class NullLog:
    """The access log of those who want none."""

    __slots__ = ()

    fd = None

    def write(self, record: Record) -> None:
        """Forget the record."""

    def reopen(self) -> None:
        """There is nothing to reopen."""

    def close(self) -> None:
        """There is nothing to close."""


def open_access_log(
    spec: model.AccessLog | None,
    reactor: IReactorTime,
    clock: Callable[[], float],
    wall: Callable[[], float] = time.time,
    fd: int | None = None,
) -> AccessLog | NullLog:
    """The access log that the operator asked for; `fd` is its file if somebody else has opened that.

    Raises OSError, which names the path, when it cannot be opened, and ValueError when the format is none.
    """
    if spec is None:
        return NullLog()
    lines = compile_format(spec.format)
    return AccessLog(LogFile(reactor, spec.path, fd), lines, clock, wall)
