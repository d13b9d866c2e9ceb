"""What do the workers tell one another, and where does it stand?

In cells of memory that all of them map:

- Each cell has one writer, so none is locked: a worker writes its own row and nobody else's.  Readers add up what the rows
  say, or take the greatest.
- Cells are 8 bytes, aligned, in the machine's own order, and written in one go: none is read half written.
- Whoever starts the workers makes the memory, lays it out, and clears the row of one that has died before the next one
  writes there.
- A worker gives its servers places in its own row as they come, and writes a key beside each.  So rows agree on the servers
  that they share, though a host name may stand for other addresses at each of them, and for others later.

The layout, version 1; q is a signed integer, d a double:

    header    q magic, q version, q rows, q places; 4 cells are 0
    then each row:
        head      d heartbeat, q places in use; 6 cells are 0
        leases    for each place: q leases that the worker holds
        records   for each place: q key (0: nobody is there), q epoch, q cleared, q fails, d failed_at, d retry_at (these
                  five are its note, see pylb.balance.health); q kept for the operator's switch; 1 cell is 0

Times are those of the system's monotonic clock, which is the same for all processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress, count
from operator import ne
from struct import Struct
from typing import Final

from pylb.balance.health import Note
from pylb.model import PoolSpec

__all__ = ["VERSION", "Reading", "Row", "Scoreboard", "places_for"]

VERSION: Final = 1
_MAGIC: Final = int.from_bytes(b"pylb row", "big")
_CELL: Final = 8
#: Bytes of the header and of the head of a row; bytes of a record.
_HEAD: Final = 64
_RECORD: Final = 64
#: Bytes that are compared at once.
_BLOCK: Final = 1024
#: Addresses for which there is room if a server is given by a host name.
_OF_A_NAME: Final = 16

_one = Struct("q")
_header = Struct("qqqq")
_note = Struct("qqqdd")


def places_for(pools: Iterable[PoolSpec]) -> int:
    """How many places a row needs.  Servers beyond that, of names with many addresses, are not shared."""
    servers = (server for pool in pools for server in pool.servers)
    return max(1, sum(1 if server.address.is_literal else _OF_A_NAME for server in servers))


def _row_size(places: int) -> int:
    return _HEAD + places * (_CELL + _RECORD)


class Scoreboard:
    """All rows, in memory that was laid out; raises ValueError if it was not, or by another version."""

    def __init__(self, memory: memoryview) -> None:
        memory = memory.cast("B")
        if len(memory) < _HEAD:
            raise ValueError(f"no scoreboard: {len(memory)} bytes are too few")
        magic, version, rows, places = _header.unpack_from(memory)
        if magic != _MAGIC:
            raise ValueError("no scoreboard: it does not begin as one does")
        if version != VERSION:
            raise ValueError(f"a scoreboard of version {version}, not {VERSION}: start all processes anew")
        if len(memory) < self.size(rows, places):
            raise ValueError(f"{len(memory)} bytes are too few for a scoreboard of {rows} rows of {places} places")
        size = _row_size(places)
        starts = range(_HEAD, _HEAD + rows * size, size)
        #: One for each worker.
        self.rows = [Row(memory[start : start + size], places) for start in starts]

    @staticmethod
    def size(rows: int, places: int) -> int:
        """How many bytes of memory it takes."""
        return _HEAD + rows * _row_size(places)

    @classmethod
    def lay_out(cls, memory: memoryview, rows: int, places: int) -> Scoreboard:
        """A new one in memory that is all zero."""
        _header.pack_into(memory, 0, _MAGIC, VERSION, rows, places)
        return cls(memory)


class Row:
    """What one worker tells the others."""

    __slots__ = ("_heartbeat", "_memory", "_records", "_used", "keys", "leases")

    def __init__(self, memory: memoryview, places: int) -> None:
        records = _HEAD + places * _CELL
        self._memory = memory
        self._heartbeat = memory[:_CELL].cast("d")
        self._used = memory[_CELL : 2 * _CELL].cast("q")
        self._records = memory[records:]
        #: Of each place: the leases that are held, and the key of the server.
        self.leases = memory[_HEAD:records].cast("q")
        self.keys = self._records.cast("q")[:: _RECORD // _CELL]

    @property
    def heartbeat(self) -> float:
        """The moment at which the worker was last seen alive, in seconds; 0.0 before the first."""
        return self._heartbeat[0]

    @heartbeat.setter
    def heartbeat(self, now: float) -> None:
        self._heartbeat[0] = now

    @property
    def used(self) -> int:
        """How many places were ever taken, even in former lives of the worker."""
        return self._used[0]

    def take(self, place: int, key: int) -> None:
        """The server of that key is in that place from now on."""
        self._used[0] = max(self.used, place + 1)
        self.keys[place] = key

    def leave(self, place: int) -> None:
        """Nobody is in that place any more."""
        self.leases[place] = 0
        self._records[place * _RECORD : (place + 1) * _RECORD] = bytes(_RECORD)

    def note(self, place: int) -> Note:
        """What the worker knows of the failures of the server in that place."""
        return Note(*_note.unpack_from(self._records, place * _RECORD + _CELL))

    def write(self, place: int, note: Note) -> None:
        """Let the others know."""
        _note.pack_into(self._records, place * _RECORD + _CELL, *note)

    def cells_of_leases(self) -> memoryview:
        """Those of all places in use, as bytes."""
        return self._memory[_HEAD : _HEAD + self.used * _CELL]

    def cells_of_records(self) -> memoryview:
        """Those of all places in use, as bytes."""
        return self._records[: self.used * _RECORD]

    def clear(self) -> None:
        """Forget what a worker that has died has told; nobody may write here meanwhile."""
        self._heartbeat[0] = 0.0
        self._memory[_HEAD:] = bytes(len(self._memory) - _HEAD)


class Reading:
    """A row, and what was read there last: at first, nothing."""

    __slots__ = ("_leases", "_records", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        # A bytearray compares itself with other memory without a copy, and at once.
        self._leases = bytearray()
        self._records = bytearray()

    def leases(self, place: int) -> int:
        """The leases in that place when they were read last."""
        return _cell(self._leases, place) if place * _CELL < len(self._leases) else 0

    def recount(self, place: int) -> int:
        """How many more leases there are in that place, which was read before."""
        now = self.row.leases[place]
        more = now - self.leases(place)
        _one.pack_into(self._leases, place * _CELL, now)
        return more

    def read_leases(self) -> Iterable[tuple[int, int]]:
        """The places where the number of leases has changed, and by how much."""
        if self._leases == (cells := self.row.cells_of_leases()):
            return []
        old, self._leases = self._leases, bytearray(cells)
        old = old.ljust(len(self._leases), b"\0")
        return [(place, _cell(self._leases, place) - _cell(old, place)) for place in _differences(old, self._leases)]

    def read_records(self) -> Iterable[int]:
        """The places where the key or the note has changed."""
        if self._records == (cells := self.row.cells_of_records()):
            return []
        old, self._records = self._records, bytearray(cells)
        old = old.ljust(len(self._records), b"\0")
        return {cell * _CELL // _RECORD for cell in _differences(old, self._records)}


def _cell(cells: bytearray, number: int) -> int:
    value: int = _one.unpack_from(cells, number * _CELL)[0]
    return value


def _differences(old: bytearray, new: bytearray) -> Iterator[int]:
    """Which cells of the two differ."""
    for start in range(0, len(new), _BLOCK):
        before, after = old[start : start + _BLOCK], new[start : start + _BLOCK]
        if before != after:
            different = map(ne, memoryview(before).cast("q"), memoryview(after).cast("q"))
            yield from compress(count(start // _CELL), different)
