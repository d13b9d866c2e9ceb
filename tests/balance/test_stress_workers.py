"""Everything happens to workers that share their servers: a storm at each (tests.balance.test_stress), and deaths."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.colleagues import Colleagues
from pylb.balance.methods import maglev, places
from pylb.balance.scoreboard import Scoreboard
from pylb.model import Balance
from tests.balance.test_stress import BALANCES, STEPS, Storm

WORKERS = 3


class Storms:
    """Workers, each with a pool of its own choice among the same six addresses."""

    def __init__(self, seed: int, balance: Balance, room: int) -> None:
        self.random, self.balance = Random(seed), balance
        memory = memoryview(bytearray(Scoreboard.size(WORKERS, room)))
        self.clock = Clock()
        self.board = Scoreboard.lay_out(memory, WORKERS, room)
        self.workers = [self.start(row) for row in range(WORKERS)]

    def start(self, row: int) -> Storm:
        return Storm(self.random.randrange(1 << 30), self.balance, None, self.clock, Colleagues(self.board, row))

    def step(self) -> None:
        row, what = self.random.randrange(WORKERS), self.random.choice((*STEPS, "look", "die"))
        if what == "die":
            self.board.rows[row].clear()
            if self.random.random() < 0.5:
                self.look()
            self.workers[row] = self.start(row)
        elif what == "look":
            self.look()
            self.check()
        else:
            self.workers[row].step(what)
            self.workers[row].check()

    def look(self) -> None:
        """All of them, so often that each knows what another has learned from the third."""
        for worker in self.workers * 2:
            assert worker.colleagues is not None
            worker.colleagues.look(self.clock.seconds())

    def check(self) -> None:
        """Everybody counts the leases of all, and knows the same of a server's failures."""
        for number in range(6):
            shared = [
                server for worker in self.workers if (server := worker.everybody[number]).health.shared is not None
            ]
            total = sum(server.held[0] for server in shared)
            assert [server.active for server in shared] == [total] * len(shared), shared
            assert len({(server.health.epoch, server.health.fails) for server in shared}) <= 1, shared
        for worker in self.workers:
            alone = [server for server in worker.everybody if server.health.shared is None]
            assert all(server.active == server.held[0] for server in alone), alone
            worker.check()


class StormTests(SynchronousTestCase):
    @given(seed=st.integers(0), balance=st.sampled_from(BALANCES), room=st.sampled_from((3, 6)))
    @settings(deadline=None, max_examples=60)
    def test_storm(self, seed: int, balance: Balance, room: int) -> None:
        """Whatever they do, in whatever order: once all have looked, all know the same."""
        self.patch(places, "LONG", 100)
        self.patch(maglev, "SLOTS", 251)
        storms = Storms(seed, balance, room)
        for _ in range(200):
            storms.step()
        storms.look()
        storms.check()
