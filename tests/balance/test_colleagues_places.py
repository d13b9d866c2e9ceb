"""Tests of pylb.balance.colleagues: which servers are the same, where they stand, and what a look costs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.colleagues import LAG
from pylb.balance.server import Server
from pylb.model import InetAddress
from tests.balance.fakes import make_server, server_spec
from tests.balance.test_pool_cost import lines
from tests.balance.workers import Workers


class SameServerTests(SynchronousTestCase):
    """Workers may know of different servers, in any order."""

    def workers(self, *names: str, places: int = 8) -> Workers:
        """Each with the servers of one word."""
        words = list(names)
        return Workers(lambda: [make_server(letter) for letter in words.pop(0)], count=len(names), places=places)

    def replace(self, workers: Workers, row: int, letters: str) -> None:
        """Let a worker have these servers: those that it had, or others."""
        pool = workers.benches[row].pool
        known = {server.name: server for server in pool.servers}
        servers = [make_server(letter) for letter in letters]
        pool.replace([known.get(server.name, server) for server in servers])

    def counted(self, workers: Workers) -> list[dict[str, int]]:
        """How many leases of each server each worker counts."""
        workers.look()
        return [{server.name[0]: server.active for server in bench.pool.servers} for bench in workers.benches]

    def test_order(self) -> None:
        """It is the address that counts, not where it stands in the pool."""
        workers = self.workers("abc", "cab")
        workers.benches[0].pool.acquire()
        self.assertEqual(self.counted(workers), [{"a": 1, "b": 0, "c": 0}, {"c": 0, "a": 1, "b": 0}])

    def test_unknown(self) -> None:
        """A server that another worker does not have is nobody else's."""
        workers = self.workers("ab", "bc")
        for bench in workers.benches:
            bench.pool.acquire()
            bench.pool.acquire()
        self.assertEqual(self.counted(workers), [{"a": 1, "b": 2}, {"b": 2, "c": 1}])

    def test_found_later(self) -> None:
        """When it comes to have it, it counts what others hold already, and they count what it holds."""
        workers = self.workers("ab", "ab")
        workers.benches[0].pool.acquire()
        workers.look()
        self.replace(workers, 1, "cba")
        self.replace(workers, 0, "cab")
        for _ in range(3):
            workers.benches[1].pool.acquire()
        self.assertEqual(self.counted(workers), [{"c": 1, "a": 2, "b": 1}, {"c": 1, "b": 1, "a": 2}])

    def test_left_at_one(self) -> None:
        """A server that one worker has lost counts for the others as long as it has leases there."""
        workers = self.workers("ab", "ab")
        held = workers.benches[0].pool.acquire()
        self.replace(workers, 0, "bc")
        before = self.counted(workers)[1]
        held.release()
        after = self.counted(workers)[1]
        self.assertEqual((before, after), ({"a": 1, "b": 0}, {"a": 0, "b": 0}))

    def test_place_taken_again(self) -> None:
        """A place that was left and taken again is not mistaken for the one before."""
        workers = self.workers("ab", "abc", places=3)
        workers.look()
        for letters in ("b", "bc"):
            self.replace(workers, 0, letters)
        for _ in range(2):
            workers.benches[0].pool.acquire()
        self.assertEqual(self.counted(workers)[1], {"a": 0, "b": 1, "c": 1})
        self.assertEqual(workers.board.rows[0].used, 2)

    def test_place_kept(self) -> None:
        """As long as there are leases the place is not given to another."""
        workers = self.workers("a", "ab", places=2)
        held = workers.benches[0].pool.acquire()
        self.replace(workers, 0, "b")
        workers.benches[0].pool.acquire()
        during = self.counted(workers)
        held.release()
        self.assertEqual((during, self.counted(workers)), ([{"b": 1}, {"a": 1, "b": 1}], [{"b": 1}, {"a": 0, "b": 1}]))

    def test_comes_back(self) -> None:
        """A server that is there again counts the leases from before, at other workers."""
        workers = self.workers("ab", "ab")
        workers.benches[0].pool.acquire()
        for letters in ("b", "ba"):
            self.replace(workers, 0, letters)
        workers.benches[0].pool.acquire()
        workers.benches[0].pool.acquire()
        self.assertEqual(self.counted(workers)[1], {"a": 2, "b": 1})

    def test_no_place(self) -> None:
        """A server without a place is its worker's alone, until there is one."""
        workers = self.workers("ab", "ab", places=1)
        for bench in workers.benches:
            bench.pool.acquire()
            bench.pool.acquire()
        before = self.counted(workers)
        for row in (0, 1):
            for letters in ("b", "b"):
                self.replace(workers, row, letters)
        held = self.counted(workers)
        self.assertEqual((before, held), ([{"a": 2, "b": 1}] * 2, [{"b": 1}] * 2))

    def test_place_at_last(self) -> None:
        """Then the leases that it has already count for all."""
        workers = self.workers("ab", "ab", places=1)
        workers.benches[0].serve(1)
        workers.benches[0].pool.acquire()
        for row in (0, 1):
            self.replace(workers, row, "b")
        self.assertEqual(self.counted(workers), [{"b": 1}] * 2)

    def test_twice_in_the_file(self) -> None:
        """Of lines with the same address the first are the same at all workers, and so are the second."""
        workers = self.workers("aa", "aa")
        held = workers.benches[0].pool.acquire()
        workers.look()
        before = [server.active for server in workers.benches[1].pool.servers]
        held.release()
        for bench in workers.benches:
            bench.pool.replace(bench.pool.servers[1:])
        workers.benches[0].pool.acquire()
        self.assertEqual((before, self.counted(workers)), ([1, 0], [{"a": 1}, {"a": 1}]))

    def test_first_of_two_lines_left(self) -> None:
        """If one worker has lost the first line, what others hold of the second is nobody's there."""
        workers = self.workers("aa", "aa")
        one, two = (bench.pool for bench in workers.benches)
        one.replace(one.servers[1:])
        for _ in range(3):
            two.acquire()
        self.assertEqual([server.active for server in two.servers], [2, 1])
        self.assertEqual(self.counted(workers)[0], {"a": 2})

    def test_ejected_while_away(self) -> None:
        """A server that comes back, or has its place late, brings along what its worker knows."""
        workers = self.workers("ab", "ab")
        one = workers.benches[0]
        known = one.pool.servers
        one.pool.replace(known[1:])
        for _ in range(2):
            known[0].health.failed(0, 0.0)
        one.pool.replace(known)
        workers.look()
        self.assertEqual(workers.benches[1].serve(3), "bbb")

    def test_name_not_found(self) -> None:
        """A host name that has not been found stands nowhere; its addresses do."""
        spec = server_spec("app")
        workers = Workers(lambda: [Server(spec, missing=True), make_server("a")])
        used = workers.board.rows[0].used
        for bench in workers.benches:
            bench.pool.replace([Server(spec, InetAddress("x", 80)), bench.server("a")])
        for _ in range(2):
            workers.benches[0].pool.acquire()
        self.assertEqual((used, self.counted(workers)), (1, [{"x": 1, "a": 1}] * 2))


