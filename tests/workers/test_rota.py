"""pylb.workers.rota."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.workers.rota import Change, Rota


def serve(worker: int, row: int) -> Change:
    return Change(worker, True, row)


def leave(worker: int, row: int) -> Change:
    return Change(worker, False, row)


class RotaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rota = Rota()

    def came(self, *workers: int) -> list[Change]:
        """What follows from the last of these."""
        return [self.rota.came(worker) for worker in workers][-1]

    def test_start(self) -> None:
        """Those that come first do not serve for those that are still on their way."""
        self.assertEqual([self.came(worker) for worker in (2, 1, 3)], [[], [], []])

    def test_one_goes(self) -> None:
        """Somebody else serves its sockets, until it comes back."""
        self.came(1, 2)
        self.assertEqual(self.rota.went(1), [serve(2, 1)])
        self.assertEqual(self.rota.came(1), [leave(2, 1)])

    def test_fair(self) -> None:
        """Who has fewest rows gets the next."""
        self.came(1, 2, 3, 4)
        self.assertEqual(self.rota.went(4), [serve(1, 4)])
        self.assertEqual(self.rota.went(3), [serve(2, 3)])

    def test_substitute_goes(self) -> None:
        """All that it served is handed on, each to somebody."""
        self.came(1, 2, 3)
        self.rota.went(1)
        self.assertEqual(self.rota.went(2), [serve(3, 1), serve(3, 2)])
        self.assertEqual(self.rota.came(1), [leave(3, 1)])
        self.assertEqual(self.rota.came(2), [leave(3, 2)])

    def test_all_go(self) -> None:
        """The first that is back serves everything."""
        self.came(1, 2)
        self.rota.went(1)
        self.assertEqual(self.rota.went(2), [])
        self.assertEqual(self.rota.came(2), [serve(2, 1)])
        self.assertEqual(self.rota.came(1), [leave(2, 1)])

    def test_goes_before_it_came(self) -> None:
        """A successor that ends before it serves changes nothing."""
        self.came(1, 2)
        self.rota.went(1)
        self.assertEqual(self.rota.went(1), [])
        self.assertEqual(self.rota.came(1), [leave(2, 1)])
