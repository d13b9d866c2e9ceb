"""pylb.balance.sticky: which server does a session belong to?"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.server import Server
from pylb.balance.sticky import CookieSessions, LearnedSessions, RoutedSessions, make_sticky, server_id
from pylb.model import PoolSpec, ServerSpec, Sticky, StickyCookie, StickyLearn, StickyRoute, UnixAddress
from tests.balance.fakes import make_server, make_servers

SECRET = "0123456789abcdef"


class Asks:
    """A request with these variables and no others."""

    def __init__(self, **variables: str) -> None:
        self._variables = variables

    def variable(self, name: str) -> bytes:
        return self._variables.get(name, "").encode()


def make(sticky: Sticky, *servers: Server, pool: str = "web") -> Any:
    made: Any = make_sticky(PoolSpec(name=pool, servers=(), sticky=sticky))
    made.use(servers)
    return made


def cookies(*servers: Server, pool: str = "web", **asked: Any) -> CookieSessions:
    sessions = make(StickyCookie(name="id", **asked), *servers, pool=pool)
    assert isinstance(sessions, CookieSessions)
    return sessions


class ServerIdTests(SynchronousTestCase):
    def test_route(self) -> None:
        """The operator's name for it."""
        self.assertEqual(server_id(make_server("a", route="one")), b"one")

    def test_address(self) -> None:
        """Else the MD5 of the printable address (the values are md5sum's), that of a Unix socket with its prefix."""
        self.assertEqual(server_id(make_server("127.0.0.1")), b"cef54f47984626c9efbf070c50bfad1b")
        unix = Server(ServerSpec(address=UnixAddress("/run/app.sock")))
        self.assertEqual(server_id(unix), b"939db79304b0f599c2c20969650359ab")


class CookieTests(SynchronousTestCase):
    def test_id(self) -> None:
        """Without a secret the cookie is the id."""
        a, b = make_servers(1, 1)
        sessions = cookies(a, b)
        self.assertEqual(sessions.name(a), server_id(a))
        self.assertEqual(sessions.bound(Asks(cookie_id=sessions.name(b).decode()), 0.0), [b])

    def test_name(self) -> None:
        """The cookie's whole name counts, also where it holds what no variable's name may."""
        (a,) = make_servers(1)
        for name in ("srv-id", "srv.id", "__Host-x"):
            sessions = make(StickyCookie(name=name), a)
            value = server_id(a).decode()
            found = [list(sessions.bound(Asks(**{f"cookie_{sent}": value}), 0.0)) for sent in (name, "srv", "__Host")]
            self.assertEqual(found, [[a], [], []], name)

    def test_new(self) -> None:
        """No cookie, another cookie or a value that is no server's is a new session."""
        (a,) = make_servers(1)
        sessions = cookies(a)
        for asks in (Asks(), Asks(cookie_id="x"), Asks(cookie_x=server_id(a).decode())):
            self.assertEqual(list(sessions.bound(asks, 0.0)), [])

    def test_secret(self) -> None:
        """With a secret the cookie is the base64 of HMAC-SHA256(secret, pool NUL id) and leads back to the server."""
        a, b = make_servers(1, 1)
        sessions = cookies(a, b, secret=SECRET)
        self.assertRegex(sessions.name(a), rb"\A[A-Za-z0-9_-]{43}\Z")
        self.assertEqual(sessions.bound(Asks(cookie_id=sessions.name(a).decode()), 0.0), [a])
        self.assertEqual(cookies(make_server("a"), secret=SECRET).name(make_server("a")), sessions.name(a))

    def test_foreign(self) -> None:
        """The bare id binds nobody then, nor does what another pool or another secret signed."""
        (a,) = make_servers(1)
        sessions = cookies(a, secret=SECRET)
        foreign = [
            server_id(a),
            cookies(a, secret=SECRET, pool="api").name(a),
            cookies(a, secret=SECRET + "!").name(a),
        ]
        for value in foreign:
            self.assertEqual(list(sessions.bound(Asks(cookie_id=value.decode()), 0.0)), [])

    @settings(deadline=None)
    @given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1), st.integers(0, 42))
    def test_forged(self, text: str, cut: int) -> None:
        """Whatever is not exactly a signed name binds nobody: truncated, with one character changed or added."""
        a, b = make_servers(1, 1)
        sessions = cookies(a, b, secret=SECRET)
        name = sessions.name(a).decode()
        other = "A" if name[cut] != "A" else "B"
        for forged in (text, name[:cut], name + text, text + name, name[:cut] + other + name[cut + 1 :]):
            self.assertEqual(list(sessions.bound(Asks(cookie_id=forged), 0.0)), [])

    def test_not_learned(self) -> None:
        """The client carries the session; being served changes nothing."""
        a, b = make_servers(1, 1)
        sessions = cookies(a, b)
        asks = Asks(cookie_id=server_id(a).decode())
        self.assertFalse(sessions.bind(asks, b, 0.0))
        sessions.forget(asks, a)
        self.assertEqual(sessions.bound(asks, 0.0), [a])

    def test_servers_change(self) -> None:
        """A server that left binds nobody; one that came does."""
        a, b = make_servers(1, 1)
        sessions = cookies(a)
        sessions.use([b])
        self.assertEqual(list(sessions.bound(Asks(cookie_id=server_id(a).decode()), 0.0)), [])
        self.assertEqual(sessions.bound(Asks(cookie_id=server_id(b).decode()), 0.0), [b])


