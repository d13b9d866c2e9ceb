"""pylb.pools: look-ups in real threads, time in the test's hand; checks that note what they are told."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import pylb.pools
from pylb.balance.pool import Pool, make_pool
from pylb.model import InetAddress, PoolSpec, ServerSpec
from pylb.pools import Pools
from pylb.proxy.resolve import PATIENCE, Names
from tests.proxy.test_resolve import Reactor, Resolver

A, B = InetAddress("10.0.0.1", 80), InetAddress("10.0.0.2", 80)
APP = InetAddress("app.test", 80)


def spec(*servers: InetAddress, name: str = "p", **more: Any) -> PoolSpec:
    return PoolSpec(name=name, servers=tuple(ServerSpec(address=where, **more) for where in servers))


class Checks:
    """Notes what it is told, in `told` that all have in common."""

    def __init__(self, told: list[tuple[Any, ...]], pools: Mapping[str, Pool]) -> None:
        self.pools = dict(pools)
        self._told = told

    def start(self, before: Checks | None = None) -> None:
        self._told.append(("start", self, before))

    def exchange(self, pool: Pool, other: Pool) -> None:
        self._told.append(("exchange", self, pool, other))

    def follow(self, pool: Pool) -> None:
        self._told.append(("follow", self, pool))

    def stop(self) -> None:
        self._told.append(("stop", self))


class PoolsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.resolver = Resolver(app_test=["10.0.0.1"], other_test=["10.0.0.2"])
        self.patch(pylb.pools, "Names", partial(Names, lookup=self.resolver))
        self.made: list[str] = []
        self.told: list[tuple[Any, ...]] = []

    def make_pool(self, spec: PoolSpec) -> Pool:
        self.made.append(spec.name)
        return make_pool(spec, self.reactor.seconds)

    def make(self, *specs: PoolSpec, before: Pools[Checks] | None = None, **more: Any) -> Pools[Checks]:
        return Pools(
            specs,
            None,
            self.make_pool,
            lambda by_name: Checks(self.told, by_name),
            self.reactor,
            self.reactor.seconds,
            before,
            **more,
        )

    def pools(self, *specs: PoolSpec, before: Pools[Checks] | None = None) -> Pools[Checks]:
        pools = self.make(*specs, before=before)
        self.addCleanup(pools.stop)
        return pools

    def begun(self, *specs: PoolSpec) -> Pools[Checks]:
        pools = self.pools(*specs)
        self.looked_up(pools.look_up())
        pools.begin()
        self.told.clear()
        self.made.clear()
        return pools

    def looked_up(self, ready: Deferred[None]) -> None:
        while not ready.called:
            self.reactor.hear()

    def servers(self, pool: Pool) -> list[str]:
        return [server.name for server in pool.servers]

    def test_first(self) -> None:
        """Pools by their names, which begin with their checks, when names are found."""
        pools = self.pools(spec(APP), spec(B, name="q"))
        self.assertEqual((list(pools.by_name), self.made), (["p", "q"], ["p", "q"]))
        self.assertEqual(pools.checks.pools, pools.by_name)
        ready = pools.look_up()
        self.assertNoResult(ready)
        self.reactor.hear()
        self.successResultOf(ready)
        self.assertEqual(self.servers(pools.by_name["p"]), ["10.0.0.1:80"])
        self.assertEqual(self.told, [("follow", pools.checks, pools.by_name["p"])])
        pools.begin()
        self.assertEqual(self.told[1:], [("start", pools.checks, None)])

    def test_take_the_place(self) -> None:
        """A pool of the same name stays, with the servers that stay, and is as is asked now; others come and go."""
        before = self.begun(spec(A), spec(A, name="gone"))
        pool = before.by_name["p"]
        server = pool.servers[0]
        following = self.pools(spec(B, A, weight=3), spec(B, name="new"), before=before)
        self.assertEqual(self.made, ["new"])
        self.successResultOf(following.look_up())
        following.begin()
        self.assertEqual(list(following.by_name), ["p", "new"])
        self.assertIs(following.by_name["p"], pool)
        self.assertEqual((self.servers(pool), pool.spec), (["10.0.0.2:80", "10.0.0.1:80"], spec(B, A, weight=3)))
        self.assertIs(pool.servers[1], server)
        self.assertEqual(server.spec.weight, 3)

    def test_nothing_before_it_begins(self) -> None:
        """Whoever is served meanwhile notices nothing, and when it is given up nothing has happened."""
        before = self.begun(spec(A))
        pool, asked = before.by_name["p"], before.by_name["p"].spec
        following = self.pools(spec(B, weight=3), before=before)
        following.look_up()
        self.assertIsNot(following.by_name["p"], pool)
        following.stop()
        self.assertEqual((before.by_name, pool.spec, self.servers(pool)), ({"p": pool}, asked, ["10.0.0.1:80"]))
        self.assertEqual(self.told, [("stop", following.checks)])

    def test_checks(self) -> None:
        """They hear who stands for whom before they go on with what was found till now."""
        before = self.begun(spec(A), spec(A, name="gone"))
        following = self.pools(spec(B), spec(B, name="new"), before=before)
        draft, pool = following.by_name["p"], before.by_name["p"]
        following.begin()
        self.assertEqual(
            self.told,
            [("exchange", following.checks, draft, pool), ("start", following.checks, before.checks)],
        )

    def test_cannot_be_made(self) -> None:
        """Neither a pool nor checks that cannot be made change what there is."""

        def broken(*arguments: object) -> Any:
            raise ValueError("cannot be made")

        before = self.begun(spec(A))
        pool = before.by_name["p"]
        for make, make_checks in ((broken, Checks), (self.make_pool, broken)):
            with self.assertRaises(ValueError):
                specs = spec(B), spec(B, name="new")
                Pools(specs, None, make, make_checks, self.reactor, self.reactor.seconds, before)
        self.assertEqual((before.by_name, self.servers(pool), self.told), ({"p": pool}, ["10.0.0.1:80"], []))

    def test_known_names(self) -> None:
        """What a name stood for holds at once, and nobody waits; what is found then comes to the pool that stays."""
        before = self.begun(spec(APP))
        server = before.by_name["p"].servers[0]
        following = self.pools(spec(APP), before=before)
        self.resolver.answers["app.test"] = ["10.0.0.1", "10.0.0.9"]
        self.successResultOf(following.look_up())
        following.begin()
        pool = following.by_name["p"]
        self.assertEqual((self.servers(pool), pool.servers[0]), (["10.0.0.1:80"], server))
        self.told.clear()
        self.reactor.hear()
        self.assertEqual((self.servers(pool), pool.servers[0]), (["10.0.0.1:80", "10.0.0.9:80"], server))
        self.assertEqual(self.told, [("follow", following.checks, pool)])

    def test_new_names(self) -> None:
        """Until they are found, or for a while, the pool is as it was."""
        before = self.begun(spec(A))
        pool = before.by_name["p"]
        following = self.pools(spec(InetAddress("other.test", 80)), before=before)
        ready = following.look_up()
        self.assertNoResult(ready)
        self.assertEqual(self.servers(pool), ["10.0.0.1:80"])
        self.reactor.hear()
        self.successResultOf(ready)
        following.begin()
        self.assertEqual((self.servers(pool), self.reactor.getDelayedCalls()), (["10.0.0.2:80"], []))

    def test_found_elsewhere(self) -> None:
        """What names were found to stand for is there from the beginning, and given on."""
        before = self.begun(spec(APP))
        [at_first] = self.make(spec(APP)).by_name.values()
        self.assertTrue(at_first.servers[0].missing)
        pools = self.make(spec(APP), found=before.found())
        self.addCleanup(pools.stop)
        self.assertEqual(self.servers(pools.by_name["p"]), ["10.0.0.1:80"])
        self.successResultOf(pools.look_up())
        self.assertEqual(pools.found(), before.found())

    def test_old_names(self) -> None:
        """Those before are asked for no more."""
        self.resolver.answers["app.test"] = OSError("no")
        before = self.pools(spec(APP))
        before.look_up()
        self.reactor.hear()
        before.begin()
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.pools(spec(A), before=before).begin()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """Nobody waits any more, nothing is asked."""
        pools = self.pools(spec(InetAddress("never.test", 80)))
        self.resolver.answers["never.test"] = OSError("no")
        ready = pools.look_up()
        pools.stop()
        self.reactor.advance(PATIENCE)
        self.assertNoResult(ready)
        self.assertEqual((self.told, self.reactor.getDelayedCalls()), ([("stop", pools.checks)], []))

    def test_nothing_is_kept(self) -> None:
        """Nothing of those before is, however often others take their place."""
        before = self.make(spec(A))
        before.begin()
        gone = weakref.ref(before)
        self.pools(spec(A), before=before).begin()
        self.told.clear()
        del before
        gc.collect()
        self.assertIsNone(gone())
