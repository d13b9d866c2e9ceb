"""Tests of pylb.balance.methods.bounded."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.lease import Lease
from pylb.balance.methods.bounded import Bounded
from pylb.balance.methods.consistent import Consistent
from pylb.balance.methods.interface import IWatchesLoad
from pylb.balance.methods.ketama import Ring
from pylb.balance.methods.maglev import Table
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.server import Server
from pylb.model import Balance, InetAddress, PoolSpec
from tests.balance.fakes import LETTERS, host, make_server, make_servers, ready
from tests.balance.methods.fakes import Aside, tools


def make(servers: list[Server], factor: float, kind: Any = Ring) -> Bounded:
    method: Bounded = ready(Bounded(servers, kind, tools(), factor), servers)
    return method


def load(method: Bounded, server: Server, leases: int) -> None:
    """Give or take so many leases."""
    server.active += leases
    method.load_changed(server)


class BoundedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = make_servers(1, 1, 1, 1)
        self.method = make(self.servers, 1.5)
        self.order = list(dict.fromkeys(name.servers[0] for name in self.method._homes("key", 100)))

    def choose(self, *tried: Server) -> Server:
        return self.method.choose("key", tried, 0.0)

    def test_interface(self) -> None:
        """Bounded wants to hear of each change of load."""
        self.assertTrue(verifyClass(IWatchesLoad, Bounded))

    def test_below_the_bound(self) -> None:
        """As long as nobody has much a key belongs where it would without a bound."""
        servers = make_servers(1, 2, 3)
        plain = ready(Consistent(servers, Ring, tools()), servers)
        method = make(servers, 100)
        for server in servers:
            load(method, server, 1)
        self.assertEqual(*[[each.choose(key, (), 0.0) for key in range(500)] for each in (plain, method)])

    def test_on_along_the_ring(self) -> None:
        """A key whose server has its part goes to the next on the ring that has not, and back when it can."""
        first, second, third, _ = self.order
        self.assertIs(self.choose(), first)
        load(self.method, first, 2)  # of 3, a share of 0.75 each: at most ceil(1.125)
        self.assertIs(self.choose(), second)
        load(self.method, second, 2)  # of 5
        self.assertIs(self.choose(), third)
        load(self.method, third, 2)  # of 7: at most ceil(2.625)
        self.assertIs(self.choose(), first)

    def test_weights(self) -> None:
        """Who has more weight may have more."""
        servers = make_servers(1, 3)
        method = make(servers, 1)
        chosen = []
        for key in range(8):
            chosen.append(method.choose(key, (), 0.0))
            load(method, chosen[-1], 1)
        self.assertEqual([chosen.count(server) for server in servers], [2, 6])

    def test_decimals(self) -> None:
        """The factor is what was written: 1.1 times a fair share of 10 is 11, not 11 and a bit."""
        servers = make_servers(1, 1)
        method = make(servers, 1.1)
        load(method, servers[0], 11)
        load(method, servers[1], 8)
        self.assertEqual({method.choose(key, (), 0.0) for key in range(50)}, {servers[1]})

    def test_tried(self) -> None:
        """Servers that were tried are out of the reckoning, with their leases and their weight."""
        first, second, third, fourth = self.order
        load(self.method, first, 100)
        for server in (second, third, fourth):
            load(self.method, server, 3)  # of 10 at three servers: at most 5
        self.assertIs(self.choose(first), second)
        load(self.method, second, 3)  # 6 of 13: at most ceil(6.5)
        self.assertIs(self.choose(first), second)
        load(self.method, second, 1)  # 7 of 14: at most 7
        self.assertIs(self.choose(first), third)

    def test_no_key(self) -> None:
        """Requests without a key take turns, within the bound."""
        chosen = [self.method.choose(None, (), 0.0) for _ in range(4)]
        self.assertEqual(chosen, self.servers)
        load(self.method, self.servers[0], 5)
        self.assertNotIn(self.servers[0], [self.method.choose(None, (), 0.0) for _ in range(8)])

    def test_no_key_tried(self) -> None:
        """Who was tried is not asked again, however little it has to do."""
        first, second, *_ = self.servers
        load(self.method, second, 5)
        chosen = [self.method.choose(None, [first], 0.0) for _ in range(8)]
        self.assertEqual(set(chosen), set(self.servers[2:]))

    def test_no_ring_yet(self) -> None:
        """Nor does anybody get too much while the ring is being made."""
        servers = make_servers(400, 400)
        method = ready(Bounded(servers, Ring, tools(Aside()), 1), servers)
        load(method, servers[1], 3)
        self.assertEqual({method.choose("key", (), 0.0) for _ in range(5)}, {servers[0]})

    def test_several_addresses(self) -> None:
        """Each address of a name has its own bound; the others of the name come first."""
        spec = self.order[0].spec
        several = [Server(spec, InetAddress(f"10.0.0.{number}", 80)) for number in (1, 2, 3)]
        method = make([*several, *self.order[1:]], 1)
        load(method, several[0], 2)
        self.assertLessEqual({method.choose("key", (), 0.0) for _ in range(5)}, set(several[1:]))

    def test_many(self) -> None:
        """A thousand leases of keys that all want one server are spread as the factor says."""
        for kind in (Ring, Table):
            servers = make_servers(*[1] * 8)
            method = make(servers, 1.25, kind)
            for _ in range(1000):
                load(method, method.choose("key", (), 0.0), 1)
            loads = sorted((server.active for server in servers), reverse=True)
            # Six have all that they may, and a seventh the rest: ceil(1.25 * 1000 / 8) is 157.
            self.assertTrue(loads[0] <= 157 and loads[5] >= 156 and loads[6] <= 64 and not loads[7], loads)


POOLS = st.lists(
    st.fixed_dictionaries(
        {
            "weight": st.integers(1, 4),
            "backup": st.sampled_from((False, False, False, True)),
            "max_fails": st.integers(0, 1),
            "max_conns": st.sampled_from((0, 0, 3)),
        }
    ),
    min_size=1,
    max_size=6,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("acquire", "acquire", "acquire", "retry", "failed", "release", "advance", "down", "up")),
        st.integers(0, 40),
    ),
    max_size=60,
)


class Client:
    def __init__(self, number: int) -> None:
        self.number = number

    def variable(self, name: str) -> bytes:
        # Few keys and, now and then, none.
        return b"%d" % (self.number % 3) if self.number % 7 else b""


class Crowd:
    """A pool with a bound, and what each new lease may be by the definition."""

    def __init__(self, asked: list[dict[str, Any]], factor: str) -> None:
        self.factor = Fraction(factor)
        self.clock = Clock()
        servers = [make_server(letter, **each) for letter, each in zip(LETTERS, asked, strict=False)]
        balance = Balance(method="hash", key="$remote_addr", consistent=True, bounded_load=float(factor))
        self.pool = Pool(PoolSpec(name="web", servers=(), balance=balance), servers, self.clock.seconds)
        self.leases: list[Lease] = []

    def step(self, what: str, which: int) -> tuple[int, int] | None:
        """What the server of a new lease had, and the most that it might; None if there is no new lease."""
        lease = self.leases[which % len(self.leases)] if self.leases else None
        if what == "advance":
            self.clock.advance(which / 2)
        elif what in ("down", "up"):
            self.pool.switch(self.pool.servers[which % len(self.pool.servers)], what)  # type: ignore[arg-type]
        elif what == "acquire" or lease is None:
            return self.acquire(Client(which), None)
        elif what == "retry":
            return self.acquire(Client(which), lease)
        elif what == "failed":
            lease.failed("refused")
        else:
            lease.release()
        return None

    def acquire(self, client: Client, after: Lease | None) -> tuple[int, int] | None:
        now = self.clock.seconds()
        loads = {server: server.active for server in self.pool.servers if server.available(now)}
        try:
            lease = self.pool.acquire(client, after)
        except NoServerAvailable:
            return None
        self.leases.append(lease)
        server = lease.server
        candidates = [each for each in loads if each not in lease.tried and each.spec.backup is server.spec.backup]
        under_way = sum(loads[each] for each in candidates) + 1
        share = Fraction(server.weight, sum(each.weight for each in candidates))
        return loads[server] + 1, ceil(self.factor * under_way * share)


class CrowdTests(SynchronousTestCase):
    @given(POOLS, st.sampled_from(("1", "1.0", "1.1", "1.25", "2")), STEPS)
    @settings(deadline=None, max_examples=200)
    def test_never_exceeds_its_factor(
        self, asked: list[dict[str, Any]], factor: str, steps: list[tuple[str, int]]
    ) -> None:
        """Whatever is acquired, released, fails, leaves and returns: nobody is given more than its part."""
        crowd = Crowd(asked, factor)
        for what, which in steps:
            given = crowd.step(what, which)
            if given is not None:
                self.assertLessEqual(given[0], given[1], (what, which, host(crowd.leases[-1].server)))

    @given(POOLS, STEPS)
    @settings(deadline=None, max_examples=50)
    def test_what_it_knows(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """The sums are those of the usable servers, whatever happens."""
        crowd = Crowd(asked, "1.25")
        for what, which in steps:
            crowd.step(what, which)
            for tier in crowd.pool._tiers:
                usable = [each for each in crowd.pool.servers if each.usable and each.spec.backup is tier.backup]
                method: Any = tier.method
                sums = sum(each.active for each in usable), sum(each.weight for each in usable)
                self.assertEqual((method._active, method._weight), sums)
