from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from bench import stays
from bench.stays import Sample, errors, exceptions, findings, settled, thirds

LOG = """\
2026-01-02T03:04:05+0000 [pylb.service#info] pylb serves
2026-01-02T03:04:06+0000 [pylb.fortunes#error] pool backend refuses clients
2026-01-02T03:04:07+0000 [-] Unhandled Error
\tTraceback (most recent call last):
\t  File "x.py", line 1, in f
\tbuiltins.ZeroDivisionError: division by zero
2026-01-02T03:04:08+0000 [pylb.fortunes#error] pool backend refuses clients
2026-01-02T03:04:09+0000 [-] Unhandled Error
\tTraceback (most recent call last):
\t  File "x.py", line 1, in f
\tbuiltins.ZeroDivisionError: division by zero
"""


def sample(memory: int = 1, **descriptors: int) -> Sample:
    return Sample(memory, Counter(descriptors or {"socket": 5}))


class Falling:
    """A program with fewer sockets each time it is asked."""

    def __init__(self, sockets: int) -> None:
        self.sockets = sockets

    def memory(self) -> int:
        return 1

    def descriptors(self) -> Counter[str]:
        self.sockets -= 1
        return Counter(socket=self.sockets, pipe=9)


class LogTests(SynchronousTestCase):
    def test_exceptions(self) -> None:
        """An entry with a traceback is told whole, without its time, and once."""
        [entry] = exceptions(LOG)
        self.assertTrue(entry.startswith("[-] Unhandled Error\n\tTraceback"), entry)
        self.assertTrue(entry.endswith("division by zero"), entry)

    def test_errors(self) -> None:
        """The same error is counted, whenever it was."""
        self.assertEqual(errors(LOG), {"[pylb.fortunes#error] pool backend refuses clients": 2})

    def test_nothing(self) -> None:
        self.assertEqual((exceptions(""), errors("")), ([], {}))


class FindingsTests(SynchronousTestCase):
    def find(self, before=None, samples=None, after=None, wrong=(), log="") -> list[str]:
        flat = [sample()]
        return findings(before or sample(), samples or flat, after or sample(), wrong, log)

    def test_nothing(self) -> None:
        """All is as it was; pipes may have become more, and sockets fewer."""
        self.assertEqual(self.find(after=sample(socket=4, pipe=30)), [])

    def test_descriptors(self) -> None:
        """Of each kind no more may be open than before."""
        found = self.find(sample(socket=5, file=2), after=sample(socket=4, file=3))
        self.assertEqual(found, ["descriptors stay open: {'file': 1}"])

    def test_memory(self) -> None:
        """It may grow by a tenth and 4 MB, from the median of the first third to that of the last."""
        most = round(100e6 * stays.GROWTH + stays.SLACK)
        for last, count in ((most, 0), (most + 1_000_000, 1)):
            samples = [sample(size) for size in (100_000_000,) * 3 + (500_000_000,) * 3 + (last, 1, last)]
            self.assertEqual(len(self.find(samples=samples)), count)

    def test_the_rest(self) -> None:
        """Wrong answers, exceptions, and a program that has ended."""
        found = self.find(after=Sample(0, Counter()), wrong=["tcp: x"], log=LOG)
        self.assertEqual(
            [line.partition(":")[0] for line in found],
            ["an answer is wrong", "the program has ended", "the log tells of an exception"],
        )


class SettledTests(SynchronousTestCase):
    def test_waits(self) -> None:
        """What is idle is waited for, as long as it takes."""
        self.assertEqual(settled(Falling(8), sample(socket=5), 0.0).descriptors["socket"], 5)

    def test_in_vain(self) -> None:
        """But not for ever."""
        self.patch(stays, "_SETTLES", 0.0)
        self.assertEqual(settled(Falling(8), sample(socket=5), 0.0).descriptors["socket"], 7)


class ThirdsTests(SynchronousTestCase):
    def test_medians(self) -> None:
        self.assertEqual(thirds([1, 2, 9, 0, 0, 0, 5, 6, 99]), (2, 6))

    def test_few(self) -> None:
        """One value is both."""
        self.assertEqual(thirds([7]), (7, 7))
