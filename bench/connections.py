"""Kept HTTP connections: what does each idle one hold, and how long do requests take that come at an even pace?

The pace does not wait for answers: a request that finds every connection busy is late, and its time counts from when it was
due.  Otherwise a proxy that stops for a while would be asked less just then, and look better than it is.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter

from bench.outcome import SECONDS, LoadFailed, Outcome, outcome
from bench.tools import CONNECTIONS

__all__ = ["idle", "paced"]

_TIMEOUT = 10
_NO_HEADERS = ()


class _Client:
    """A connection on which one request at a time is answered."""

    __slots__ = ("_due", "_request", "_socket")

    def __init__(self, port: int, headers: tuple[str, ...], stack: ExitStack) -> None:
        self._socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), _TIMEOUT))
        self._request = "\r\n".join(["GET / HTTP/1.1", "Host: bench", *headers, "", ""]).encode("ascii")
        self._due = 0.0

    def fileno(self) -> int:
        return self._socket.fileno()

    def ask(self, due: float) -> None:
        self._due = due
        self._socket.sendall(self._request)

    def take(self) -> float:
        """Wait for the answer, which fits into a packet; the seconds since it was due.  Raises LoadFailed."""
        if not (answer := self._socket.recv(4096)).startswith(b"HTTP/1.1 200 "):
            raise LoadFailed(f"an answer begins with {answer[:60]!r}")
        return perf_counter() - self._due


@contextmanager
def idle(port: int, count: int) -> Iterator[None]:
    """So many connections that have carried a request and its answer, and are idle.  Raises LoadFailed or OSError."""
    with ExitStack() as stack:
        for _ in range(count):
            client = _Client(port, _NO_HEADERS, stack)
            client.ask(perf_counter())
            client.take()
        yield


def paced(port: int, rate: float, headers: tuple[str, ...]) -> Outcome:
    """So many requests a second, evenly.  Raises LoadFailed or OSError."""
    with ExitStack() as stack:
        clients = [_Client(port, headers, stack) for _ in range(CONNECTIONS)]
        started = perf_counter()
        times = _pace(clients, started, 1 / rate)
        return outcome(times, perf_counter() - started)


def _pace(resting: list[_Client], due: float, interval: float) -> list[float]:
    times: list[float] = []
    busy: list[_Client] = []
    end = due + SECONDS
    while due < end or busy:
        now = perf_counter()
        while due <= min(now, end) and resting:
            busy.append(client := resting.pop())
            client.ask(due)
            due += interval
        # select waits to the microsecond, epoll to the millisecond only.
        for client in select.select(busy, [], [], max(0.0, due - now) if resting and due < end else _TIMEOUT)[0]:
            times.append(client.take())
            busy.remove(client)
            resting.append(client)
    return times
