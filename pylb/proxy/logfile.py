"""How do lines reach a file that may be full, slow or gone, without traffic ever waiting for it?

Lines are buffered, and written when 32 KiB have gathered or the first of them is a second old.  What cannot be written
stays buffered, up to 1 MiB, and is tried again at the next such time; lines beyond that are dropped and counted.  One
message says that this begins, another that it is over and how many lines were lost.

Lines stay whole: when a write took half a line, the next one goes on with the other half.

A regular file is waited for, as the disk is everywhere.  Anything else (FIFO, terminal, device) is opened non-blocking.
Standard output may be shared with other programs, so its flags are left alone; it is written when poll() says that it
has room, and with no more at once than a pipe that has room is sure to take.
"""

from __future__ import annotations

import os
import select
import stat
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["LogFile"]

FLUSH_SIZE = 32 * 1024
FLUSH_DELAY = 1.0
MOST_KEPT = 1024 * 1024

#: Lines tell who asked for what: for the owner and a group, not for everybody on the machine.
_MODE = 0o640

_STDOUT = 1
_CLOSED = -1
_FLAGS = os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY

_log = Logger()


class LogFile:
    """Lines on their way to the file at `path`, which is opened unless it is there as `fd`; "-" is standard output.

    Raises OSError, which names the path, when it cannot be opened.
    """

    __slots__ = (
        "_buffer",
        "_due",
        "_failing",
        "_fd",
        "_is_regular",
        "_lost",
        "_poll",
        "_reactor",
        "_room",
        "_timer",
        "_torn",
        "path",
    )

    def __init__(self, reactor: IReactorTime, path: str, fd: int | None = None) -> None:
        self.path = path
        self._reactor = reactor
        self._buffer = bytearray()
        self._room = MOST_KEPT
        self._due = FLUSH_SIZE
        self._timer: IDelayedCall | None = None
        self._failing = False
        self._lost = 0
        self._use(_open(path) if fd is None else fd)

    @property
    def fd(self) -> int | None:
        """The descriptor of the file; None for standard output, and once it is closed."""
        return None if self.path == "-" or self._fd == _CLOSED else self._fd

    def write(self, line: bytes) -> None:
        """Take a line, which ends in a newline; it is written soon, or dropped and counted."""
        size = len(self._buffer) + len(line)
        if size > self._room:
            self._lose()
            return
        self._buffer += line
        if size >= self._due:
            self.flush()
        elif self._timer is None:
            self._timer = self._reactor.callLater(FLUSH_DELAY, self.flush)

    def flush(self) -> None:
        """Write as much of the buffer as can be written now."""
        self._cancel_timer()
        try:
            self._write_out()
        except BlockingIOError:
            pass
        except OSError as error:
            self._begin_failing(error.strerror or str(error))
        self._due = len(self._buffer) + FLUSH_SIZE
        if self._buffer:
            self._timer = self._reactor.callLater(FLUSH_DELAY, self.flush)
        elif self._failing:
            self._end_failing()

    def reopen(self) -> None:
        """Finish the old file and go on in a new one at the same path; when that cannot be opened, in the old one.

        A log that is closed stays closed.
        """
        if self._fd == _CLOSED:
            return
        self.flush()
        if self.path == "-":
            return
        try:
            fd = _open(self.path)
        except OSError as error:
            _log.error(
                "access log {path}: cannot be opened again, the old file goes on: {problem}",
                path=self.path,
                problem=error.strerror,
            )
            return
        if self._torn:
            self._lose_first_line()
        self._close_fd()
        self._use(fd)

    def close(self) -> None:
        """Write what can be written now and close; the rest is lost, as is every line that still comes."""
        if self._fd == _CLOSED:
            return
        self.flush()
        self._cancel_timer()
        if lost := self._lost + self._buffer.count(b"\n"):
            _log.error("access log {path}: closed, {lost} lines were lost", path=self.path, lost=lost)
        self._close_fd()
        self._buffer.clear()
        self._room = 0
        self._failing = True

    def _use(self, fd: int) -> None:
        self._fd = fd
        self._torn = False
        self._is_regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self._poll = None
        if fd == _STDOUT:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

    def _write_out(self) -> None:
        while self._buffer and (self._poll is None or self._poll.poll(0)):
            piece = self._first_piece()
            written = os.write(self._fd, piece)
            self._torn = piece[written - 1] != ord("\n")
            del self._buffer[:written]

    def _first_piece(self) -> bytearray:
        """All there is, or so many lines as a pipe takes whole: others may be writing to it, too."""
        if self._is_regular:
            return self._buffer
        piece = self._buffer[: select.PIPE_BUF]
        end = piece.rfind(b"\n") + 1
        return piece[:end] if end else piece

    def _lose(self) -> None:
        self._lost += 1
        # Nothing is said of standard output: twistd's own log goes there too, and would wait for the reader that is stuck.
        if self.path == "-":
            self._failing = True
        self._begin_failing("nobody reads it")

    def _lose_first_line(self) -> None:
        del self._buffer[: self._buffer.index(b"\n") + 1]
        self._lose()

    def _begin_failing(self, problem: str) -> None:
        if self._failing:
            return
        self._failing = True
        _log.error(
            "access log {path}: {problem}; up to 1 MiB of lines is kept, more is dropped",
            path=self.path,
            problem=problem,
        )

    def _end_failing(self) -> None:
        self._failing = False
        _log.warn("access log {path}: written again, {lost} lines were lost", path=self.path, lost=self._lost)
        self._lost = 0

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _close_fd(self) -> None:
        # The number may soon be somebody else's.
        fd, self._fd = self._fd, _CLOSED
        if fd != _STDOUT:
            with suppress(OSError):
                os.close(fd)


def _open(path: str) -> int:
    if path == "-":
        return _standard_output()
    if Path(path).is_fifo():
        # Opened for reading too, it opens while nobody reads it, and does not break when its reader is restarted.
        return os.open(path, os.O_RDWR | _FLAGS)
    return os.open(path, os.O_WRONLY | os.O_CREAT | _FLAGS, _MODE)


def _standard_output() -> int:
    # A terminal is opened anew: with poll() alone, a write to one that has little room blocks (seen on Linux).
    if os.isatty(_STDOUT):
        with suppress(OSError):
            return os.open(os.ttyname(_STDOUT), os.O_WRONLY | _FLAGS)
    return _STDOUT
