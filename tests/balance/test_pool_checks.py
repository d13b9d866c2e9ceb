"""Tests of pylb.balance.pool: what active checks, and the servers' own agents, say of servers."""

from __future__ import annotations

from collections import Counter

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.server import Server
from pylb.model import Balance, PoolSpec, StickyRoute, TcpCheck
from tests.balance.fakes import Bench, host, make_server

KEYED = Balance(method="hash", key="$remote_addr")


class Asking:
    """A request of which every variable is the same."""

    def __init__(self, said: str) -> None:
        self._said = said.encode()

    def variable(self, name: str) -> bytes:
        return self._said


class CheckedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(make_server("a"), make_server("b"))
        self.pool = self.bench.pool
        self.a, self.b = self.pool.servers

    def test_unhealthy(self) -> None:
        """A server that is unhealthy serves nobody until it has passed."""
        self.pool.checked(self.a, "unhealthy", "status 500")
        self.assertEqual(self.bench.serve(3), "bbb")
        self.pool.checked(self.a, "passed", "checks passed")
        self.assertEqual(Counter(self.bench.serve(10)), {"a": 5, "b": 5})

    def test_checking(self) -> None:
        """Nor does one that has not been seen yet."""
        self.pool.checked(self.a, "checking", "more to come")
        self.assertEqual(self.bench.serve(2), "bb")

    def test_news(self) -> None:
        """Each change is news once, with its reason."""
        for to in ("unhealthy", "unhealthy", "passed", "passed"):
            self.pool.checked(self.a, to, "a reason")
        self.assertEqual(self.bench.heard.news, ["a checked: a reason"] * 2)

    def test_nobody_left(self) -> None:
        """When all are unhealthy the pool refuses, and says why: there is nobody who could serve."""
        for server in (self.a, self.b):
            self.pool.checked(server, "unhealthy", "status 500")
        refused = self.assertRaises(NoServerAvailable, self.pool.acquire)
        self.assertEqual(str(refused), "pool web: no usable server: a:80 unhealthy, b:80 unhealthy")

    def test_lone(self) -> None:
        """What clients find out never takes a lone server out; what checks find out does."""
        bench = Bench(make_server("a"))
        bench.fail("a")
        self.assertEqual(bench.serve(1), "a")
        bench.pool.checked(bench.server("a"), "unhealthy", "status 500")
        self.assertRaises(NoServerAvailable, bench.pool.acquire)

    def test_backups_step_in(self) -> None:
        """Backups serve while every primary is unhealthy."""
        bench = Bench(make_server("a"), make_server("x", backup=True))
        bench.pool.checked(bench.server("a"), "unhealthy", "status 500")
        self.assertEqual(bench.serve(2), "xx")

    def test_what_it_has_goes_on(self) -> None:
        """Leases that were given before stay valid and are counted."""
        lease = self.pool.acquire()
        self.pool.checked(lease.server, "unhealthy", "status 500")
        self.assertEqual(lease.server.active, 1)
        lease.succeeded()
        lease.release()
        self.assertEqual((lease.server.active, lease.server.status), (0, "unhealthy"))

    def test_success_does_not_heal(self) -> None:
        """A client that succeeds says nothing against a check."""
        self.bench.fail("a")
        self.pool.checked(self.a, "unhealthy", "status 500")
        self.bench.clock.advance(11.0)
        self.assertEqual(self.bench.serve(4), "bbbb")

    def test_clean_slate(self) -> None:
        """One that comes back is not asked to pass another trial: failures from before are older than the check."""
        self.bench.fail("a")
        self.pool.checked(self.a, "unhealthy", "status 500")
        self.pool.checked(self.a, "passed", "checks passed")
        self.assertEqual((self.a.status, set(self.bench.serve(6))), ("up", {"a", "b"}))

    def test_ejected_and_never_unhealthy(self) -> None:
        """A check that goes on passing does not let in whom clients have found wrong."""
        self.bench.fail("a")
        self.pool.checked(self.a, "passed", "checks passed")
        self.assertEqual((self.a.status, self.bench.serve(3)), ("unavail", "bbb"))

    def test_gone(self) -> None:
        """A server that has left the pool is no news, and keeps what it was."""
        self.pool.replace([self.b])
        self.pool.checked(self.a, "unhealthy", "status 500")
        self.assertEqual((self.a.checked, self.bench.heard.news), ("passed", []))

    def test_replaced(self) -> None:
        """Who stays when others come is still what it was found to be."""
        self.pool.checked(self.a, "unhealthy", "status 500")
        self.pool.replace([*self.pool.servers, make_server("c")])
        self.assertEqual(Counter(self.bench.serve(6)), {"b": 3, "c": 3})

    def test_methods_of_keys(self) -> None:
        """A hash finds another server for the keys of one that is unhealthy, and goes back afterwards."""
        bench = Bench(make_server("a"), make_server("b"), balance=KEYED)
        requests = [Asking(f"10.0.0.{number}") for number in range(20)]

        def placed() -> str:
            leases = [bench.pool.acquire(request) for request in requests]
            for lease in leases:
                lease.release()
            return "".join(host(lease.server) for lease in leases)

        before = placed()
        bench.pool.checked(bench.server("a"), "unhealthy", "status 500")
        self.assertEqual((set(before), set(placed())), ({"a", "b"}, {"b"}))
        bench.pool.checked(bench.server("a"), "passed", "checks passed")
        self.assertEqual(placed(), before)


