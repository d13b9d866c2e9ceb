"""Tests of pylb.balance.pool: who serves."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import NoServerAvailable, Pool, make_pool
from pylb.balance.server import Server
from pylb.model import Balance, PoolSpec, UnixAddress
from tests.balance.fakes import Bench, host, make_server, server_spec


class OrderTests(SynchronousTestCase):
    def test_five_one_one(self) -> None:
        """Weights 5, 1, 1 give nginx's order."""
        bench = Bench(make_server("a", 5), make_server("b"), make_server("c"))
        self.assertEqual(bench.serve(14), "aabacaa" * 2)

    def test_mysql(self) -> None:
        """Two read replicas 5 to 1 with a backup: the backup serves nobody while they are well."""
        bench = Bench(make_server("a", 5), make_server("b"), make_server("x", backup=True))
        self.assertEqual(bench.serve(12), "aaabaa" * 2)

    def test_backups_by_weight(self) -> None:
        """Backups serve by the same method and their own weights."""
        bench = Bench(make_server("a", down=True), make_server("x", 2, backup=True), make_server("y", 1, backup=True))
        self.assertEqual(bench.serve(6), "xyx" * 2)

    def test_down(self) -> None:
        """A server that is marked down never serves."""
        bench = Bench(make_server("a"), make_server("b", 5, down=True), make_server("c"))
        self.assertEqual(bench.serve(4), "acac")

    def test_ejected_and_back(self) -> None:
        """A server that failed gets nothing for fail_timeout, then one trial, and its share again when that is well.

        As in nginx it gains nothing in the first round.
        """
        bench = Bench(make_server("a"), make_server("b"), make_server("c"))
        bench.fail("a")
        within = bench.serve(4)
        bench.clock.advance(10.5)
        self.assertEqual((within, bench.serve(7)), ("bcbc", "bcbcabc"))

    def test_full_and_back(self) -> None:
        """A server at max_conns gets nothing until a lease is released."""
        bench = Bench(make_server("a", max_conns=1), make_server("b"))
        held = bench.pool.acquire()
        while_full = bench.serve(3)
        held.release()
        self.assertEqual((host(held.server), while_full, bench.serve(4)), ("a", "bbb", "baba"))

    def test_max_conns(self) -> None:
        """Servers are filled up to their limit, the others take the rest."""
        bench = Bench(make_server("a", 5, max_conns=2), make_server("b"))
        leases = [bench.pool.acquire() for _ in range(6)]
        self.assertEqual("".join(host(lease.server) for lease in leases), "aabbbb")

    def test_somebodys_own_method(self) -> None:
        """A method of one's own can be one function over a list that the pool keeps for it."""

        class Last:
            def __init__(self, servers: object) -> None:
                self.usable: list[Server] = []
                self.add, self.remove = self.usable.append, self.usable.remove

            def choose(self, request: object, tried: object, now: float) -> Server:
                return self.usable[-1]

        spec = PoolSpec(name="web", servers=(), balance=Balance(method="mine:Last", own=Last))
        pool = Pool(spec, [make_server("a"), make_server("b", max_conns=1)], lambda: 0.0)
        self.assertEqual([host(pool.acquire().server) for _ in range(3)], ["b", "a", "a"])

    def test_own_method_that_cannot_be_made(self) -> None:
        """Its error is told with its name."""

        class Broken:
            def __init__(self) -> None: ...

        spec = PoolSpec(name="web", servers=(), balance=Balance(method="mine:Broken", own=Broken))
        error = self.assertRaises(ValueError, Pool, spec, [make_server("a")], lambda: 0.0)
        self.assertRegex(str(error), "^balancing method mine:Broken cannot be made of a list of servers: TypeError: ")

    def test_own_method_that_breaks(self) -> None:
        """One that raises, or chooses nobody, serves nobody: it is counted, told once a minute, and nothing is held."""
        answers: list[object] = []

        class Broken:
            def __init__(self, servers: object) -> None: ...

            add = remove = __init__

            def choose(self, request: object, tried: object, now: float) -> object:
                if answers[0] is None or isinstance(answers[0], Server | list):
                    return answers[0]
                raise KeyError(answers[0])

        bench = Bench(make_server("a"), make_server("b"), balance=Balance(method="mine:Broken", own=Broken))
        [a, b] = bench.pool.servers
        answers[:] = [a]
        lease = bench.pool.acquire()
        lease.failed("refused")
        bench.clock.advance(1)
        del bench.heard.news[:]
        for wrong in ("x", None, [], make_server("c")):
            answers[:] = [wrong]
            for after in (None, lease):
                self.assertRaises(NoServerAvailable, bench.pool.acquire, after=after)
            bench.clock.advance(15)
        self.assertEqual((a.active, b.active, bench.pool.refused, lease.judged), (1, 0, 8, True))
        self.assertEqual(bench.heard.news, ["web broken: KeyError('x')"])
        self.assertRaises(NoServerAvailable, bench.pool.acquire)
        self.assertEqual(len(bench.heard.news), 2)
        answers[:] = [b]
        self.assertIs(bench.pool.acquire(after=lease).server, b)


