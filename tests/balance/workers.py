"""Workers that share pools, in one process and on one clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from pylb.balance.colleagues import Colleagues
from pylb.balance.scoreboard import Scoreboard
from pylb.balance.server import Server
from tests.balance.fakes import Bench


class Workers:
    """So many workers; `make` makes the servers of each."""

    def __init__(self, make: Callable[[], list[Server]], count: int = 2, places: int = 8, **asked: Any) -> None:
        self.make, self.asked = make, asked
        self.clock = Clock()
        memory = memoryview(bytearray(Scoreboard.size(count, places)))
        self.board = Scoreboard.lay_out(memory, count, places)
        self.colleagues: list[Colleagues] = []
        self.benches: list[Bench] = []
        for row in range(count):
            self.start(row)

    def start(self, row: int) -> Bench:
        """The first worker of that row, or the next one."""
        colleagues = Colleagues(self.board, row)
        bench = Bench(*self.make(), clock=self.clock, colleagues=colleagues, **self.asked)
        self.colleagues[row : row + 1] = [colleagues]
        self.benches[row : row + 1] = [bench]
        return bench

    def look(self) -> None:
        """All of them, twice: what one learns from the second it tells the first."""
        for colleagues in self.colleagues * 2:
            colleagues.look(self.clock.seconds())

    def active(self, letter: str = "a") -> list[int]:
        """How many leases of that server each worker counts."""
        return [bench.server(letter).active for bench in self.benches]
