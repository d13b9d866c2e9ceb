"""Everything happens to a pool (tests.balance.test_stress), and it gets one configuration after the other meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb import model
from pylb.balance.lease import Lease
from pylb.balance.methods import maglev, places
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.queue import Place
from pylb.balance.server import Server
from pylb.model import Outlier, PoolSpec, TcpCheck
from tests.balance.test_stress import BALANCES, HASHES, STICKY, Storm

STEPS = (
    *("acquire",) * 5,
    *("end",) * 4,
    "retry",
    "wait",
    "switch",
    "replace",
    "work",
    "renew",
    "serve",
    "leave",
    "check",
)
CHOICES: dict[str, tuple[Any, ...]] = {
    "balance": tuple(BALANCES),
    "sticky": STICKY,
    "health_check": ((), (), (TcpCheck(),), (TcpCheck(mandatory=True),)),
    "failure_window": ("nginx", "sliding"),
    "outlier": (None, None, Outlier(consecutive_errors=2, base_ejection_time=1.0, max_ejected_percent=50)),
    "last_usable": ("eject", "keep"),
    "panic_threshold": (0, 50, 100),
    "queue": (None, model.Queue(size=2), model.Queue(size=5, priority="$key")),
    "max_retries": (0, 1, 3),
}


class Renewals(Storm):
    """A storm in which some wait, and are served or refused."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, BALANCES[seed % len(BALANCES)], None)
        self.waiting: dict[Waits, Place] = {}

    def step(self, what: str) -> None:
        if what in ("renew", "replace"):
            self.renew() if what == "renew" else self.replace()
            self.everybody = [
                *self.pool.servers,
                *{lease.server for lease in self.leases}.difference(self.pool.servers),
            ]
        elif what == "serve" and self.pool.queue is not None:
            self.pool.serve_waiting()
        elif what == "leave" and self.waiting:
            waits = self.random.choice(list(self.waiting))
            self.pool.wait_ends(self.waiting.pop(waits))
        elif what == "check" and self.pool.servers and self.pool.spec.health_check:
            to = self.random.choice(("checking", "passed", "passed", "unhealthy"))
            self.pool.checked(self.random.choice(self.pool.servers), to, "")
        elif what != "switch" or self.everybody:
            super().step(what)

    def replace(self) -> None:
        """Some of the servers, and perhaps others."""
        stay = self.random.sample(self.pool.servers, self.random.randint(0, len(self.pool.servers)))
        self.pool.replace([*stay, *self.some(self.random.randrange(3), self.pool.spec)])

    def some(self, count: int, spec: PoolSpec) -> list[Server]:
        return [
            self.make(letter, spec.balance.method not in HASHES) for letter in self.random.choices("abcdef", k=count)
        ]

    def renew(self) -> None:
        """Some other servers, and some other settings."""
        pick, pool = self.random.choice, self.pool
        asked = {key: pick(values) for key, values in CHOICES.items() if self.random.random() < 0.3}
        spec = replace(pool.spec, **asked)
        made = self.some(self.random.randrange(7), spec)
        draft = Pool(spec, made, self.clock.seconds)
        limits, ejections = {server: server.health.max_fails for server in pool.servers}, self.ejections()
        stay = pool.renew(spec, draft.servers)
        assert [server.spec for server in pool.servers] == [server.spec for server in made]
        assert [server.name for server in pool.servers] == [server.name for server in made]
        for server in stay.values():
            if limits[server] and server.health.max_fails:
                assert self.ejections()[server] == ejections[server], f"{server} was {ejections[server]}"

    def ejections(self) -> dict[Server, tuple[float | None, int]]:
        return {server: (server.health.retry_at, server.health.epoch) for server in self.pool.servers}

    def acquire(self, after: Lease | None) -> None:
        pool = self.pool
        if pool.queue is not None:
            pool.serve_waiting()
        now, tried = self.clock.seconds(), () if after is None else (*after.tried, after.server)
        bound, free = (
            {
                each
                for each in pool.servers
                if each not in tried and each.available(now, may, pool._tier_of[each].panics)
            }
            for may in (True, False)
        )
        waits = Waits(self)
        try:
            lease = pool.acquire(waits, after)
        except NoServerAvailable as error:
            limited = after is not None and pool.spec.max_retries > 0
            assert not free or limited or (pool.sticky and pool._strict), f"{free} would do"
            if error.may_wait:
                assert pool.queue is not None
                self.waiting[waits] = pool.queue.join(waits, now)
            return
        assert lease.server in (bound if pool.sticky else free), f"{lease.server} of {free}"
        waits.served(lease)

    def check(self) -> None:
        super().check()
        pool, now = self.pool, self.clock.seconds()
        if now > pool._next_look:
            pool._look(now)
        assert len(self.waiting) == (0 if pool.queue is None else len(pool.queue))
        assert pool.active == len(self.leases)
        assert pool.retries == sum(bool(lease.tried) and not lease.judged for lease in self.leases)
        for server in pool.servers:
            tier = pool._tier_of[server]
            assert server.usable is server.available(now, False, tier.panics), f"{server} misjudged"
            assert server.health.max_fails == self.limit(server), f"{server} misses its limit"
            assert (server.health.recent is None) is (pool.spec.failure_window == "nginx"), (
                f"{server} misses its window"
            )
            assert pool.spec.health_check or server.checked == "passed", f"{server} waits for nobody"
            assert (server in tier.ejected) is server.health.ejected and (server in tier.well) is server.well
        assert all(server in pool.servers for server in self.everybody if server.usable)
        assert pool.spec.panic_threshold or not any(tier.panics for tier in pool._tiers)

    def limit(self, server: Server) -> int:
        if len(self.pool.servers) == 1:
            return 0
        outlier = self.pool.spec.outlier
        return server.spec.max_fails if outlier is None else outlier.consecutive_errors


class Waits:
    """Somebody who comes, and who may have to wait."""

    def __init__(self, storm: Renewals) -> None:
        self._storm = storm

    def variable(self, name: str) -> bytes:
        return self._storm.variable(name)

    def served(self, lease: Lease) -> None:
        self._storm.waiting.pop(self, None)
        self._storm.leases.append(lease)
        lease.bind(self)

    def refused(self, error: Exception) -> None:
        del self._storm.waiting[self]


class RenewalsTests(SynchronousTestCase):
    @given(seed=st.integers(0, 1 << 30))
    @settings(deadline=None, max_examples=100)
    def test_storm(self, seed: int) -> None:
        """Nothing breaks or leaks, all is as the last file says, and who was ejected stays so."""
        self.patch(places, "LONG", 100)
        self.patch(maglev, "SLOTS", 251)
        storm = Renewals(seed)
        for _ in range(150):
            storm.step(storm.random.choice(STEPS))
            storm.check()
        while storm.leases:
            storm.step("end")
        storm.check()
        self.assertEqual([server.active for server in storm.everybody], [0] * len(storm.everybody))