class BackupTests(SynchronousTestCase):
    """Backups serve when no primary is usable, and stop as soon as one is."""

    def setUp(self) -> None:
        self.bench = Bench(make_server("a", max_conns=2), make_server("b", max_conns=2), make_server("x", backup=True))

    def test_one_primary_is_enough(self) -> None:
        """While one primary is left the backup is not asked."""
        self.bench.fail("a")
        self.assertEqual(self.bench.serve(3), "bbb")

    def test_failed(self) -> None:
        """Primaries that were ejected are stood in for until their pause is over."""
        self.bench.fail("ab")
        before = self.bench.serve(2)
        self.bench.clock.advance(10.5)
        self.assertEqual((before, self.bench.serve(4)), ("xx", "bbab"))

    def test_down(self) -> None:
        """Primaries that are down are stood in for."""
        bench = Bench(make_server("a", down=True), make_server("x", backup=True))
        self.assertEqual(bench.serve(2), "xx")

    def test_full(self) -> None:
        """Primaries that are full are stood in for until one has a free place."""
        held = [self.bench.pool.acquire() for _ in range(4)]
        before = self.bench.serve(2)
        held[1].release()
        self.assertEqual((before, self.bench.serve(2)), ("xx", "bb"))

    def test_during_a_trial(self) -> None:
        """While every primary is on trial all others go to the backup; the first that is well serves."""
        self.bench.fail("ab")
        self.bench.clock.advance(10.5)
        trials = {host(lease.server): lease for lease in (self.bench.pool.acquire(), self.bench.pool.acquire())}
        before = self.bench.serve(2)
        trials["a"].succeeded()
        self.assertEqual((before, self.bench.serve(2)), ("xx", "aa"))

    def test_backup_ejected(self) -> None:
        """A backup that fails is ejected like everybody."""
        self.bench.fail("abx")
        self.assertRaises(NoServerAvailable, self.bench.pool.acquire)


class RetryTests(SynchronousTestCase):
    """`after` is the lease of the try before."""

    def tries(self, bench: Bench) -> str:
        """Everybody that one request is sent to, when all decline without failing."""
        seen, lease = "", bench.pool.acquire()
        while True:
            seen += host(lease.server)
            try:
                lease = bench.pool.acquire(after=lease)
            except NoServerAvailable as error:
                return f"{seen}: {error}"

    def test_each_server_once(self) -> None:
        """A request visits every usable server once, the backups last, and is told when it has seen them all."""
        bench = Bench(
            make_server("a"), make_server("x", backup=True), make_server("b", 3), make_server("y", backup=True)
        )
        self.assertEqual(self.tries(bench), "baxy: pool web: every usable server was tried")

    def test_not_usable_ones_are_passed_over(self) -> None:
        """A retry asks nobody whom a first try would not ask."""
        bench = Bench(make_server("a"), make_server("b", down=True), make_server("c"))
        self.assertEqual(self.tries(bench), "ac: pool web: every usable server was tried")

    def test_ejected_meanwhile(self) -> None:
        """A try that failed does not count twice, as tried and as ejected, when the rest is counted."""
        bench = Bench(make_server("a"), make_server("b"))
        first = bench.pool.acquire()
        first.failed("refused")
        self.assertEqual(host(bench.pool.acquire(after=first).server), "b")

    def test_tried(self) -> None:
        """A lease knows the servers that its request was at before."""
        bench = Bench(make_server("a"), make_server("b"), make_server("c"))
        first = bench.pool.acquire()
        third = bench.pool.acquire(after=bench.pool.acquire(after=first))
        self.assertEqual("".join(host(server) for server in third.tried), "ab")

    def test_returned_meanwhile(self) -> None:
        """A primary that became usable while a backup was tried is asked before the next backup."""
        bench = Bench(make_server("a", max_conns=1), make_server("x", backup=True), make_server("y", backup=True))
        held = bench.pool.acquire()
        lease = bench.pool.acquire()
        held.release()
        self.assertEqual((host(lease.server), host(bench.pool.acquire(after=lease).server)), ("x", "a"))


