"""Everything happens to every method: slow starts, sessions, switches, other servers, retries, places that come late."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.colleagues import Colleagues
from pylb.balance.lease import Lease
from pylb.balance.methods import maglev, places
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.server import Server
from pylb.model import METHODS, Balance, PoolSpec, StickyLearn, StickyRoute
from tests.balance.fakes import server_spec

HASHES = ("hash", "ip_hash", "maglev", "first")
MORE: tuple[dict[str, Any], ...] = (
    {},
    {"consistent": True, "two": "least_conn"},
    {"consistent": True, "bounded_load": 1.1, "inflight": True, "two": "least_time"},
)
BALANCES = [Balance(method=method, key="$key", metric="last_byte", **more) for method in METHODS for more in MORE]
LEARN = StickyLearn(create=("$key",), lookup=("$key",), timeout=9.0, size=3)
STICKY = (None, LEARN, StickyRoute(variables=("$key",)), StickyRoute(variables=("$key",), strict=True))
STEPS = ("acquire",) * 5 + ("end",) * 4 + ("retry", "retry", "wait", "switch", "replace", "work")


class Storm:
    """A pool, what is held of it, and the works that are not done yet."""

    def __init__(
        self,
        seed: int,
        balance: Balance,
        sticky: Any,
        clock: Clock | None = None,
        colleagues: Colleagues | None = None,
    ) -> None:
        self.random, self.clock, self.leases = Random(seed), clock or Clock(), list[Lease]()
        self.colleagues = colleagues
        self.works: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.everybody = [self.make(letter, balance.method not in HASHES) for letter in "abcdef"]
        spec = PoolSpec(name="web", servers=(), balance=balance, sticky=sticky)
        works = lambda *work: self.works.append(work)  # noqa: E731
        self.pool = Pool(spec, self.everybody[:4], self.clock.seconds, None, self.random, works, colleagues)

    def variable(self, name: str) -> bytes:
        return b"%c" % self.random.choice(b"abcdef") if name == "key" else b"10.0.%d.1" % self.random.randrange(9)

    def make(self, letter: str, slowly: bool) -> Server:
        pick = self.random.choice
        asked: dict[str, Any] = {"max_fails": pick((0, 1, 3)), "max_conns": pick((0, 0, 1, 3)), "route": letter}
        asked |= {"fail_timeout": pick((0.0, 0.25, 2.0)), "slow_start": pick((0.0, 6.0)) if slowly else 0.0}
        return Server(server_spec(letter, pick((1, 2, 5)), backup=pick((False, False, True)), **asked))

    def step(self, what: str) -> None:
        random, pool, leases = self.random, self.pool, self.leases
        if what == "wait":
            self.clock.advance(random.choice((0.0, 0.05, 0.25, 1.0, 5.0)))
        elif what == "switch":
            pool.switch(random.choice(self.everybody), random.choice(("up", "up", "drain", "down")))
        elif what == "replace":
            pool.replace(random.sample(self.everybody, random.randrange(7)))
        elif what == "work" and self.works:
            work, done = self.works.pop(random.choice((0, -1)))
            done(work())
        elif what == "end" and leases:
            self.end(leases.pop(random.randrange(len(leases))))
        elif what in ("acquire", "retry"):
            self.acquire(random.choice(leases) if what == "retry" and leases else None)

    def end(self, lease: Lease) -> None:
        if self.random.random() < 0.3:
            lease.timed("last_byte")
        self.random.choice((lease.succeeded, lambda: lease.failed("reset"), lambda: None))()
        lease.release()

    def acquire(self, after: Lease | None) -> None:
        pool, now, tried = self.pool, self.clock.seconds(), () if after is None else (*after.tried, after.server)
        if self.colleagues is not None:
            self.colleagues.look(now)
        fresh = {server for server in pool.servers if server.available(now, bound=True) and server not in tried}
        free = {server for server in fresh if server.available(now)}
        primaries = {server for server in free if not server.spec.backup}
        try:
            lease = pool.acquire(self.random.choice((self, None)), after)
        except NoServerAvailable:
            assert not free or (pool.spec.sticky is not None and pool.spec.sticky.strict), f"{free} would do"
            return
        self.leases.append(lease)
        assert lease.server in (fresh if pool.sticky else primaries or free), f"{lease.server} of {fresh}"
        lease.bind(self)

    def check(self) -> None:
        for server in self.everybody:
            held = server.held[0]
            assert held == sum(lease.server is server for lease in self.leases), f"{server} leaks"
            assert held == server.active or (self.colleagues is not None and held < server.active), (
                f"{server} miscounts"
            )
            assert 0 <= server.waiting <= held and (server.waiting or not server.began), f"{server} waits"
        for tier in self.pool._tiers:
            usable = [server for server in self.everybody if server.usable and self.pool._tier_of[server] is tier]
            loads = {server: server.active for server in usable if server not in tier.warming}
            assert tier.usable == len(usable) and tier._weight == sum(server.weight for server in loads)
            assert getattr(tier.method, "_loads", loads) == loads


class StormTests(SynchronousTestCase):
    def test_storm(self) -> None:
        """Nothing breaks or leaks; who is given can serve, was not tried, and is a primary if there is one."""
        self.patch(places, "LONG", 100)
        self.patch(maglev, "SLOTS", 251)
        for seed, (balance, sticky) in enumerate((b, s) for b in BALANCES for s in STICKY * 3):
            storm = Storm(seed, balance, sticky)
            for number in range(300):
                try:
                    storm.step(storm.random.choice(STEPS))
                    storm.check()
                except Exception as error:
                    raise AssertionError(f"{balance}, {sticky}, seed {seed}, step {number}") from error
