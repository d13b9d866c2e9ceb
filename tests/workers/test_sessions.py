"""pylb.workers.sessions."""

from __future__ import annotations

import json
from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.sticky import Learned, LearnedSessions
from pylb.model import Config, PoolSpec, StickyCookie, StickyLearn
from pylb.workers.sessions import BATCH, LAG, MOST, Item, News, hear, tables, told

LEARN = StickyLearn(create=("$remote_addr",), lookup=("$remote_addr",), size=100_000)


def learned(number: int, when: float = 1.0, bound: bool = True) -> Learned:
    return Learned(number.to_bytes(16, "big"), "10.0.0.1:80", when, bound)


class NewsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[list[Item]] = []
        self.stuck = False
        self.news = News(self.send, self.clock)
        self.table = LearnedSessions(LEARN)
        self.news.gather({"p": self.table})

    def send(self, items: list[Item]) -> bool:
        if not self.stuck:
            self.sent.append(items)
        return not self.stuck

    def tell(self, *more: Learned) -> None:
        for each in more:
            self.table.tell(each)

    def test_batch(self) -> None:
        """What comes within a moment goes together, and only once."""
        self.tell(learned(1), learned(2))
        self.assertEqual(self.sent, [])
        self.clock.advance(LAG)
        session = learned(1).session.hex()
        self.assertEqual([len(batch) for batch in self.sent], [2])
        self.assertEqual(self.sent[0][0], ("p", session, "10.0.0.1:80", 1.0, True))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.tell(learned(3))
        self.clock.advance(LAG)
        self.assertEqual([len(batch) for batch in self.sent], [2, 1])

    def test_last_of_a_session(self) -> None:
        """What is out of date already is not sent."""
        self.tell(learned(1), learned(1, 2.0, False), learned(1, 3.0))
        self.clock.advance(LAG)
        self.assertEqual([[(item[3], item[4]) for item in batch] for batch in self.sent], [[(3.0, True)]])

    def test_many(self) -> None:
        """Go in several batches."""
        self.tell(*(learned(number) for number in range(BATCH + 1)))
        self.clock.pump([LAG] * 3)
        self.assertEqual([len(batch) for batch in self.sent], [BATCH, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stuck(self) -> None:
        """What cannot be sent waits, up to a number; those that wait already are kept up to date."""
        self.stuck = True
        for number in range(MOST + 5):
            self.tell(learned(number))
        self.tell(learned(0, 2.0))
        self.clock.advance(LAG)
        self.stuck = False
        self.clock.pump([LAG] * (MOST // BATCH + 1))
        self.assertEqual(sum(map(len, self.sent)), MOST)
        self.assertEqual(self.sent[0][0][3], 2.0)

    def test_stop(self) -> None:
        """What waits is sent, and no call is left."""
        self.news.stop()
        self.tell(learned(1))
        self.news.stop()
        self.assertEqual([len(batch) for batch in self.sent], [1])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TableTests(SynchronousTestCase):
    def test_who_learns(self) -> None:
        """Pools that have a table, and no others."""
        specs = {"p": LEARN, "q": StickyCookie(name="c"), "r": None}
        pools = {name: PoolSpec(name=name, servers=(), sticky=sticky) for name, sticky in specs.items()}
        self.assertEqual(list(tables(Config(pools=pools, listeners={}))), ["p"])

    def config(self, **learners: StickyLearn) -> Config:
        pools = {name: PoolSpec(name=name, servers=(), sticky=sticky) for name, sticky in learners.items()}
        return Config(pools=pools, listeners={})

    def test_before(self) -> None:
        """Tables begin with what those of the same names have learned, as far as there is room; those stay as they are."""
        known = [learned(number, float(number)) for number in range(3)]
        before = {name: self.filled(*known) for name in ("p", "gone")}
        after = tables(self.config(p=replace(LEARN, size=2), new=LEARN), before)
        self.assertEqual({name: list(table.learned()) for name, table in after.items()}, {"p": known[1:], "new": []})
        self.assertEqual([list(table.learned()) for table in before.values()], [known] * 2)

    def test_unknown_pools(self) -> None:
        """What belongs to a pool that is not here, or learns nothing here, is passed over; the rest is heard."""
        here = tables(self.config(p=LEARN))
        item = told({"p": self.filled(learned(1))})
        hear(here, [("gone", "aa", "10.0.0.1:80", 1.0, True), *item])
        self.assertEqual({name: list(table.learned()) for name, table in here.items()}, {"p": [learned(1)]})

    def filled(self, *known: Learned) -> LearnedSessions:
        table = LearnedSessions(LEARN)
        for each in known:
            table.hear(each)
        return table

    def test_to_and_fro(self) -> None:
        """All that is known arrives, by way of JSON."""
        config = Config(pools={"p": PoolSpec(name="p", servers=(), sticky=LEARN)}, listeners={})
        here, there = tables(config), tables(config)
        known = [learned(number, float(number)) for number in range(1, 4)]
        for each in known:
            here["p"].hear(each)
        hear(there, json.loads(json.dumps(list(told(here)))))
        self.assertEqual(list(there["p"].learned()), known)
