from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.config.mistakes import ConfigError, Mistake, dotted


class Mistakes(SynchronousTestCase):
    def test_text(self) -> None:
        """Where, at what, and what is wrong; parts that there are not are left out."""
        for mistake, text in [
            (Mistake("lb.yaml", 12, 7, "pools.b", "wrong"), "lb.yaml:12:7: pools.b: wrong"),
            (Mistake("lb.yaml", 1, 1, "", "the file is empty"), "lb.yaml:1:1: the file is empty"),
            (Mistake("dict", 0, 0, "pools.b", "wrong"), "dict: pools.b: wrong"),
            (Mistake("lb.yaml", 0, 0, "", "cannot be read"), "lb.yaml: cannot be read"),
        ]:
            self.assertEqual(text, str(mistake))

    def test_error(self) -> None:
        """An error is one line a mistake, and has them."""
        mistakes = [Mistake("a", 1, 2, "b", "c"), Mistake("d", 3, 4, "", "e")]
        error = ConfigError(mistakes)
        self.assertEqual("a:1:2: b: c\nd:3:4: e", str(error))
        self.assertEqual(tuple(mistakes), error.mistakes)

    def test_path(self) -> None:
        """A path is written with dots; strange steps of it are quoted."""
        self.assertEqual('pools."a\\nb".servers.0', dotted(("pools", "a\nb", "servers", 0)))
