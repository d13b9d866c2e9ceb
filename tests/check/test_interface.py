"""pylb.check.interface: what a check may say."""

from __future__ import annotations

from math import inf, nan
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.check.interface import Report


class ReportTests(SynchronousTestCase):
    def refused(self, **said: Any) -> str:
        return str(self.assertRaises(ValueError, Report, **said))

    def test_said(self) -> None:
        """All that an agent may say can be said."""
        for share in (None, 0, 0.0, 0.25, 1, 256.0):
            self.assertEqual(Report(share=share).share, share)
        self.assertEqual([Report(switch=to).switch for to in ("up", "drain", "down")], ["up", "drain", "down"])

    def test_share(self) -> None:
        """A share is a number that can be one, and the message says which."""
        for share in (-1, -0.01, 256.1, inf, nan, "0.5", [1]):
            self.assertEqual(
                self.refused(share=share),
                f"the share of a Report is {share!r}, it may be None or a number from 0 to 256",
            )

    def test_switch(self) -> None:
        """There are three switches."""
        for switch in ("sideways", "", "UP", 0, []):
            self.assertEqual(
                self.refused(switch=switch),
                f'the switch of a Report is {switch!r}, it may be None, "up", "drain" or "down"',
            )

    def test_why(self) -> None:
        """What is for people is a text."""
        self.assertEqual(self.refused(why=None), "the why of a Report is None, it must be a text")
