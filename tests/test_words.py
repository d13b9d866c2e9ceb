from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.words import did_you_mean, one_line, quoted, quoted_path, raised, said


class Words(SynchronousTestCase):
    def test_suggestion(self) -> None:
        """The nearest known word is suggested, if any is near."""
        self.assertEqual(', did you mean "weight"?', did_you_mean("wieght", ["weight", "height"]))
        self.assertEqual("", did_you_mean("colour", ["weight"]))
        self.assertEqual("", did_you_mean(5, ["5"]))

    def test_one_line(self) -> None:
        """What was written cannot break a message into lines, nor make it endless; paths are whole."""
        self.assertEqual('"a\\nb\\u001b[0m"', quoted("a\nb\x1b[0m"))
        self.assertEqual('"\u00e9"', quoted("\u00e9"))
        self.assertEqual('"' + "x" * 60 + '..."', quoted("x" * 61))
        self.assertEqual('"/' + "x" * 200 + '"', quoted_path("/" + "x" * 200))

    def test_others(self) -> None:
        """What somebody else says stays readable, but is one line that nothing can be hidden in."""
        self.assertEqual('caf\u00e9 "10 %" \\ \u65e5\u672c', one_line('caf\u00e9 "10 %" \\ \u65e5\u672c'))
        self.assertEqual("a\\r\\nb\\x1b[2J\\x00\\u2028\\u202e\\udc80", one_line("a\r\nb\x1b[2J\0\u2028\u202e\udc80"))
        self.assertEqual(["x" * 300, "x" * 300 + "..."], [one_line("x" * length) for length in (300, 301)])

    def test_raised(self) -> None:
        """An exception is shown with its class, even one that does not let itself be shown."""

        class Mute(Exception):
            def __str__(self) -> str:
                return 5  # type: ignore[return-value]

        self.assertEqual("OSError: no\\ndisk", raised(OSError("no\ndisk")))
        self.assertEqual("Mute: (no text: its __str__ raises TypeError)", raised(Mute()))
        self.assertEqual(["7", "a\\rb"], [said(7), said("a\rb")])
        self.assertEqual("ValueError: " + "x" * 288 + "...", raised(ValueError("x" * 400)))
