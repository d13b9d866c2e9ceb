"""pylb.proxy.lookup; what becomes of the answers is in test_resolve.py."""

from __future__ import annotations

import threading

from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.lookup import RETRY, THREADS, Lookups, getaddrinfo
from tests.proxy.test_resolve import Reactor, Resolver


class LookupsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.heard: list[tuple[str, list[str], str]] = []

    def lookups(self, resolver: Resolver) -> Lookups:
        lookups = Lookups(self.reactor, resolver, lambda *heard: self.heard.append(heard))
        self.addCleanup(lookups.stop)
        return lookups

    def test_until_found(self) -> None:
        """Each try is told of; the first that finds something is the last."""
        resolver = Resolver(a_test=OSError(-2, "Name or service not known"))
        self.lookups(resolver).start(["a.test"])
        self.reactor.hear()
        resolver.answers["a.test"] = []
        self.reactor.advance(RETRY)
        self.reactor.hear()
        resolver.answers["a.test"] = ["10.0.0.1"]
        self.reactor.advance(RETRY)
        self.reactor.hear()
        self.assertEqual(
            self.heard,
            [
                ("a.test", (), "Name or service not known"),
                ("a.test", [], "it has no address"),
                ("a.test", ["10.0.0.1"], ""),
            ],
        )
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_few_threads(self) -> None:
        """However many names there are; those that hang hold up the others only when all threads hang."""
        names = [f"n{number}.test" for number in range(THREADS + 4)]
        hanging = threading.Event()
        resolver = Resolver(**{name: ["10.0.0.1"] for name in names})
        for name in sorted(names)[: THREADS - 1]:
            resolver.answers[name], resolver.answers[name, "later"] = hanging, ["10.0.0.2"]
        self.lookups(resolver).start(names)
        self.reactor.hear(5)
        self.assertEqual({heard[1][0] for heard in self.heard}, {"10.0.0.1"})
        hanging.set()
        self.reactor.hear(THREADS - 1)
        self.assertEqual(len(set(resolver.threads)), THREADS)


class GetaddrinfoTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """Each address once, as a literal."""
        found = getaddrinfo("localhost")
        self.assertEqual(len(found), len(set(found)))
        self.assertLessEqual(set(found), {"127.0.0.1", "::1"})
        self.assertTrue(found)
