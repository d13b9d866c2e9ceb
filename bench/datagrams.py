"""Datagrams and their replies, one at a time on each of several sockets: how many pass?

One that has no reply after a while counts as lost and another is sent in its place.
"""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from time import perf_counter

from bench.outcome import SECONDS, Outcome, outcome

__all__ = ["exchange"]

SOCKETS = 32

_LOST_AFTER = 0.1
_DATAGRAM = b"ping" * 8


class _Client:
    """A socket with one datagram on its way."""

    __slots__ = ("_sent", "_socket")

    def __init__(self, port: int, stack: ExitStack) -> None:
        self._socket = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.setblocking(False)
        self._socket.connect(("127.0.0.1", port))
        self._sent = 0.0

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, now: float) -> None:
        self._sent = now
        self._socket.send(_DATAGRAM)

    def take(self, now: float) -> float:
        """Take the reply; the seconds that it took.  Raises OSError when nobody listens at the port."""
        self._socket.recv(2048)
        return now - self._sent

    def send_if_lost(self, now: float) -> None:
        if now - self._sent > _LOST_AFTER:
            self.send(now)


def exchange(port: int) -> Outcome:
    """Exchange datagrams; an operation is one with its reply.  Raises LoadFailed or OSError."""
    with ExitStack() as stack:
        clients = [_Client(port, stack) for _ in range(SOCKETS)]
        started = perf_counter()
        times = _exchange(clients, started + SECONDS, stack.enter_context(select.epoll()))
        return outcome(times, perf_counter() - started)


def _exchange(clients: list[_Client], end: float, epoll: select.epoll) -> list[float]:
    by_descriptor = {client.fileno(): client for client in clients}
    for client in clients:
        epoll.register(client.fileno(), select.EPOLLIN)
        client.send(perf_counter())
    times = []
    look_at = now = perf_counter()
    while now < end:
        for descriptor, _ in epoll.poll(_LOST_AFTER):
            client, now = by_descriptor[descriptor], perf_counter()
            times.append(client.take(now))
            client.send(now)
        now = perf_counter()
        if now > look_at:
            look_at = now + _LOST_AFTER
            for client in clients:
                client.send_if_lost(now)
    return times
