from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.loads import make_loads

README = Path(__file__).resolve().parents[2] / "bench" / "README.md"


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.loads = make_loads(Path())

    def test_names(self) -> None:
        """Each has a name of its own, which README.md explains."""
        names = [load.name for load in self.loads]
        text = README.read_text(encoding="utf-8")
        self.assertEqual(len(set(names)), len(names))
        self.assertEqual([name for name in names if f"`{name}`" not in text], [])

    def test_limits(self) -> None:
        """What is hoped for is better than what must be."""
        self.assertEqual([load.name for load in self.loads if not 0 < load.hope < load.must], [])
