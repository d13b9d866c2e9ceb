"""pylb.check.kinds: the class of each check."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pylb.check import IHealthCheck
from pylb.check.kinds import make_check
from pylb.model import AgentCheck, ExecCheck, GrpcCheck, HttpCheck, OwnCheck, TcpCheck, UdpCheck


@implementer(IHealthCheck)
class Own:
    async def check(self, target):
        return None


class KindsTests(SynchronousTestCase):
    def test_each(self):
        """Every check that can be asked for is one."""
        for spec in (HttpCheck(), TcpCheck(), UdpCheck(), GrpcCheck(), ExecCheck(command=("true",)), AgentCheck()):
            verifyObject(IHealthCheck, make_check(spec))

    def test_own(self):
        """Somebody's own is made once for each server."""
        spec = OwnCheck(name="mine:Own", own=Own)
        one, other = make_check(spec), make_check(spec)
        self.assertIsInstance(one, Own)
        self.assertIsNot(one, other)

    def test_own_that_cannot_be_made(self):
        """Its error is told with its name."""

        def broken():
            raise KeyError("nobody thought of that")

        error = self.assertRaises(ValueError, make_check, OwnCheck(name="mine:Own", own=broken))
        self.assertEqual(str(error), "health check mine:Own cannot be made: KeyError: 'nobody thought of that'")

    def test_own_that_ends_the_program(self):
        """It does not: its exit is an error like others."""
        error = self.assertRaises(ValueError, make_check, OwnCheck(name="mine:Own", own=lambda: sys.exit("bye")))
        self.assertEqual(str(error), "health check mine:Own cannot be made: SystemExit: bye")
