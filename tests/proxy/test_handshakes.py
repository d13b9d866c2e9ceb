"""pylb.proxy.handshakes: one line a minute, with a reason."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.handshakes import FailedHandshakes

UNKNOWN = SSL.Error([("SSL routines", "", "first"), ("SSL routines", "", "tlsv1 alert unknown ca")])


class FailedHandshakesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.failed = FailedHandshakes("web", self.clock.seconds)

    def said(self, *errors: SSL.Error) -> list[str]:
        with capturedLogs() as logs:
            for error in errors:
                self.failed.note("192.0.2.7", error)
        return [formatEvent(log) for log in logs]

    def test_first(self) -> None:
        """The first is told, with OpenSSL's last word, which says why."""
        self.assertEqual(self.said(UNKNOWN), ["listener web: no TLS with 192.0.2.7: tlsv1 alert unknown ca"])

    def test_flood(self) -> None:
        """Of those that follow one a minute is, and how many are not."""
        lines = []
        for _ in range(1000):
            lines += self.said(UNKNOWN)
            self.clock.advance(0.125)
        line = "listener web: no TLS with 192.0.2.7: tlsv1 alert unknown ca"
        more = f"{line} (479 others since the last such line)"
        self.assertEqual(lines, [line, more, more])

    def test_after_a_pause(self) -> None:
        """Who comes alone after that has no others."""
        self.said(UNKNOWN)
        self.clock.advance(60)
        self.assertEqual(self.said(UNKNOWN), ["listener web: no TLS with 192.0.2.7: tlsv1 alert unknown ca"])

    def test_without_a_word(self) -> None:
        """OpenSSL may have nothing to say, or only in part."""
        for error, reason in ((SSL.Error(), "Error"), (SSL.Error([]), "[]"), (SSL.SysCallError(104, "reset"), "reset")):
            self.clock.advance(60)
            [line] = self.said(error)
            self.assertIn(reason, line)
