"""bench.checks: what health checks cost."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.checks import KINDS, configuration, share
from pylb.model import HttpCheck
from tests.config.files import ConfigTestCase


class Clocked:
    """A program that has computed for so many seconds when it is asked, again and again."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)

    def cpu_seconds(self) -> float:
        return self._seconds.pop(0)


class ConfigurationTests(ConfigTestCase):
    def test_each(self) -> None:
        """Every kind loads, with so many servers and that interval."""
        for kind in KINDS:
            [pool] = self.load(configuration(kind, 3, 2.5, 8080, 9000)).pools.values()
            [check] = pool.health_check
            self.assertEqual((len(pool.servers), check.interval), (3, 2.5))

    def test_http(self) -> None:
        [pool] = self.load(configuration("http", 1, 5, 8080, 9000)).pools.values()
        self.assertEqual(pool.health_check, (HttpCheck(),))


class ShareTests(SynchronousTestCase):
    def test_part_of_a_core(self) -> None:
        """What was computed meanwhile, by the time that passed."""
        self.assertAlmostEqual(share(Clocked(1.0, 1.005), 0.01, 0.0), 0.5)
