"""What do the other workers do with the servers of this one?

- This worker's pools give their servers places in its own row (pylb.balance.scoreboard), and leases are counted there.  A
  server that finds no place is this worker's alone.
- The other rows are read before a lease is given, when what is known of them is older than LAG; nothing is done by a timer.
  A row that has not changed costs two comparisons of memory, one that has costs what has changed.
- A server that has a limit is counted anew before each lease, so that W workers exceed it by W - 1 at most, for an instant.
- The leases of the others are in `Server.active` beside one's own; what they know of failures is in `Server.health`.
- Servers are the same if their pools and addresses are and, where an address stands twice in a pool, if they come in the
  same order there.  A key says so, and is looked for in all places: the addresses of a host name may differ among workers,
  and change at one before they do at another.
- A server that has left its pool keeps its place while it has leases.
- Of its own each worker has the times that it measured, weights that failures have lowered, slow starts and sessions (which
  it is told of by other means, pylb.workers.sessions).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from math import inf
from typing import Final, Protocol

from pylb.balance.health import Note
from pylb.balance.scoreboard import Reading, Row, Scoreboard
from pylb.balance.server import Server

__all__ = ["LAG", "Colleagues", "SharingPool"]

#: Seconds that what is known of the others may be old.
LAG: Final = 0.02


class SharingPool(Protocol):
    """What a pool hears of the other workers."""

    name: str

    def load_changed(self, server: Server, now: float) -> None:
        """They gave or released leases of `server`, which are in its `active` already."""

    def catch_up(self, server: Server, now: float) -> None:
        """They know something new of the health of `server`."""


class _Entry:
    """A server of this worker, and where it stands in the rows."""

    __slots__ = ("elsewhere", "key", "place", "pool", "row", "server")

    def __init__(self, pool: SharingPool, server: Server, row: Row, place: int) -> None:
        self.pool = pool
        self.server = server
        self.row = row
        self.place = place
        self.key = 0
        #: At the other workers that have it.
        self.elsewhere: set[tuple[Reading, int]] = set()

    def notes(self) -> Iterable[Note]:
        return [self.row.note(self.place), *(reading.row.note(place) for reading, place in self.elsewhere)]

    def publish(self, note: Note) -> None:
        self.row.write(self.place, note)


class _Changes:
    """Of whom others have more or fewer leases, and whose health they may know something new of."""

    __slots__ = ("load", "notes")

    def __init__(self) -> None:
        self.load: set[_Entry] = set()
        self.notes: set[_Entry] = set()


class _Colleague:
    """One other worker, as it was when it was looked at."""

    __slots__ = ("_entries", "_reading")

    def __init__(self, row: Row) -> None:
        self._reading = Reading(row)
        #: This worker's, by the places that they have there.
        self._entries: dict[int, _Entry] = {}

    def look(self, known: Mapping[int, _Entry], changes: _Changes) -> None:
        """See what it has changed; `known` are this worker's servers by their keys."""
        for place in self._reading.read_records():
            self._meet(place, known, changes)
        for place, more in self._reading.read_leases():
            if (entry := self._entries.get(place)) is not None:
                entry.server.active += more
                changes.load.add(entry)

    def meet(self, known: Mapping[int, _Entry], changes: _Changes) -> None:
        """This worker has changed: see again who is who."""
        for place in range(self._reading.row.used):
            self._meet(place, known, changes)

    def _meet(self, place: int, known: Mapping[int, _Entry], changes: _Changes) -> None:
        reading = self._reading
        before, entry = self._entries.get(place), known.get(reading.row.keys[place])
        if before is not None and before is not entry:
            del self._entries[place]
            before.server.active -= reading.leases(place)
            before.elsewhere.remove((reading, place))
            changes.load.add(before)
            changes.notes.add(before)
        if entry is not None and entry is not before:
            self._entries[place] = entry
            entry.server.active += reading.leases(place)
            entry.elsewhere.add((reading, place))
            changes.load.add(entry)
        if entry is not None:
            changes.notes.add(entry)


class Colleagues:
    """The other workers of the one whose row is number `row`."""

    def __init__(self, board: Scoreboard, row: int) -> None:
        self._row = board.rows[row]
        self._others = [_Colleague(other) for number, other in enumerate(board.rows) if number != row]
        #: Of each pool: those that have a place.
        self._entries: dict[str, dict[Server, _Entry]] = {}
        self._known: dict[int, _Entry] = {}
        #: Places that were left, and how many were ever taken.
        self._free: list[int] = []
        self._taken = 0
        self._changed = False
        #: After this moment it is time to look.
        self.due = inf

    def enroll(self, pool: SharingPool, servers: Sequence[Server]) -> None:
        """These are the servers of `pool` from now on."""
        entries = self._entries.setdefault(pool.name, {})
        found = [server for server in servers if not server.missing]
        keys = dict(zip(found, _keys(pool.name, found), strict=True))
        for server in [server for server in entries if server not in keys and not server.held[0]]:
            self._leave(entries.pop(server))
        for server, key in keys.items():
            entry = entries.get(server) or self._enter(pool, server)
            if entry is not None:
                entries[server] = entry
                self._name(entry, key)
        if self._others:
            self._changed = True
            self.due = -inf

    def look(self, now: float) -> None:
        """Read what the others have written, and tell the pools."""
        changes = _Changes()
        for other in self._others:
            if self._changed:
                other.meet(self._known, changes)
            other.look(self._known, changes)
        self._changed = False
        self.due = now + LAG
        for entry in changes.load:
            entry.pool.load_changed(entry.server, now)
        for entry in changes.notes:
            entry.pool.catch_up(entry.server, now)

    def recount(self, pool: SharingPool, server: Server) -> bool:
        """Count the leases of `server` as of this moment; whether the others gave or released some since the last look."""
        before = server.active
        entry = self._entries[pool.name].get(server)
        for reading, place in () if entry is None else entry.elsewhere:
            server.active += reading.recount(place)
        return server.active != before

    def _enter(self, pool: SharingPool, server: Server) -> _Entry | None:
        """Give it a place, if there is one."""
        if self._free:
            place = self._free.pop()
        elif self._taken < len(self._row.leases):
            place, self._taken = self._taken, self._taken + 1
        else:
            return None
        entry = _Entry(pool, server, self._row, place)
        entry.publish(server.health.note)
        server.health.shared = entry
        cell = self._row.leases[place : place + 1]
        cell[0] = server.held[0]
        server.held = cell
        return entry

    def _name(self, entry: _Entry, key: int) -> None:
        if entry.key != key:
            self._unname(entry)
            entry.key = key
            self._row.take(entry.place, key)
        self._known[key] = entry

    def _unname(self, entry: _Entry) -> None:
        if self._known.get(entry.key) is entry:
            del self._known[entry.key]

    def _leave(self, entry: _Entry) -> None:
        self._unname(entry)
        entry.server.health.shared = None
        entry.server.held = [0]
        self._row.leave(entry.place)
        self._free.append(entry.place)


def _keys(pool: str, servers: Iterable[Server]) -> Iterator[int]:
    """What stands for each of them in the rows; 0 does for nobody."""
    lines: Counter[str] = Counter()
    for server in servers:
        text = f"{pool}\0{server.name}\0{lines[server.name]}"
        lines[server.name] += 1
        yield int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True) or 1
