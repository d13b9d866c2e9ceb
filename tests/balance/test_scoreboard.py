"""Tests of pylb.balance.scoreboard."""

from __future__ import annotations

from math import inf
from struct import pack_into, unpack_from

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.health import Note
from pylb.balance.scoreboard import Scoreboard, places_for
from pylb.model import InetAddress, PoolSpec, ServerSpec, UnixAddress

NOTE = Note(epoch=3, cleared=1, fails=2, failed_at=7.5, retry_at=17.5)


def memory(rows: int = 2, places: int = 3) -> memoryview:
    """Memory of the right size, all zero."""
    return memoryview(bytearray(Scoreboard.size(rows, places)))


class LayoutTests(SynchronousTestCase):
    """The cells are where the documentation says: another version of pylb, or another program, may read them."""

    def setUp(self) -> None:
        self.memory = memory()
        self.board = Scoreboard.lay_out(self.memory, 2, 3)
        #: Where the second row begins.
        self.row = 64 + (64 + 3 * 8 + 3 * 64)

    def test_header(self) -> None:
        """It begins with magic, version, rows and places."""
        self.assertEqual(self.memory[:8].tobytes()[::-1], b"pylb row")
        self.assertEqual(unpack_from("qqqqqqq", self.memory, 8), (1, 2, 3, 0, 0, 0, 0))

    def test_size(self) -> None:
        """The last row ends where the memory does."""
        self.assertEqual(len(self.memory), self.row + 64 + 3 * 8 + 3 * 64)

    def test_head(self) -> None:
        """A row begins with its heartbeat and how many places are in use."""
        self.board.rows[1].heartbeat = 1.5
        self.board.rows[1].take(1, key=9)
        self.assertEqual(unpack_from("dqqqqqqq", self.memory, self.row), (1.5, 2, 0, 0, 0, 0, 0, 0))

    def test_leases(self) -> None:
        """Then come the leases of each place."""
        self.board.rows[1].leases[2] = 5
        self.assertEqual(unpack_from("qqq", self.memory, self.row + 64), (0, 0, 5))

    def test_records(self) -> None:
        """Then, for each place, the key and the note."""
        self.board.rows[1].take(1, key=-9)
        self.board.rows[1].write(1, NOTE)
        where = self.row + 64 + 3 * 8 + 64
        self.assertEqual(unpack_from("qqqqddqq", self.memory, where), (-9, *NOTE, 0, 0))

    def test_shared(self) -> None:
        """Whoever maps the same memory reads what was written."""
        mine, theirs = self.board.rows[1], Scoreboard(self.memory).rows[1]
        mine.heartbeat = 2.5
        mine.take(2, key=9)
        mine.leases[2] = 5
        mine.write(2, NOTE)
        read = (theirs.heartbeat, theirs.used, theirs.keys[2], theirs.leases[2], theirs.note(2))
        self.assertEqual(read, (2.5, 3, 9, 5, NOTE))

    def test_rows_are_apart(self) -> None:
        """What is written to all cells of a row is in no other."""
        row = self.board.rows[0]
        row.heartbeat = 1.0
        for place in range(3):
            row.take(place, key=-1)
            row.leases[place] = -1
            row.write(place, Note(-1, -1, -1, inf, inf))
        self.assertEqual(self.memory[self.row :].tobytes(), bytes(len(self.memory) - self.row))


class RefusedTests(SynchronousTestCase):
    """Memory that is no scoreboard of this version is refused before anything is read from it."""

    def refusal(self, memory: memoryview) -> str:
        return str(self.assertRaises(ValueError, Scoreboard, memory))

    def test_zero(self) -> None:
        """It was not laid out."""
        self.assertEqual(self.refusal(memory()), "no scoreboard: it does not begin as one does")

    def test_foreign(self) -> None:
        """It is something else."""
        self.assertEqual(self.refusal(memoryview(b"\x7fELF" * 100)), "no scoreboard: it does not begin as one does")

    def test_nothing(self) -> None:
        """It is too short for the header."""
        self.assertEqual(self.refusal(memoryview(bytes(63))), "no scoreboard: 63 bytes are too few")

    def test_version(self) -> None:
        """It is of another version."""
        cells = memory()
        Scoreboard.lay_out(cells, 2, 3)
        pack_into("q", cells, 8, 2)
        self.assertEqual(self.refusal(cells), "a scoreboard of version 2, not 1: start all processes anew")

    def test_torn(self) -> None:
        """It is shorter than its header says."""
        cells = memory()
        Scoreboard.lay_out(cells, 2, 3)
        refusal = self.refusal(cells[:-1])
        self.assertEqual(refusal, "623 bytes are too few for a scoreboard of 2 rows of 3 places")


class RowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rows = Scoreboard.lay_out(memory(), 2, 3).rows
        for row in self.rows:
            row.heartbeat = 1.0
            row.take(1, key=9)
            row.leases[1] = 4
            row.write(1, NOTE)

    def seen(self, row: int) -> tuple[object, ...]:
        cells = self.rows[row]
        return cells.heartbeat, cells.keys[1], cells.leases[1], cells.note(1)

    def test_cleared(self) -> None:
        """Of a worker that died nothing is left; the others' rows are as they were."""
        self.rows[0].clear()
        self.assertEqual(self.seen(0), (0.0, 0, 0, Note(0, 0, 0, 0.0, 0.0)))
        self.assertEqual(self.seen(1), (1.0, 9, 4, NOTE))

    def test_cleared_is_seen(self) -> None:
        """Who reads the places in use sees them empty: they are in use as before."""
        before = len(self.rows[0].cells_of_leases()), len(self.rows[0].cells_of_records())
        self.rows[0].clear()
        self.assertEqual((len(self.rows[0].cells_of_leases()), len(self.rows[0].cells_of_records())), before)

    def test_left(self) -> None:
        """A place that was left holds nothing, those beside it what they held."""
        for place in (0, 2):
            self.rows[0].take(place, key=place + 1)
            self.rows[0].leases[place] = 7
        self.rows[0].leave(1)
        self.assertEqual(self.seen(0), (1.0, 0, 0, Note(0, 0, 0, 0.0, 0.0)))
        self.assertEqual((self.rows[0].keys.tolist(), self.rows[0].leases.tolist()), ([1, 0, 3], [7, 0, 7]))

    def test_in_use(self) -> None:
        """Who reads the others reads only the places that were ever taken."""
        self.assertEqual((len(self.rows[0].cells_of_leases()), len(self.rows[0].cells_of_records())), (2 * 8, 2 * 64))
        self.rows[0].leave(1)
        self.rows[0].take(0, key=3)
        self.assertEqual(self.rows[0].used, 2)


class PlacesTests(SynchronousTestCase):
    def places(self, *addresses: InetAddress | UnixAddress) -> int:
        servers = tuple(ServerSpec(address=address) for address in addresses)
        return places_for([PoolSpec(name=name, servers=servers) for name in ("one", "two")])

    def test_addresses(self) -> None:
        """One for each server of each pool."""
        self.assertEqual(self.places(InetAddress("10.0.0.1", 80), InetAddress("::1", 80), UnixAddress("/a.sock")), 6)

    def test_names(self) -> None:
        """A host name may stand for several addresses."""
        self.assertEqual(self.places(InetAddress("10.0.0.1", 80), InetAddress("app.example.com", 80)), 2 * 17)

    def test_none(self) -> None:
        """A scoreboard has a place even if there are no servers."""
        self.assertEqual(places_for([]), 1)