class CostTests(SynchronousTestCase):
    """What a look costs, in lines of Python."""

    def workers(self, count: int) -> Workers:
        servers = lambda: [make_server(f"host{number}") for number in range(count)]  # noqa: E731
        workers = Workers(servers, places=count, balance="least_conn")
        workers.look()
        return workers

    def look(self, workers: Workers) -> int:
        return lines(lambda: workers.colleagues[1].look(0.0))

    def test_nothing_changed(self) -> None:
        """When nothing has changed, next to nothing and the same for 10,000 servers as for 10."""
        small, large = (self.look(self.workers(count)) for count in (10, 10_000))
        self.assertEqual(small, large)
        self.assertLess(large, 40)

    def test_one_changed(self) -> None:
        """When one has, what this one costs, and a comparison for each hundred of the others."""
        costs = []
        for count in (10, 10_000):
            workers = self.workers(count)
            workers.benches[0].pool.acquire()
            costs.append(self.look(workers))
        self.assertLess(costs[1], costs[0] + 4 * 10_000 / 100)

    def test_requests(self) -> None:
        """Between two looks a request does not know that there are others."""
        costs = []
        for workers in (self.workers(10), self.workers(10_000)):
            bench = workers.benches[0]
            bench.serve(1)
            costs.append(lines(lambda: bench.serve(20)))  # noqa: B023
            workers.clock.advance(LAG * 1.5)
        self.assertLess(costs[1], 2 * costs[0])