class SlowStartTests(SynchronousTestCase):
    """Server b has a slow start of 10 s."""

    def setUp(self) -> None:
        self.bench = Bench(make_server("a"), make_server("b", slow_start=10.0))
        self.b = self.bench.server("b")

    def halfway(self) -> Counter[str]:
        self.bench.clock.advance(5.0)
        return Counter(self.bench.serve(300))

    def test_unhealthy(self) -> None:
        """One that was unhealthy starts slowly, from the moment at which it passed."""
        self.bench.pool.checked(self.b, "unhealthy", "status 500")
        self.bench.clock.advance(100.0)
        self.bench.pool.checked(self.b, "passed", "checks passed")
        self.assertEqual(self.halfway(), {"a": 200, "b": 100})

    def test_never_served(self) -> None:
        """At the start nothing starts slowly, however long the first check takes."""
        self.b.checked = "checking"
        self.bench.pool.checked(self.b, "passed", "checks passed")
        self.assertEqual(self.halfway(), {"a": 150, "b": 150})

    def test_added(self) -> None:
        """One that was added and had to pass first starts slowly when it has passed, not while it waits."""
        bench = Bench(make_server("a"))
        bench.serve(1)
        c = make_server("c", slow_start=10.0)
        bench.pool.replace([*bench.pool.servers, c])
        bench.pool.checked(c, "checking", "to be seen")
        bench.clock.advance(100.0)
        bench.pool.checked(c, "passed", "checks passed")
        bench.clock.advance(5.0)
        self.assertEqual(Counter(bench.serve(300)), {"a": 200, "c": 100})


class MandatoryTests(SynchronousTestCase):
    def pool(self, *servers: Server) -> Pool:
        checks = (TcpCheck(), TcpCheck(mandatory=True))
        return Pool(PoolSpec(name="web", servers=(), health_check=checks), servers, Clock().seconds)

    def test_at_the_start(self) -> None:
        """Nobody serves before a mandatory check has passed."""
        pool = self.pool(make_server("a"))
        refused = self.assertRaises(NoServerAvailable, pool.acquire)
        self.assertEqual(str(refused), "pool web: no usable server: a:80 checking")
        pool.checked(pool.servers[0], "passed", "checks passed")
        pool.acquire().release()

    def test_added(self) -> None:
        """Who is added waits; who was there goes on."""
        a, b = make_server("a"), make_server("b")
        pool = self.pool(a)
        pool.checked(a, "passed", "checks passed")
        pool.replace([a, b])
        self.assertEqual((a.status, b.status), ("up", "checking"))


class ReweighTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(make_server("a", 2), make_server("b", 1))
        self.a, self.b = self.bench.pool.servers

    def test_share(self) -> None:
        """A server counts for the part of its weight that its agent names, also for more than all of it."""
        for share, served in ((0.5, {"a": 200, "b": 200}), (0.25, {"a": 100, "b": 200}), (2.0, {"a": 400, "b": 100})):
            self.bench.pool.reweigh(self.a, share)
            self.assertEqual(Counter(self.bench.serve(sum(served.values()))), served)

    def test_back(self) -> None:
        """With its whole weight again all is as before."""
        self.bench.pool.reweigh(self.a, 0.1)
        self.bench.pool.reweigh(self.a, 1.0)
        self.assertEqual((self.a.weight, self.b.weight, self.bench.serve(6)), (2, 1, "abaaba"))

    def test_nothing(self) -> None:
        """For nothing it drains: nobody new gets it, and the others keep their weights."""
        self.bench.pool.reweigh(self.a, 0.0)
        self.assertEqual((self.bench.serve(3), self.a.status, self.b.weight), ("bbb", "draining", 1))
        self.bench.pool.reweigh(self.a, 1.0)
        self.assertEqual((self.bench.serve(3), self.a.status), ("aba", "up"))

    def test_those_that_belong(self) -> None:
        """A session that belongs to a server gets it for nothing, too."""
        spec = PoolSpec(name="web", servers=(), sticky=StickyRoute(variables=("$arg_node",)))
        a, b = make_server("a", route="a"), make_server("b", route="b")
        pool = Pool(spec, [a, b], Clock().seconds)
        pool.reweigh(a, 0.0)
        request = Asking("a")
        self.assertIs(pool.acquire(request).server, a)
        self.assertEqual({host(pool.acquire().server) for _ in range(4)}, {"b"})

    def test_others_join(self) -> None:
        """Who joins while somebody counts for a part has a share beside it."""
        self.bench.pool.reweigh(self.a, 0.5)
        self.bench.pool.replace([*self.bench.pool.servers, make_server("c", 2)])
        self.assertEqual(Counter(self.bench.serve(400)), {"a": 100, "b": 100, "c": 200})

    def test_least_conn(self) -> None:
        """Methods of load count with the part, too."""
        bench = Bench(make_server("a", 4), make_server("b", 4), balance="least_conn")
        bench.pool.reweigh(bench.server("a"), 0.25)
        leases = [bench.pool.acquire() for _ in range(10)]
        self.assertEqual(Counter(host(lease.server) for lease in leases), {"a": 2, "b": 8})
        bench.pool.reweigh(bench.server("a"), 1.0)
        leases += [bench.pool.acquire() for _ in range(6)]
        self.assertEqual(Counter(host(lease.server) for lease in leases), {"a": 8, "b": 8})

    def test_slow_start_goes_on(self) -> None:
        """A server that starts slowly goes on from where it was."""
        bench = Bench(make_server("a"), make_server("b", slow_start=10.0))
        bench.pool.checked(bench.server("b"), "unhealthy", "status 500")
        bench.pool.checked(bench.server("b"), "passed", "checks passed")
        bench.clock.advance(5.0)
        bench.pool.reweigh(bench.server("a"), 0.5)
        self.assertEqual(Counter(bench.serve(300)), {"a": 150, "b": 150})

    def test_places(self) -> None:
        """Where each has its place a part changes nothing, and nothing drains."""
        for balance in (KEYED, "ip_hash", "first", Balance(method="maglev", key="$remote_addr")):
            bench = Bench(make_server("a", 2), make_server("b"), balance=balance)
            a = bench.server("a")
            request = next(
                request
                for request in (Asking(f"10.0.{number}.1") for number in range(50))
                if bench.pool.acquire(request).server is a
            )
            for share, served in ((0.25, "a"), (0.0, "b"), (1.0, "a")):
                bench.pool.reweigh(a, share)
                self.assertEqual((host(bench.pool.acquire(request).server), a.weight), (served, 2))

    def test_news(self) -> None:
        """Each share is news once; that a server drains, or does no more, is a switch."""
        for share in (0.5, 0.5, 0.0, 0.0, 0.3):
            self.bench.pool.reweigh(self.a, share, "its agent")
        news = ["a weighed: 0.5", "a switched: drain: its agent", "a switched: up: its agent"]
        self.assertEqual(self.bench.heard.news, news)

    def test_gone(self) -> None:
        """A server that has left the pool is not weighed."""
        self.bench.pool.replace([self.b])
        self.bench.pool.reweigh(self.a, 0.0)
        self.assertEqual((self.a.share, self.bench.heard.news), (1.0, []))
