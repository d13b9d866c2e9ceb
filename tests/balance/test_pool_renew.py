"""pylb.balance.pool: another configuration for a pool that serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods import maglev, places
from pylb.balance.pool import NoServerAvailable
from pylb.balance.server import Server
from pylb.model import METHODS, AgentCheck, Balance, HealthCheck, TcpCheck
from tests.balance.fakes import Bench, host, make_server
from tests.balance.test_sticky import Asks
from tests.balance.workers import Workers

CHECK = (TcpCheck(),)


def two(**asked: Any) -> list[Server]:
    return [make_server("a", **asked), make_server("b", **asked)]


class ServersTests(SynchronousTestCase):
    def test_nothing_new(self) -> None:
        """The same once more: everybody stays who they are, and their leases go on."""
        bench = Bench(*two(max_fails=2))
        bench.fail("a")
        held = bench.pool.acquire()
        servers = list(bench.pool.servers)
        stay = bench.again()
        self.assertEqual((bench.pool.servers, list(stay.values())), (servers, servers))
        self.assertEqual((held.server.active, servers[0].health.fails, bench.heard.news[1:]), (1, 1, []))
        held.release()
        self.assertEqual(held.server.active, 0)

    def test_who_comes(self) -> None:
        """A server that is new serves at once, wherever it was meant for before; it stands for nobody."""
        bench = Bench(make_server("a"))
        stay = bench.renew(make_server("a"), make_server("b"), make_server("c"))
        self.assertEqual(bench.serve(6), "abcabc")
        self.assertEqual([host(server) for server in stay], ["a"])

    def test_who_goes(self) -> None:
        """It gets nobody new; whoever has a lease of it can finish, in whatever way."""
        bench = Bench(make_server("a"), make_server("b"), balance="least_conn")
        leases = [bench.pool.acquire() for _ in range(4)]
        bench.renew(make_server("b"), make_server("c"))
        gone = next(lease.server for lease in leases if host(lease.server) == "a")
        ends = [lease for lease in leases if lease.server is gone]
        ends[0].failed("reset")
        ends[1].succeeded()
        for lease in leases:
            lease.release()
            lease.release()
        self.assertEqual(([server.active for server in bench.pool.servers], gone.active), ([0, 0], 0))
        self.assertEqual((bench.pool.active, bench.serve(4)), (0, "bcbc"))

    def test_nobody(self) -> None:
        """A pool may lose all of its servers, and get some again."""
        bench = Bench(*two())
        lease = bench.pool.acquire()
        bench.renew()
        self.assertRaises(NoServerAvailable, bench.pool.acquire)
        bench.renew(*two())
        lease.release()
        self.assertEqual((bench.serve(2), [server.active for server in bench.pool.servers]), ("ab", [0, 0]))

    def test_twice(self) -> None:
        """An address that stands twice is two servers, of which the first stays if it stands there once."""
        bench = Bench(make_server("a"), make_server("a"))
        first, _ = bench.pool.servers
        leases = [bench.pool.acquire() for _ in range(3)]
        bench.renew(make_server("b"), make_server("a"))
        self.assertIs(bench.pool.servers[1], first)
        for lease in leases:
            lease.release()
        self.assertEqual((bench.serve(4), first.active), ("baba", 0))
        bench.renew(make_server("a"), make_server("a"))
        self.assertIs(bench.pool.servers[0], first)
        self.assertEqual(len(set(bench.pool.servers)), 2)

    def test_weights(self) -> None:
        """Other weights count at once; an ejected server stays so, and what an agent leaves of a weight is left."""
        bench = Bench(*two(), make_server("c"), health_check=CHECK)
        bench.fail("a")
        bench.pool.reweigh(bench.server("b"), 0.5)
        bench.renew(make_server("a"), make_server("b", 4), make_server("c"))
        self.assertEqual(sorted(bench.serve(9)), list("bbbbbbccc"))
        self.assertEqual(bench.states, ["ejected 10s", "up", "up"])

    def test_limit(self) -> None:
        """A limit that is lowered holds until enough leases are back; one that is lifted holds nobody up."""
        bench = Bench(make_server("a", max_conns=3))
        leases = [bench.pool.acquire() for _ in range(3)]
        bench.renew(make_server("a", max_conns=2))
        leases.pop().release()
        self.assertRaises(NoServerAvailable, bench.pool.acquire)
        leases.pop().release()
        self.assertEqual(bench.serve(1), "a")
        leases.append(bench.pool.acquire())
        bench.renew(make_server("a"))
        leases.append(bench.pool.acquire())
        for lease in leases:
            lease.release()
        self.assertEqual(bench.server("a").active, 0)

    def test_backup(self) -> None:
        """Who becomes a backup serves when it must, and the other way round; leases count on."""
        bench = Bench(make_server("a"), make_server("b", backup=True), balance="least_conn")
        held = bench.pool.acquire()
        bench.renew(make_server("a", backup=True), make_server("b"))
        self.assertEqual(bench.serve(3), "bbb")
        held.release()
        bench.renew(*two())
        self.assertEqual(bench.serve(4), "abab")

    def test_switch(self) -> None:
        """Who was taken out by hand stays so until the file says something else of it."""
        bench = Bench(*two(), make_server("c"))
        bench.pool.switch(bench.server("a"), "down")
        bench.again()
        self.assertEqual(bench.serve(2), "bc")
        bench.renew(make_server("a"), make_server("b", drain=True), make_server("c"))
        self.assertEqual(bench.serve(2), "cc")
        bench.again(health_check=CHECK)
        self.assertEqual(bench.serve(2), "cc")
        bench.again(health_check=(*CHECK, AgentCheck()))
        self.assertEqual(sorted(bench.serve(2)), ["a", "c"])

    def test_checks_gone(self) -> None:
        """Without checks those that were unhealthy serve again, and count in full."""
        bench = Bench(*two(), health_check=(*CHECK, AgentCheck()))
        a, b = bench.pool.servers
        bench.pool.checked(a, "unhealthy", "")
        bench.pool.reweigh(b, 0.5)
        bench.again(health_check=())
        self.assertEqual(sorted(bench.serve(4)), list("aabb"))

    def test_mandatory(self) -> None:
        """Who is new waits for a mandatory check; the others are for the checks to say."""
        mandatory: tuple[HealthCheck, ...] = (TcpCheck(mandatory=True),)
        bench = Bench(*two())
        bench.renew(*two(), make_server("c"), health_check=mandatory)
        self.assertEqual(bench.states, ["up", "up", "checking"])

    def test_slow_start(self) -> None:
        """Who is new in a pool that has served starts slowly; where that is asked no more, all have their share."""
        bench = Bench(make_server("a"), make_server("b"))
        bench.serve(2)
        bench.renew(*two(), make_server("c", slow_start=100.0))
        self.assertLessEqual(bench.serve(20).count("c"), 1)
        bench.renew(*two(), make_server("c"))
        self.assertEqual(bench.serve(9).count("c"), 3)


class MethodTests(SynchronousTestCase):
    BALANCES = tuple(
        Balance(method=method, key="$arg_s", metric="last_byte", consistent=consistent, bounded_load=bounded, two=two)
        for method in METHODS
        for consistent, bounded, two in ((False, None, None), (True, 1.5, "least_conn"), (True, None, "least_time"))
    )

    def test_every_other(self) -> None:
        """From each method to each other: leases from before end well, and all serve."""
        self.patch(places, "LONG", 100)
        self.patch(maglev, "SLOTS", 251)
        for before in self.BALANCES:
            for after in self.BALANCES:
                bench = Bench(*two(max_conns=3), balance=before)
                leases = [bench.pool.acquire(Asks(arg_s=str(number))) for number in range(3)]
                bench.again(balance=after)
                leases += [bench.pool.acquire(Asks(arg_s=str(number))) for number in range(3)]
                for lease in leases:
                    lease.timed("last_byte")
                    lease.succeeded()
                    lease.release()
                counts = [(server.active, server.waiting, server.began) for server in bench.pool.servers]
                self.assertEqual(counts, [(0, 0, 0.0)] * 2, f"{before} {after}")
                self.assertEqual(len(bench.serve(3)), 3)

    def test_somebodys_own(self) -> None:
        """A method of one's own is not trusted from the moment that it chooses, and others are from theirs."""

        class Broken:
            def __init__(self, servers: object) -> None: ...

            add = remove = choose = __init__

        bench = Bench(*two())
        bench.again(balance=Balance(method="mine:Broken", own=Broken))
        self.assertRaises(NoServerAvailable, bench.pool.acquire)
        bench.again(balance=Balance())
        self.assertEqual(bench.serve(4), "abab")

    def test_leases_count(self) -> None:
        """A method that goes by leases knows of those from before."""
        bench = Bench(make_server("a"), make_server("b", down=True))
        for _ in range(3):
            bench.pool.acquire()
        bench.renew(*two(), balance=Balance(method="least_conn"))
        self.assertEqual(bench.serve(2), "bb")

    def test_key(self) -> None:
        """Another key counts although the places are the same."""
        balance = Balance(method="hash", key="$arg_s", consistent=True)
        bench = Bench(*map(make_server, "abcdefgh"), balance=balance)
        bench.again(balance=replace(balance, key="$arg_t"))
        served = {host(bench.pool.acquire(Asks(arg_s=str(n), arg_t="x")).server) for n in range(20)}
        self.assertEqual(len(served), 1)

    def test_inflight(self) -> None:
        """Whether those under way count in a server's time is as the file says now, for those that were known, too."""
        balance = Balance(method="least_time", metric="last_byte")
        bench = Bench(*two(), balance=balance)
        held = bench.pool.acquire()
        bench.again(balance=replace(balance, inflight=True))
        waits = bench.pool.acquire()
        bench.pool.acquire().release()
        bench.clock.advance(3)
        waits.timed("last_byte")
        self.assertTrue(held.waits)
        tier = bench.pool._tiers[0]
        paces: Any = tier.method
        self.assertEqual(paces.paces[held.server].milliseconds(3.0), 3020)

    def test_times(self) -> None:
        """Times that were measured still count, and grow old at the new pace."""
        balance = Balance(method="least_time", metric="last_byte")
        bench = Bench(*two(fail_timeout=9.0), balance=balance)
        lease = bench.pool.acquire()
        bench.clock.advance(1)
        lease.timed("last_byte")
        bench.renew(*two(fail_timeout=99.0))
        paces: Any = bench.pool._tiers[0].method
        self.assertEqual(paces.paces[lease.server].milliseconds(90.0), 1020)


