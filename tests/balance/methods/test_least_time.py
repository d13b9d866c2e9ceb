"""Tests of pylb.balance.methods.least_time."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.lease import Lease
from pylb.balance.methods.interface import IWatchesFailures, IWatchesLoad, IWatchesTime
from pylb.balance.methods.least_time import LOOKS, LeastTime
from pylb.balance.server import Server
from pylb.model import Balance
from tests.balance.fakes import LETTERS, Bench, host, make_server
from tests.balance.nginx import NginxLeastTime, Peer
from tests.balance.test_pool_random import Duel

BALANCE = Balance(method="least_time", metric="header")
INFLIGHT = Balance(method="least_time", metric="header", inflight=True)


class Desk(Bench):
    """A pool whose servers need as long as they are told, one request after the other; the clock stands still meanwhile."""

    def __init__(self, *servers: Server, balance: Balance = BALANCE) -> None:
        super().__init__(*servers, balance=balance)
        self.need = {host(server): 0.01 for server in servers}

    @property
    def method(self) -> LeastTime:
        method = self.pool._tiers[0].method
        assert isinstance(method, LeastTime)
        return method

    def measure(self, server: Server) -> None:
        self.method.measured(server, self.need[host(server)], self.clock.seconds())

    def ask(self, count: int, every: float = 0.0) -> str:
        """Who serves `count` requests, of which the next begins `every` so many seconds."""
        asked = ""
        for _ in range(count):
            lease = self.pool.acquire()
            self.measure(lease.server)
            lease.succeeded()
            lease.release()
            asked += host(lease.server)
            self.clock.advance(every)
        return asked

    def hold(self, count: int) -> list[Lease]:
        return [self.pool.acquire() for _ in range(count)]


def servers(**weights: int) -> list[Server]:
    return [make_server(letter, weight) for letter, weight in weights.items()]


class OrderTests(SynchronousTestCase):
    def test_interfaces(self) -> None:
        """LeastTime is a method that watches load, failures and time, and says so."""
        for interface in (IWatchesLoad, IWatchesFailures, IWatchesTime):
            self.assertTrue(verifyClass(interface, LeastTime))

    def test_quick(self) -> None:
        """The quick one serves, once both are known."""
        desk = Desk(*servers(a=1, b=1))
        desk.need["a"] = 0.1
        self.assertEqual(desk.ask(6), "abbbbb")

    def test_level(self) -> None:
        """Those that are equally quick, within 20 ms, take turns by weight while they are equal for their weight."""
        desk = Desk(*servers(a=1, b=1, c=1))
        desk.need.update(a=0.021, b=0.039, c=0.041)
        desk.ask(3)
        self.assertEqual(desk.ask(6), "bababa")

    def test_for_its_weight(self) -> None:
        """Twice the weight makes up for twice the time."""
        desk = Desk(*servers(a=1, b=2, c=2))
        desk.need.update(a=0.019, b=0.039, c=0.059)
        desk.ask(10)
        self.assertEqual(Counter(desk.ask(9)), {"a": 3, "b": 6})

    def test_load(self) -> None:
        """Leases count: who needs three times as long gets a third of them."""
        desk = Desk(*servers(a=1, b=1))
        desk.need.update(a=0.059, b=0.019)
        desk.ask(4)
        self.assertEqual(Counter(host(lease.server) for lease in desk.hold(40)), {"a": 10, "b": 30})

    def test_hopeless(self) -> None:
        """Of those that need more than 5 seconds the one with fewer leases serves."""
        desk = Desk(*servers(a=1, b=1))
        desk.need.update(a=6.0, b=60.0)
        desk.ask(2)
        self.assertEqual(Counter(host(lease.server) for lease in desk.hold(10)), {"a": 5, "b": 5})

    def test_new(self) -> None:
        """A server that was added is not flooded for being unknown: its leases count."""
        desk = Desk(*servers(a=1, b=1))
        desk.need.update(a=0.1, b=0.1)
        desk.ask(20)
        desk.pool.replace([*desk.pool.servers, make_server("c")])
        self.assertEqual("".join(host(lease.server) for lease in desk.hold(8)), "cccccabc")

    def test_kept(self) -> None:
        """When servers come and go what is known of the others stays known."""
        desk = Desk(*servers(a=1, b=1, c=1))
        desk.clock.advance(1000.0)
        desk.need["a"] = 1.0
        desk.ask(3)
        desk.pool.replace([server for server in desk.pool.servers if host(server) != "c"])
        self.assertEqual(desk.ask(3), "bbb")


class ChanceTests(SynchronousTestCase):
    """A slow server is tried again, and regains its share."""

    def test_again(self) -> None:
        """Each fail_timeout and a second its time counts half, until it is the least."""
        desk = Desk(*servers(a=1, b=1))
        desk.need["a"] = 0.1
        asked = desk.ask(60, every=1.0)
        self.assertEqual([second for second, letter in enumerate(asked) if letter == "a"], [0, 34])

    def test_once(self) -> None:
        """Then it is asked once, not by all who come at that moment."""
        desk = Desk(*servers(a=1, b=1))
        desk.need["a"] = 0.1
        desk.ask(2)
        desk.clock.advance(33.0)
        self.assertEqual(desk.ask(10).count("a"), 1)

    def test_alone_together(self) -> None:
        """A server that nobody waits for is asked again even if no request came in between."""
        desk = Desk(*servers(a=1, b=1))
        desk.need.update(a=4.0, b=0.05)
        desk.ask(2)
        desk.clock.advance(1000.0)
        self.assertEqual(set(desk.ask(2)), {"a", "b"})

    def test_failed(self) -> None:
        """A failure begins the wait anew."""
        desk = Desk(make_server("a", max_fails=0), make_server("b"))
        desk.need["a"] = 0.1
        lease, other = desk.hold(2)
        desk.measure(lease.server)
        desk.measure(other.server)
        desk.clock.advance(10.0)
        lease.failed("reset")
        for each in (lease, other):
            each.release()
        asked = desk.ask(60, every=1.0)
        self.assertEqual(asked.index("a"), 34)

    @given(st.lists(st.floats(0.001, 3.0), min_size=2, max_size=5), st.sampled_from((2.0, 5.0)))
    @settings(deadline=None, max_examples=25)
    def test_nobody_starves(self, needs: list[float], every: float) -> None:
        """However slow a server was, once it is as quick as the others it has a fair share in the end."""
        desk = Desk(*servers(**dict.fromkeys(LETTERS[: len(needs)], 1)))
        desk.need.update(zip(LETTERS, needs, strict=False))
        desk.ask(200, every)
        desk.need.update(dict.fromkeys(desk.need, 0.005))
        for _ in range(200):
            shares = Counter(desk.ask(100, every))
            if min(shares[letter] for letter in desk.need) >= 80 // len(needs):
                return
        self.fail(f"shares are still {shares}")


class InflightTests(SynchronousTestCase):
    def test_hanging(self) -> None:
        """A server whose answers do not come is left alone before the first of them has come, if that was asked for."""
        seen = []
        for balance in (BALANCE, INFLIGHT):
            desk = Desk(*servers(a=1, b=1), balance=balance)
            for lease in desk.hold(4):
                if host(lease.server) == "b":
                    lease.timed("header")
            desk.clock.advance(0.15)
            seen.append(Counter(host(lease.server) for lease in desk.hold(10)))
        self.assertEqual(seen, [{"a": 5, "b": 5}, {"b": 10}])

    def test_answered(self) -> None:
        """What has been answered does not count as hanging, however long it lasts."""
        desk = Desk(*servers(a=1, b=1), balance=INFLIGHT)
        for lease in desk.hold(2):
            lease.timed("header")
        desk.clock.advance(600.0)
        self.assertEqual([desk.server(letter).waiting for letter in "ab"], [0, 0])
        self.assertEqual(Counter(host(lease.server) for lease in desk.hold(10)), {"a": 5, "b": 5})


#: Times are whole seconds, as nginx counts them, or 64ths, of which sums are exact.
TIMES = st.tuples(st.just("measured"), st.integers(0, 10_000))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(0, 15)),
        TIMES,
        TIMES,
        st.tuples(st.sampled_from(("request", "hold", "hold", "release")), st.integers(0, 3)),
        st.tuples(st.just("requests"), st.integers(1, 10)),
    ),
    max_size=80,
)
ASKED = st.lists(
    st.fixed_dictionaries(
        {
            "weight": st.integers(1, 5),
            "backup": st.booleans(),
            "max_fails": st.integers(0, 3),
            "fail_timeout": st.sampled_from((0.0, 2.0, 10.0)),
            "max_conns": st.sampled_from((0, 0, 1, 3)),
        }
    ),
    min_size=1,
    max_size=6,
)


class OracleTests(SynchronousTestCase):
    @given(ASKED, STEPS)
    @settings(deadline=None, max_examples=300)
    def test_nginx(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """Whatever is measured, fails, is full or backs up, and as time passes: who serves is whom nginx would ask."""
        duel = Duel(asked, NginxLeastTime, BALANCE)
        everybody = dict(zip(LETTERS, duel.bench.pool.servers, strict=False))
        for what, number in steps:
            if what == "measured":
                peers = [*duel.nginx.primaries, *duel.nginx.backups]
                peer = peers[number % len(peers)]
                duel.nginx.measured(peer, number / 1000)
                duel.bench.pool._tier_of[everybody[peer.name]].measured(everybody[peer.name], number / 1000, 0.0)
            else:
                duel.step(what, 4 * number if what == "advance" else number)
        self.assertEqual([ours for ours, _ in duel.seen], [nginx for _, nginx in duel.seen])

    @given(
        st.lists(st.integers(1, 4), min_size=2, max_size=5),
        st.lists(
            st.tuples(st.sampled_from(("take", "take", "timed", "free", "advance")), st.integers(0, 60)), max_size=80
        ),
    )
    @settings(deadline=None, max_examples=200)
    def test_inflight(self, weights: list[int], steps: list[tuple[str, int]]) -> None:
        """With the age of those under way, by the same loop over all servers."""
        bench = Bench(
            *(make_server(letter, weight, fail_timeout=1e6) for letter, weight in zip(LETTERS, weights, strict=False)),
            balance=INFLIGHT,
        )
        nginx = NginxLeastTime(bench.pool.servers, inflight=True)
        held: list[tuple[Lease, Peer, float]] = []
        chosen, expected = "", ""
        for what, which in steps:
            now = bench.clock.seconds()
            if what == "advance":
                bench.clock.advance(which / 64)
            elif what == "take":
                peer = nginx.get("", now)
                assert peer is not None
                nginx.waiting[peer].append(now)
                held.append((bench.pool.acquire(), peer, now))
                expected += peer.name
                chosen += host(held[-1][0].server)
            elif held:
                lease, peer, began = held.pop(which % len(held))
                if lease.waits:
                    nginx.waiting[peer].remove(began)
                if what == "timed":
                    if lease.waits:
                        nginx.measured(peer, now - began)
                    lease.timed("header")
                    held.append((lease, peer, began))
                else:
                    lease.release()
                    nginx.free(peer)
        self.assertEqual(chosen, expected)


class BoundTests(SynchronousTestCase):
    """What is kept grows with the servers, never with what happened to them; and one choice looks at few of them."""

    def test_kept(self) -> None:
        """Requests that came and went, were measured and hung leave nothing behind."""
        desk = Desk(*servers(a=1, b=2, c=3, d=1), balance=INFLIGHT)
        for number in range(3000):
            desk.need.update(a=number % 7, b=number % 5 / 9, c=number % 3 / 50)
            for lease in desk.hold(3):
                desk.clock.advance(0.013)
                desk.measure(lease.server)
                lease.release()
        method = desk.method
        heaps = [group.heap for level in method._levels.values() for group in level.groups.values()]
        self.assertLessEqual(len(method._due), 2 * 4 + 16)
        self.assertLessEqual(len(method._queue), 2 * 4 + 17)
        self.assertLessEqual(sum(map(len, heaps)), 200)

    def test_looks(self) -> None:
        """Many whose moment has come at once are looked at by and by."""
        desk = Desk(*(make_server(f"host{number}") for number in range(100)))
        for server in desk.pool.servers:
            desk.method.paces[server].chosen(0.0)
            desk.method.measured(server, 1.0, 0.0)
        desk.ask(1)
        desk.clock.advance(11.0)
        lengths = []
        for _ in range(3):
            desk.pool.acquire()
            lengths.append(sum(moment <= 11.0 for moment, _, _ in desk.method._due))
        self.assertEqual(lengths[0] - lengths[1], LOOKS)
        self.assertEqual(lengths[1] - lengths[2], LOOKS)
