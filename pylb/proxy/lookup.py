"""Which addresses does the system know for a name?

- It is asked once (so /etc/hosts counts), in daemon threads of our own: a look-up that hangs blocks neither the reactor,
  nor its threads, nor the exit.
- A name that was not found is asked for again every `RETRY` seconds.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from twisted.internet.interfaces import IDelayedCall

__all__ = ["RETRY", "Lookups", "getaddrinfo"]

#: Seconds until a name that was not found is asked for again.
RETRY = 10.0
#: Look-ups under way at once.
THREADS = 16


def getaddrinfo(host: str) -> list[str]:
    """The addresses of a host, in the system's order.  Blocks; raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class Lookups:
    """Looks names up until they are found; `heard` is told of each try: the name, its addresses, or why there are none."""

    def __init__(
        self, reactor: Any, lookup: Callable[[str], Sequence[str]], heard: Callable[[str, Sequence[str], str], None]
    ) -> None:
        self._reactor = reactor
        self._lookup = lookup
        self._heard = heard
        self._retries: dict[str, IDelayedCall] = {}
        self._stopped = False

    def start(self, names: Iterable[str]) -> None:
        """Look these up."""
        queue: SimpleQueue[str] = SimpleQueue()
        for name in sorted(names):
            queue.put(name)
        for _ in range(min(THREADS, queue.qsize())):
            threading.Thread(target=self._work, args=(queue,), name="pylb-names", daemon=True).start()

    def stop(self) -> None:
        """Ask nothing more and forget answers that are still to come."""
        self._stopped = True
        for call in self._retries.values():
            call.cancel()
        self._retries.clear()

    def _work(self, queue: SimpleQueue[str]) -> None:
        """In a thread: ask until the queue is empty."""
        while not self._stopped:
            try:
                name = queue.get_nowait()
            except Empty:
                return
            try:
                found, problem = self._lookup(name), ""
            except (OSError, UnicodeError) as error:
                found, problem = (), getattr(error, "strerror", None) or str(error)
            self._reactor.callFromThread(self._answered, name, found, problem)

    def _answered(self, name: str, found: Sequence[str], problem: str) -> None:
        if self._stopped:
            return
        if not found:
            problem = problem or "it has no address"
            self._retries[name] = self._reactor.callLater(RETRY, self._retry, name)
        self._heard(name, found, problem)

    def _retry(self, name: str) -> None:
        del self._retries[name]
        self.start([name])