class RetriesTests(SynchronousTestCase):
    def test_limit(self) -> None:
        """Retries that were under way count against a limit that is new."""
        bench = Bench(*two(), make_server("c"))
        first, second = bench.pool.acquire(), bench.pool.acquire()
        first.failed("reset")
        retry = bench.pool.acquire(after=first)
        bench.again(max_retries=1)
        self.assertRaises(NoServerAvailable, bench.pool.acquire, after=second)
        retry.release()
        self.assertEqual((bench.pool.acquire(after=second).tried, bench.pool.retries), ((second.server,), 1))


class WorkersTests(SynchronousTestCase):
    """Workers get another configuration one after the other."""

    def workers(self, **asked: Any) -> Workers:
        workers = Workers(lambda: two(**asked), count=2)
        workers.look()
        return workers

    def test_leases(self) -> None:
        """They count each other's before, between and afterwards; those of a server that goes, too."""
        workers = self.workers()
        first, second = workers.benches
        leases = [bench.pool.acquire() for bench in workers.benches for _ in range(2)]
        first.renew(*two(), make_server("c"))
        workers.look()
        self.assertEqual((workers.active(), workers.active("b")), ([2, 2], [2, 2]))
        second.renew(make_server("c"), make_server("a"))
        first.renew(make_server("a"), make_server("c"))
        leases.append(second.pool.acquire())
        workers.look()
        self.assertEqual((workers.active(), workers.active("c")), ([2, 2], [1, 1]))
        for lease in leases:
            lease.release()
        workers.look()
        self.assertEqual((workers.active(), workers.active("c")), ([0, 0], [0, 0]))

    def test_limit(self) -> None:
        """A limit that is new holds for what all have."""
        workers = self.workers()
        first, second = workers.benches
        for bench in (first, first, second, second):
            bench.pool.acquire()
        first.renew(*two(max_conns=2))
        self.assertRaises(NoServerAvailable, first.pool.acquire)

    def test_ejected(self) -> None:
        """Who is out stays so at all of them, while one has the new configuration already and the others have not."""
        workers = self.workers()
        workers.benches[0].fail("a")
        workers.look()
        for bench in workers.benches:
            bench.renew(*two(fail_timeout=20.0), make_server("c"))
            workers.look()
            self.assertEqual([bench.server("a").status for bench in workers.benches], ["unavail"] * 2)