class LoneServerTests(SynchronousTestCase):
    """There is nobody else to ask."""

    def test_never_ejected(self) -> None:
        """The only server of a pool goes on serving, however often it fails."""
        bench = Bench(make_server("a"))
        bench.fail("aaaaa")
        self.assertEqual((bench.serve(2), bench.server("a").failures), ("aa", 5))
        self.assertEqual(bench.heard.news, ["a tolerated: refused"])

    def test_down(self) -> None:
        """Down is obeyed."""
        self.assertRaises(NoServerAvailable, Bench(make_server("a", down=True)).pool.acquire)

    def test_full(self) -> None:
        """So is max_conns."""
        bench = Bench(make_server("a", max_conns=1))
        bench.pool.acquire()
        self.assertRaises(NoServerAvailable, bench.pool.acquire)

    def test_not_tried_twice(self) -> None:
        """A request that failed at it is not sent to it again."""
        pool = Bench(make_server("a")).pool
        self.assertRaises(NoServerAvailable, pool.acquire, after=pool.acquire())

    def test_with_a_backup(self) -> None:
        """A primary with a backup is not alone."""
        bench = Bench(make_server("a"), make_server("x", backup=True))
        bench.fail("a")
        self.assertEqual(bench.serve(1), "x")

    def test_with_one_that_is_down(self) -> None:
        """Nor is one beside a server that is down: as in nginx the pool's servers count, not the usable ones."""
        bench = Bench(make_server("a"), make_server("b", down=True))
        bench.fail("a")
        self.assertRaises(NoServerAvailable, bench.pool.acquire)


class MakePoolTests(SynchronousTestCase):
    def test_as_written(self) -> None:
        """Every server of the specification becomes one of the pool, Unix sockets too, in the order written."""
        unix = server_spec("a")
        spec = PoolSpec(
            name="web",
            servers=(server_spec("10.0.0.1"), type(unix)(address=UnixAddress("/run/a.sock")), server_spec("::1")),
        )
        pool = make_pool(spec, lambda: 0.0)
        self.assertEqual(
            (pool.name, [server.name for server in pool.servers]),
            ("web", ["10.0.0.1:80", "unix:/run/a.sock", "[::1]:80"]),
        )

    def test_names(self) -> None:
        """A host name is down until somebody has looked it up."""
        pool = make_pool(PoolSpec(name="web", servers=(server_spec("app.example.com"),)), lambda: 0.0)
        self.assertEqual(repr(pool.servers), "[<Server app.example.com:80 not found, 0 active>]")

    def test_unobserved(self) -> None:
        """Nobody needs to watch a pool."""
        servers = (server_spec("10.0.0.1"), server_spec("10.0.0.2", down=True))
        pool = make_pool(PoolSpec(name="web", servers=servers), lambda: 0.0)
        pool.acquire().failed("refused")
        self.assertRaises(NoServerAvailable, pool.acquire)

    def test_repr(self) -> None:
        """The repr says how many servers of the pool can be used."""
        bench = Bench(make_server("a"), make_server("b"), make_server("x", backup=True))
        bench.fail("a")
        self.assertEqual(repr(bench.pool), "<Pool web: 2 of 3 usable>")
