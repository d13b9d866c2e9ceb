"""Who serves whose sockets?

A worker serves its own.  When it ends, each of those that it served is served by the one of the others that serves fewest,
until its own worker is back.  Nobody stands in for a worker that has not been there yet: it comes soon.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Change", "Rota"]


class Change(NamedTuple):
    """A worker has to serve a row of sockets from now on, or to leave it."""

    worker: int
    serves: bool
    row: int


class Rota:
    """Workers and rows have the same numbers; a worker serves its own row by itself when it comes."""

    def __init__(self) -> None:
        #: The rows that each worker serves.
        self._served: dict[int, set[int]] = {}
        self._waiting: set[int] = set()

    def came(self, worker: int) -> list[Change]:
        """A worker serves its own row."""
        changes = [self._change(other, False, worker) for other, rows in self._served.items() if worker in rows]
        self._served[worker] = {worker}
        self._waiting.discard(worker)
        return changes + self._hand_out()

    def went(self, worker: int) -> list[Change]:
        """A worker has ended."""
        self._waiting |= self._served.pop(worker, set())
        return self._hand_out()

    def _hand_out(self) -> list[Change]:
        if not self._served:
            return []
        waiting, self._waiting = sorted(self._waiting), set()
        return [self._change(self._idlest(), True, row) for row in waiting]

    def _idlest(self) -> int:
        return min(self._served, key=lambda worker: len(self._served[worker]))

    def _change(self, worker: int, serves: bool, row: int) -> Change:
        (self._served[worker].add if serves else self._served[worker].remove)(row)
        return Change(worker, serves, row)
