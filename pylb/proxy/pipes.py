"""Which pipes are there to pass bytes through, within the kernel?

Their number is bounded, because each takes two descriptors.  One that is empty is used again; one that is not is closed, so
that nobody gets what was meant for somebody else.
"""

from __future__ import annotations

import os
import sys

if sys.platform == "linux":
    import fcntl

__all__ = ["Pipe", "Pipes"]

#: Bytes that a pipe should hold, and is given at a time.
SIZE = 512 * 1024

#: Neither waits for the other end; pages are moved, not copied.
_FLAGS = getattr(os, "SPLICE_F_NONBLOCK", 0) | getattr(os, "SPLICE_F_MOVE", 0)


class Pipe:
    """Holds bytes that came from a socket, until another one takes them."""

    __slots__ = ("_into", "_out", "held")

    def __init__(self) -> None:
        """Raises OSError without a descriptor, and when it cannot be so large: a small one is dearer than none."""
        self._out, self._into = os.pipe()
        #: How many bytes it holds.
        self.held = 0
        try:
            fcntl.fcntl(self._into, fcntl.F_SETPIPE_SZ, SIZE)
        except OSError:
            self.close()
            raise

    def fill(self, fd: int, most: int) -> int:
        """Take bytes from a socket, no more than `most`; 0 is its end.  Raises OSError."""
        count = os.splice(fd, self._into, min(most, SIZE), flags=_FLAGS)
        self.held += count
        return count

    def drain(self, fd: int) -> int:
        """Give to a socket what it takes.  Raises OSError."""
        count = os.splice(self._out, fd, self.held, flags=_FLAGS)
        self.held -= count
        return count

    def close(self) -> None:
        """Drop what it holds, too."""
        os.close(self._into)
        os.close(self._out)


class Pipes:
    """No more than `most` pipes; none where the system has no splice."""

    def __init__(self, most: int) -> None:
        self._most = most if hasattr(os, "splice") else 0
        self._used = 0
        self._free: list[Pipe] = []

    def __len__(self) -> int:
        """How many are open."""
        return self._used + len(self._free)

    def take(self) -> Pipe | None:
        """An empty pipe, if there is one."""
        pipe = self._free.pop() if self._free and self._most else self._open()
        self._used += pipe is not None
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Use it no more."""
        self._used -= 1
        if pipe.held:
            pipe.close()
        else:
            self._free.append(pipe)

    def give_up(self) -> None:
        """Hand out no more."""
        self._most = 0

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._free:
            self._free.pop().close()

    def _open(self) -> Pipe | None:
        if self._used >= self._most:
            return None
        try:
            return Pipe()
        except OSError:
            return None