class RouteTests(SynchronousTestCase):
    def test_first_that_is_not_empty(self) -> None:
        """The first variable that says something decides, even if it names nobody and a later one does."""
        a, b = make_server("a", route="one"), make_server("b", route="two")
        sessions = make(StickyRoute(variables=("$cookie_r", "$arg_r")), a, b)
        self.assertIsInstance(sessions, RoutedSessions)
        for asks, bound in (
            (Asks(cookie_r="two"), [b]),
            (Asks(arg_r="one"), [a]),
            (Asks(cookie_r="two", arg_r="one"), [b]),
            (Asks(cookie_r="three", arg_r="one"), []),
            (Asks(), []),
        ):
            self.assertEqual(list(sessions.bound(asks, 0.0)), bound)

    def test_several_servers(self) -> None:
        """Servers of one route are all offered, in the pool's order."""
        a, b, c = make_server("a", route="x"), make_server("b"), make_server("c", route="x")
        sessions = make(StickyRoute(variables=("$arg_r",)), a, b, c)
        self.assertEqual(sessions.bound(Asks(arg_r="x"), 0.0), [a, c])


def learned(*servers: Server, **asked: Any) -> LearnedSessions:
    spec = {"create": ("$upstream_cookie_s", "$upstream_http_s"), "lookup": ("$cookie_s", "$arg_s")}
    sessions = make(StickyLearn(**(spec | asked)), *servers)
    assert isinstance(sessions, LearnedSessions)
    return sessions


BY_ADDRESS = {"create": ("$remote_addr",), "lookup": ("$remote_addr",)}


class LearnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.a, self.b = make_servers(1, 1)

    def test_created_and_looked_up(self) -> None:
        """What a server's answer says is looked for in later requests; of each list the first variable that is not empty."""
        sessions = learned(self.a, self.b)
        self.assertTrue(sessions.bind(Asks(upstream_cookie_s="7"), self.b, 0.0))
        sessions.bind(Asks(upstream_http_s="8"), self.a, 0.0)
        found = [sessions.bound(asks, 1.0) for asks in (Asks(cookie_s="7"), Asks(arg_s="7"), Asks(arg_s="8"))]
        self.assertEqual(found, [[self.b], [self.b], [self.a]])
        self.assertEqual(list(sessions.bound(Asks(cookie_s="9", arg_s="8"), 1.0)), [])

    def test_nothing_to_create(self) -> None:
        """A session that no answer began is not made by asking for it."""
        sessions = learned(self.a)
        for asks in (Asks(), Asks(cookie_s="7")):
            self.assertFalse(sessions.bind(asks, self.a, 0.0))
            self.assertEqual(list(sessions.bound(asks, 0.0)), [])
        self.assertEqual(len(sessions), 0)

    def test_timeout(self) -> None:
        """A session is forgotten when it has not been used for the timeout; every use begins it anew."""
        sessions = learned(self.a, timeout=10.0)
        sessions.bind(Asks(upstream_cookie_s="7"), self.a, 0.0)
        asks = Asks(cookie_s="7")
        sessions.bind(asks, self.a, 9.0)
        self.assertEqual(sessions.bound(asks, 18.9), [self.a])
        self.assertEqual(list(sessions.bound(asks, 19.0)), [])
        self.assertFalse(sessions.bind(asks, self.a, 19.0))
        self.assertEqual(len(sessions), 0)

    def test_moved(self) -> None:
        """Whoever served last has the session, whether the answer or the request names it; that is news once."""
        sessions = learned(self.a, self.b)
        sessions.bind(Asks(upstream_cookie_s="7"), self.a, 0.0)
        asks = Asks(cookie_s="7")
        self.assertEqual(
            [sessions.bind(asks, server, 1.0) for server in (self.a, self.b, self.b)], [False, True, False]
        )
        self.assertEqual(sessions.bound(asks, 1.0), [self.b])

    def test_least_recently_used(self) -> None:
        """A full table gives up what was used longest ago."""
        sessions = learned(self.a, size=2, **BY_ADDRESS)
        for now, client in enumerate("xyxz"):
            sessions.bind(Asks(remote_addr=client), self.a, now)
        known = [client for client in "xyz" if sessions.bound(Asks(remote_addr=client), 4.0)]
        self.assertEqual((known, len(sessions)), (["x", "z"], 2))

    def test_forgotten(self) -> None:
        """Only if it still belongs to that server."""
        sessions = learned(self.a, self.b, **BY_ADDRESS)
        asks = Asks(remote_addr="x")
        sessions.bind(asks, self.a, 0.0)
        sessions.forget(asks, self.b)
        self.assertEqual(sessions.bound(asks, 0.0), [self.a])
        sessions.forget(asks, self.a)
        self.assertEqual(list(sessions.bound(asks, 0.0)), [])

    def test_servers_change(self) -> None:
        """A server that has left binds nobody; when its address is back its sessions are."""
        sessions = learned(self.a, self.b, **BY_ADDRESS)
        asks = Asks(remote_addr="x")
        sessions.bind(asks, self.a, 0.0)
        sessions.use([self.b])
        self.assertEqual(list(sessions.bound(asks, 0.0)), [])
        sessions.use([self.b, again := make_server("a")])
        self.assertEqual(sessions.bound(asks, 0.0), [again])

    def test_routes_do_not_matter(self) -> None:
        """A session belongs to one address of a name, not to all that share its route."""
        a, b = make_server("a", route="x"), make_server("b", route="x")
        sessions = learned(a, b, **BY_ADDRESS)
        sessions.bind(Asks(remote_addr="x"), b, 0.0)
        self.assertEqual(sessions.bound(Asks(remote_addr="x"), 0.0), [b])

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("ab"), st.integers(0, 6))), st.integers(1, 4))
    def test_as_if_simple(self, uses: list[tuple[str, str, int]], size: int) -> None:
        """Table and timeout do what a list of all that happened says."""
        servers = {"a": self.a, "b": self.b}
        sessions = learned(self.a, self.b, size=size, timeout=10.0, **BY_ADDRESS)
        now, happened = 0, []
        for client, letter, later in uses:
            now += later
            sessions.bind(Asks(remote_addr=client), servers[letter], now)
            happened = [use for use in happened if use[0] != client] + [(client, letter, now)]
        alive = {client: letter for client, letter, used in happened[-size:] if now - used < 10}
        for client in "uvwxyz":
            bound = sessions.bound(Asks(remote_addr=client), now)
            self.assertEqual([*bound], [servers[alive[client]]] if client in alive else [])
