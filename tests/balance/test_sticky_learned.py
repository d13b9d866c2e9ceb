"""pylb.balance.sticky: what several workers learn of sessions, and hear of one another."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.sticky import Learned, LearnedSessions
from pylb.model import StickyLearn
from tests.balance.fakes import make_servers
from tests.balance.test_sticky import Asks

SPEC = StickyLearn(create=("$arg_s",), lookup=("$arg_s",), timeout=100.0, size=3)


class Workers(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = make_servers(1, 1)
        self.a, self.b = self.servers
        #: What each tells, still on its way to the other.
        self.told: list[list[Learned]] = [[], []]
        self.tables = [self.table(told) for told in self.told]

    def table(self, told: list[Learned]) -> LearnedSessions:
        table = LearnedSessions(SPEC)
        table.use(self.servers)
        table.tell = told.append
        return table

    def arrive(self, order: Iterable[int] = (0, 1)) -> None:
        for number in order:
            for learned in self.told[number]:
                self.tables[1 - number].hear(learned)
            self.told[number].clear()

    def bound(self, session: str = "7", now: float = 50.0) -> list[list[str]]:
        """The servers of a session, as each worker sees it."""
        return [[server.name for server in table.bound(Asks(arg_s=session), now)] for table in self.tables]


class HearTests(Workers):
    def test_bound(self) -> None:
        """A session that is new at one is known at the other, which does not tell it again."""
        self.tables[0].bind(Asks(arg_s="7"), self.a, 1.0)
        self.arrive()
        self.assertEqual(self.bound(), [[self.a.name]] * 2)
        self.assertEqual(self.told, [[], []])

    def test_moved_and_forgotten(self) -> None:
        self.tables[0].bind(Asks(arg_s="7"), self.a, 1.0)
        self.arrive()
        self.tables[1].bind(Asks(arg_s="7"), self.b, 2.0)
        self.arrive()
        self.assertEqual(self.bound(), [[self.b.name]] * 2)
        self.tables[0].forget(Asks(arg_s="7"), self.b)
        self.arrive()
        self.assertEqual(self.bound(), [[], []])

    def test_forgotten_too_late(self) -> None:
        """What was told of before it was used again does not take it away; nor what is told of another server."""
        self.tables[0].bind(Asks(arg_s="7"), self.a, 1.0)
        self.arrive()
        self.tables[0].forget(Asks(arg_s="7"), self.a)
        self.tables[1].bind(Asks(arg_s="7"), self.a, 2.0)
        self.tables[1].hear(self.told[0][0]._replace(server=self.b.name, when=9.0))
        self.arrive([0])
        self.assertEqual(self.bound()[1], [self.a.name])

    def test_at_the_same_time(self) -> None:
        """Whoever has used it last is right, in whatever order the workers hear."""
        for moments in ((1.0, 2.0), (2.0, 1.0), (1.0, 1.0)):
            for order in ((0, 1), (1, 0)):
                self.setUp()
                for table, server, now in zip(self.tables, self.servers, moments, strict=True):
                    table.bind(Asks(arg_s="7"), server, now)
                self.arrive(order)
                one, other = self.bound()
                self.assertEqual(one, other)
                if moments[0] != moments[1]:
                    self.assertEqual(one, [self.servers[moments.index(2.0)].name])

    def test_used_still(self) -> None:
        """Is told now and then, so that it ends nowhere while it is used somewhere; not each time."""
        for now in range(0, 300, 5):
            self.tables[0].bind(Asks(arg_s="7"), self.a, float(now))
        self.assertLess(len(self.told[0]), 15)
        self.arrive()
        self.assertEqual(self.bound(now=360.0), [[self.a.name]] * 2)

    def test_size(self) -> None:
        """What is heard takes the place of what was used least recently."""
        for number in range(5):
            self.tables[0].bind(Asks(arg_s=str(number)), self.a, float(number))
        self.arrive()
        self.assertEqual([len(table) for table in self.tables], [3, 3])
        self.assertEqual([self.bound(str(number))[1] != [] for number in range(5)], [False, False, True, True, True])

    def test_learned(self) -> None:
        """All that one knows makes another one know the same."""
        for number in range(4):
            self.tables[0].bind(Asks(arg_s=str(number)), self.servers[number % 2], float(number))
        for learned in self.tables[0].learned():
            self.tables[1].hear(learned)
        self.assertEqual(*([*table.learned()] for table in self.tables))
        self.assertEqual(len(self.tables[1]), 3)

    @given(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from("xyz"), st.sampled_from([0, 1])), max_size=30))
    def test_they_agree(self, steps: list[tuple[int, str, int]]) -> None:
        """Once all has arrived, whatever was bound where, on whichever way it was."""
        self.setUp()
        for now, (worker, session, server) in enumerate(steps):
            self.tables[worker].bind(Asks(arg_s=session), self.servers[server], float(now))
            if not now % 7:
                self.arrive()
        while any(self.told):
            self.arrive()
        for session in "xyz":
            one, other = self.bound(session)
            self.assertEqual(one, other)
