"""pylb.balance.pool: a session gets the server that it belongs to."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.server import Server, Switch
from pylb.model import Balance, PoolSpec, StickyLearn, StickyRoute
from tests.balance.fakes import host, make_server
from tests.balance.test_sticky import Asks

METHODS = ("round_robin", "least_conn", "ip_hash", "random", "first")


class Sessions:
    """A pool of servers a, b, ... whose route is their letter; `$arg_r` names it."""

    def __init__(self, *servers: Server, strict: bool = False, method: str = "round_robin") -> None:
        self.clock = Clock()
        sticky = StickyRoute(variables=("$arg_r",), strict=strict)
        spec = PoolSpec(name="web", servers=(), balance=Balance(method=method), sticky=sticky)
        self.pool = Pool(spec, servers, self.clock.seconds)

    def lease(self, route: str = "", after: Lease | None = None) -> Lease:
        return self.pool.acquire(Asks(arg_r=route), after)

    def serve(self, routes: str) -> str:
        """Who serves sessions of these routes, one after the other; `.` is a new one, `-` is nobody."""
        return "".join(map(self._serve_one, routes))

    def _serve_one(self, route: str) -> str:
        try:
            lease = self.lease(route.strip("."))
        except NoServerAvailable:
            return "-"
        lease.release()
        return host(lease.server)


def server(letter: str, **asked: Any) -> Server:
    return make_server(letter, route=letter, **asked)


class BoundTests(SynchronousTestCase):
    def test_every_method(self) -> None:
        """Whatever the method is, a session gets its server, and new ones do not suffer."""
        for method in METHODS:
            sessions = Sessions(server("a"), server("b"), server("c"), method=method)
            self.assertEqual(sessions.serve("bbcaab"), "bbcaab", method)
            self.assertNotIn("-", sessions.serve("...."))

    def test_unknown(self) -> None:
        """A route that nobody has is a new session, with `strict` too."""
        for strict in (False, True):
            self.assertEqual(Sessions(server("a"), server("b"), strict=strict).serve("xx"), "ab")

    def test_drain(self) -> None:
        """A server that drains serves its own sessions and nobody else."""
        for strict in (False, True):
            self.assertEqual(Sessions(server("a", drain=True), server("b"), strict=strict).serve("..aa."), "bbaab")

    def test_drains_alone(self) -> None:
        """Also when new sessions are refused."""
        self.assertEqual(Sessions(server("a", drain=True)).serve(".a"), "-a")

    def test_switch(self) -> None:
        """Drained while it runs, and down."""
        sessions = Sessions(server("a"), server("b"))
        switches: tuple[Switch, ...] = ("drain", "down", "up")
        served = []
        for to in switches:
            sessions.pool.switch(sessions.pool.servers[0], to)
            served.append(sessions.serve("a"))
        self.assertEqual(served, ["a", "b", "a"])

    def test_cannot_serve(self) -> None:
        """Whose server is down, ejected or full goes to another; with `strict` to nobody, and that counts as refused."""
        for strict, served in ((False, "b"), (True, "-")):
            for kind in ("down", "ejected", "full"):
                sessions = Sessions(server("a", max_conns=1, down=kind == "down"), server("b"), strict=strict)
                if kind == "ejected":
                    lease = sessions.lease("a")
                    lease.failed("refused")
                    lease.release()
                if kind == "full":
                    sessions.lease("a")
                self.assertEqual((kind, sessions.serve("a"), sessions.pool.refused), (kind, served, strict))

    def test_comes_back(self) -> None:
        """Once the pause of its server is over a session returns."""
        sessions = Sessions(server("a", fail_timeout=10.0), server("b"))
        lease = sessions.lease("a")
        lease.failed("refused")
        lease.release()
        before = sessions.serve("a")
        sessions.clock.advance(11)
        self.assertEqual(before + sessions.serve("a"), "ba")

    def test_tried(self) -> None:
        """A server that was tried is not tried again: the session tries others, with `strict` none, which is no refusal."""
        sessions = Sessions(server("a", max_fails=0), server("b"))
        first = sessions.lease("a")
        first.failed("refused")
        self.assertEqual(host(sessions.lease("a", after=first).server), "b")
        sessions = Sessions(server("a", max_fails=0), server("b"), strict=True)
        first = sessions.lease("a")
        first.failed("refused")
        self.assertRaises(NoServerAvailable, sessions.lease, "a", first)
        self.assertEqual(sessions.pool.refused, 0)

    def test_why(self) -> None:
        """The error names the session's server and its state."""
        sessions = Sessions(server("a", down=True), server("b"), strict=True)
        error = self.assertRaises(NoServerAvailable, sessions.lease, "a")
        self.assertEqual(str(error), "pool web: the session's own server a:80 down")

    def test_backup(self) -> None:
        """As in nginx a session of a backup moves to a primary while one serves, and stays when none does."""
        sessions = Sessions(server("a"), server("b", backup=True), server("c", backup=True))
        before = sessions.serve("c")
        sessions.pool.switch(sessions.pool.servers[0], "down")
        self.assertEqual(before + sessions.serve("ccbc"), "accbc")

    def test_strict_backup(self) -> None:
        """With `strict` a session of a backup stays with it, and one of a primary gets no backup."""
        sessions = Sessions(server("a"), server("b"), server("c", backup=True), strict=True)
        before = sessions.serve("c")
        sessions.pool.switch(sessions.pool.servers[0], "down")
        self.assertEqual(before + sessions.serve("a.c"), "c-bc")

    def test_one_of_several(self) -> None:
        """Of the servers of one route the first that can serve does."""
        one, two = make_server("a", route="x", max_conns=1), make_server("b", route="x")
        sessions = Sessions(one, two, strict=True)
        held = sessions.lease("x")
        self.assertEqual(host(held.server) + host(sessions.lease("x").server), "ab")
        held.release()
        self.assertEqual(host(sessions.lease("x").server), "a")

    def test_slow_start(self) -> None:
        """A session does not wait for its server to warm up."""
        sessions = Sessions(server("a", slow_start=100.0), server("b"))
        sessions.pool.switch(sessions.pool.servers[0], "down")
        sessions.pool.switch(sessions.pool.servers[0], "up")
        self.assertEqual(sessions.serve("aaaa"), "aaaa")

    def test_least_conn_counts_them(self) -> None:
        """What bound sessions hold is load to those that are new."""
        sessions = Sessions(server("a"), server("b"), method="least_conn")
        held = [sessions.lease("a") for _ in range(3)]
        self.assertEqual([host(sessions.lease().server) for _ in range(3)], ["b", "b", "b"])
        for lease in held:
            lease.release()


class LearnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        spec = StickyLearn(create=("$remote_addr",), lookup=("$remote_addr",), timeout=60.0)
        self.servers = [make_server("a"), make_server("b")]
        self.pool = Pool(PoolSpec(name="web", servers=(), sticky=spec), self.servers, self.clock.seconds)
        self.client = Asks(remote_addr="x")

    def served(self) -> str:
        lease = self.pool.acquire(self.client)
        lease.release()
        return host(lease.server)

    def test_bound_once_served(self) -> None:
        """A lease binds when its holder says so, for the timeout."""
        self.assertEqual(self.served() + self.served(), "ab")
        lease = self.pool.acquire(self.client)
        self.assertEqual((host(lease.server), lease.bind(self.client), lease.bind(self.client)), ("a", True, False))
        lease.release()
        self.clock.advance(59)
        self.assertEqual(self.served() + self.served(), "aa")
        self.clock.advance(1)
        self.assertEqual(self.served() + self.served(), "ba")

    def test_unbound(self) -> None:
        """What a lease bound it can take back."""
        lease = self.pool.acquire(self.client)
        lease.bind(self.client)
        lease.unbind(self.client)
        lease.release()
        self.assertEqual(self.served() + self.served(), "ba")

    def test_left_the_pool(self) -> None:
        """A server that has left takes no sessions, whether they were learned before or are now."""
        lease = self.pool.acquire(self.client)
        lease.bind(self.client)
        self.pool.replace(self.servers[1:])
        self.assertEqual(self.served(), "b")
        self.assertFalse(lease.bind(self.client))

    def test_nothing_to_learn(self) -> None:
        """Without sticky sessions a lease binds nobody."""
        pool = Pool(PoolSpec(name="web", servers=()), [make_server("a")], self.clock.seconds)
        lease = pool.acquire(self.client)
        lease.unbind(self.client)
        self.assertFalse(lease.bind(self.client))
