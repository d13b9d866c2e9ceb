"""Tests of pylb.balance.methods as a whole, and of pylb.balance.methods.interface."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import providedBy
from zope.interface.verify import verifyObject

from pylb import model
from pylb.balance.methods import (
    METHODS,
    IBalancingMethod,
    IWatchesFailures,
    IWatchesLoad,
    IWatchesTime,
    Tools,
    at_once,
    make_method,
)
from pylb.balance.methods.bounded import Bounded
from pylb.balance.methods.consistent import Consistent
from pylb.balance.methods.hashing import Hash
from pylb.balance.methods.least_time import LeastTime
from pylb.balance.methods.peak_ewma import PeakEwma
from pylb.balance.methods.random import RandomOne, RandomTwo, RandomTwoByTime
from pylb.model import Balance
from tests.balance.fakes import make_servers, ready

TOOLS = Tools(random=Random(1), key=lambda request: b"", address=lambda request: b"", elsewhere=at_once)


def watching(interface: Any) -> set[str]:
    """The names of the methods that do what `interface` says."""
    made = {name: make_method(make_servers(1), Balance(method=name), TOOLS) for name in METHODS}
    return {name for name, method in made.items() if interface.providedBy(method)}


class MethodsTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """Every method that the configuration can name does what IBalancingMethod says, and what else it says it does."""
        for name in METHODS:
            made = make_method(make_servers(1, 2), Balance(method=name), TOOLS)
            for interface in (IBalancingMethod, *providedBy(made)):
                verifyObject(interface, made)

    def test_names(self) -> None:
        """Every name that the configuration knows has its method."""
        self.assertLessEqual(set(METHODS), set(model.METHODS))

    def test_asked(self) -> None:
        """What the operator asks of a method decides which one it is."""
        asked = [Balance(method="hash", consistent=True), Balance(method="hash")]
        asked += [Balance(method="hash", consistent=True, bounded_load=1.5), Balance(method="maglev", bounded_load=2.0)]
        asked += [Balance(method="random", two="least_conn"), Balance(method="random")]
        asked += [Balance(method="random", two="least_time"), Balance(method="least_time"), Balance(method="peak_ewma")]
        made = [type(make_method(make_servers(1), each, TOOLS)) for each in asked]
        timed = [RandomTwoByTime, LeastTime, PeakEwma]
        self.assertEqual(made, [Consistent, Hash, Bounded, Bounded, RandomTwo, RandomOne, *timed])

    def test_two_kinds(self) -> None:
        """The same key may lie elsewhere in maglev's table than on ketama's ring."""
        chosen, servers = [], make_servers(1, 1)
        for method in ("hash", "maglev"):
            tools = replace(TOOLS, key=lambda request: b"%d" % request)
            made = ready(make_method(servers, Balance(method=method, consistent=True), tools), servers)
            chosen.append([made.choose(key, (), 0.0) for key in range(20)])
        self.assertNotEqual(*chosen)

    def test_who_watches_the_load(self) -> None:
        """Only the method that has to know is told of each lease."""
        self.assertEqual(watching(IWatchesLoad), {"least_conn", "least_time"})

    def test_who_watches_failures(self) -> None:
        """Every method whose servers may take turns hears of failures."""
        self.assertEqual(watching(IWatchesFailures), set(METHODS) - {"first"})

    def test_who_watches_the_time(self) -> None:
        """Only the method that has to know is told of times."""
        self.assertEqual(watching(IWatchesTime), {"least_time", "peak_ewma"})
