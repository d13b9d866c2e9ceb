"""Properties of pylb.balance.pool under whatever may happen, found by hypothesis."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable
from pylb.balance.server import Server
from pylb.model import Balance
from tests.balance.fakes import Bench, host, make_server
from tests.balance.nginx import Nginx, NginxLeastConn

#: Times are multiples of a quarter second, which are exact: nginx's order of additions does not matter.
ASKED = st.fixed_dictionaries(
    {
        "weight": st.integers(1, 5),
        "backup": st.booleans(),
        "down": st.sampled_from((False, False, False, True)),
        "max_fails": st.integers(0, 3),
        "fail_timeout": st.sampled_from((0.25, 2.0, 10.0)),
        "max_conns": st.sampled_from((0, 0, 1, 3)),
    }
)
POOLS = st.lists(ASKED, min_size=1, max_size=6)
ADVANCE = st.tuples(st.just("advance"), st.integers(0, 50))


def make_bench(asked: list[dict[str, Any]], balance: str | Balance = "round_robin") -> Bench:
    servers = (make_server(letter, **spec) for letter, spec in zip("abcdef", asked, strict=False))
    return Bench(*servers, balance=balance)


class Duel:
    """The same requests to a pool and to nginx's loop; every verdict is given before the next request comes."""

    def __init__(self, asked: list[dict[str, Any]], nginx: Any = Nginx, balance: str | Balance = "round_robin") -> None:
        self.bench = make_bench(asked, balance)
        self.nginx = nginx(self.bench.pool.servers)
        self.held: list[tuple[Lease, Any]] = []
        self.seen: list[tuple[str, str]] = []

    def request(self, failures: int, hold: bool) -> None:
        """One request whose first `failures` tries fail; what it ends with is released now, or by `release`."""
        tried: list[str] = []
        lease = None
        while True:
            now = self.bench.clock.seconds()
            peer = self.nginx.get(tried, now)
            try:
                lease = self.bench.pool.acquire(after=lease)
            except NoServerAvailable:
                self.seen.append(("-", peer.name if peer else "-"))
                return
            self.seen.append((host(lease.server), peer.name if peer else "-"))
            if peer is None:
                return
            failed = len(tried) < failures
            (lease.failed("refused") if failed else lease.succeeded())
            self.nginx.verdict(peer, failed, now)
            self.held.append((lease, peer))
            if not failed and hold:
                return
            self.release(-1)
            if not failed:
                return
            tried.append(peer.name)

    def release(self, which: int) -> None:
        if self.held:
            lease, peer = self.held.pop(which % len(self.held))
            lease.release()
            self.nginx.free(peer)

    def step(self, what: str, number: int) -> None:
        if what == "advance":
            self.bench.clock.advance(number / 4)
        elif what == "release":
            self.release(number)
        elif what == "requests":
            for _ in range(number):
                self.request(0, hold=False)
        else:
            self.request(number, hold=what == "hold")


DUEL = st.one_of(
    ADVANCE,
    st.tuples(st.sampled_from(("request", "hold", "release")), st.integers(0, 3)),
    st.tuples(st.just("requests"), st.integers(1, 10)),
)


class OracleTests(SynchronousTestCase):
    """With failures, pauses, trials, full servers, retries and backups: who serves is whom nginx would ask."""

    def compare(self, duel: Duel, steps: list[tuple[str, int]]) -> None:
        for step in steps:
            duel.step(*step)
        self.assertEqual([ours for ours, _ in duel.seen], [nginx for _, nginx in duel.seen])

    @given(POOLS, st.lists(DUEL, max_size=60))
    @settings(deadline=None, max_examples=300)
    def test_round_robin(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """By turns."""
        self.compare(Duel(asked), steps)

    @given(POOLS, st.lists(DUEL, max_size=60))
    @settings(deadline=None, max_examples=200)
    def test_least_conn(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """By load, with turns of those that are level."""
        self.compare(Duel(asked, NginxLeastConn, "least_conn"), steps)


class Turmoil:
    """A pool to which everything happens, in any order; leases are kept, and used again after their end."""

    def __init__(self, asked: list[dict[str, Any]]) -> None:
        self.bench = make_bench(asked)
        self.everybody: list[Server] = list(self.bench.pool.servers)
        self.leases: list[Lease] = []
        self.held: list[Lease] = []

    def step(self, what: str, which: int) -> None:
        lease = self.leases[which % len(self.leases)] if self.leases else None
        if what == "advance":
            self.bench.clock.advance(which / 4)
        elif what == "replace":
            # The bits of `which` say who stays.
            self.bench.pool.replace(server for bit, server in enumerate(self.everybody) if which >> bit & 1)
        elif what == "acquire":
            self.acquire(None)
        elif lease is None:
            return
        elif what == "retry":
            self.acquire(lease)
        elif what == "failed":
            lease.failed("refused")
        elif what == "succeeded":
            lease.succeeded()
        elif what == "release":
            lease.release()
            self.held = [other for other in self.held if other is not lease]

    def acquire(self, after: Lease | None) -> None:
        try:
            lease = self.bench.pool.acquire(after=after)
        except NoServerAvailable:
            return
        self.leases.append(lease)
        self.held.append(lease)


TURMOIL = st.lists(
    st.one_of(
        ADVANCE,
        st.tuples(st.just("acquire"), st.just(0)),
        st.tuples(st.sampled_from(("retry", "failed", "succeeded", "release")), st.integers(0, 50)),
        st.tuples(st.just("replace"), st.integers(0, 63)),
    ),
    max_size=80,
)


class TurmoilTests(SynchronousTestCase):
    @given(POOLS, TURMOIL)
    @settings(deadline=None, max_examples=200)
    def test_leases_never_leak(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """A server's `active` is the number of its leases that are held, whatever happens, and 0 in the end."""
        turmoil = Turmoil(asked)
        for what, which in steps:
            turmoil.step(what, which)
            held = Counter(lease.server for lease in turmoil.held)
            self.assertEqual([server.active for server in turmoil.everybody], [held[s] for s in turmoil.everybody])
        for lease in turmoil.leases:
            lease.release()
        self.assertEqual({server.active for server in turmoil.everybody}, {0})

    @given(POOLS, TURMOIL)
    @settings(deadline=None, max_examples=200)
    def test_usable_is_available(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """After each request what the methods hold ready is exactly what `available` says, and who left is not in it."""
        turmoil = Turmoil(asked)
        for what, which in steps:
            turmoil.step(what, which)
            if what in ("acquire", "retry"):
                pool, now = turmoil.bench.pool, turmoil.bench.clock.seconds()
                expected = {server for server in pool.servers if server.available(now)}
                self.assertEqual({server for server in turmoil.everybody if server.usable}, expected)
                self.assertEqual(sum(tier.usable for tier in pool._tiers), len(expected))

    @given(POOLS, TURMOIL)
    @settings(deadline=None, max_examples=200)
    def test_who_is_given(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """A lease is given of a server that was available, not tried, in the pool, and a backup only for want of others."""
        turmoil = Turmoil(asked)
        for what, which in steps:
            pool, now = turmoil.bench.pool, turmoil.bench.clock.seconds()
            available = {server for server in pool.servers if server.available(now)}
            before = len(turmoil.leases)
            turmoil.step(what, which)
            for lease in turmoil.leases[before:]:
                fresh = available.difference(lease.tried)
                primaries = {server for server in fresh if not server.spec.backup}
                self.assertIn(lease.server, primaries or fresh)

    @given(POOLS, TURMOIL)
    @settings(deadline=None, max_examples=200)
    def test_news_alternate(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """Ejected and recovered, unusable and usable take turns in the news of every server and of the pool."""
        turmoil = Turmoil(asked)
        for what, which in steps:
            if what != "replace":
                turmoil.step(what, which)
        last = dict.fromkeys("abcdef", "recovered") | {"web": "usable"}
        for line in turmoil.bench.heard.news:
            whose, change = line.partition(":")[0].split()
            self.assertNotEqual(last[whose], change)
            last[whose] = change

    @given(POOLS, TURMOIL)
    @settings(deadline=None, max_examples=100)
    def test_what_is_kept_is_bounded(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """What waits for its time to come is at most one entry a server."""
        turmoil = Turmoil(asked)
        for what, which in steps:
            turmoil.step(what, which)
            self.assertLessEqual(len(turmoil.bench.pool._returns), len(turmoil.bench.pool.servers))


class TrialTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from(("acquire", "release", "straggle", "wait")), max_size=60))
    @settings(deadline=None, max_examples=200)
    def test_one_trial(self, steps: list[str]) -> None:
        """An ejected server has one trial that is not yet overdue at a time; what stragglers do does not matter."""
        bench = Bench(make_server("a"), make_server("b", down=True))
        stragglers = [bench.pool.acquire() for _ in range(9)]
        stragglers.pop().failed("refused")
        bench.clock.advance(10.5)
        trials: list[tuple[float, Lease]] = []
        for what in steps:
            now = bench.clock.seconds()
            if what == "wait":
                bench.clock.advance(3.5)
            elif what == "straggle" and stragglers:
                lease = stragglers.pop()
                (lease.succeeded, lambda: None, lambda lease=lease: lease.failed("reset"))[len(stragglers) % 3]()
                lease.release()
            elif what == "release" and trials:
                trials.pop()[1].release()
            elif what == "acquire":
                try:
                    trials.append((now, bench.pool.acquire()))
                except NoServerAvailable:
                    continue
            self.assertLessEqual(sum(now - began <= 10.0 for began, _ in trials), 1)
