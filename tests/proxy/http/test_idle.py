"""Which connections are kept, and for how long."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.server import Server
from pylb.model import InetAddress, Keepalive, ServerSpec
from pylb.proxy.http.idle import IdleConnections


class FakeConnection:
    requests = 1
    born = 0.0

    def __init__(self, name, server, closed):
        self.name = name
        self.server = server
        self._closed = closed

    def close(self):
        self._closed.append(self.name)

    def __repr__(self):
        return self.name


class IdleTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.closed = []
        self.a, self.b = (Server(ServerSpec(address=InetAddress("127.0.0.1", port))) for port in (1, 2))

    def idle(self, **options):
        return IdleConnections(Keepalive(**options), self.clock, self.clock.seconds)

    def connection(self, name, server=None):
        return FakeConnection(name, server or self.a, self.closed)

    def keep(self, idle, names, server=None):
        for name in names:
            self.assertTrue(idle.keep(self.connection(name, server)))

    def test_last_in_first_out(self):
        """The connection that was used last is taken first, and only for its own server."""
        idle = self.idle()
        self.keep(idle, "xy")
        self.keep(idle, "z", self.b)
        self.assertEqual([repr(idle.take(self.a)) for _ in range(3)], ["y", "x", "None"])
        self.assertEqual(len(idle), 1)

    def test_least_recently_used_goes(self):
        """At the limit, which is the whole pool's, the one that was used longest ago goes."""
        idle = self.idle(connections=2)
        self.keep(idle, "x")
        self.keep(idle, "yz", self.b)
        self.assertEqual((self.closed, idle.take(self.a), len(idle)), (["x"], None, 2))

    def test_timeout(self):
        """Each is closed when it has been idle too long, and no delayed call stays."""
        idle = self.idle(timeout=10)
        for name in "xyz":
            self.keep(idle, name)
            self.clock.advance(4)
        idle.take(self.a)
        self.assertEqual(self.closed, ["x"])
        self.clock.advance(1.9)
        self.assertEqual(self.closed, ["x"])
        self.clock.advance(0.1)
        self.assertEqual(self.closed, ["x", "y"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_timeout_while_others_come(self):
        """Each has its own time, however many come and go meanwhile, and whoever comes when all were closed."""
        idle = self.idle(timeout=10)
        self.keep(idle, "x")
        self.clock.advance(4)
        self.keep(idle, "y")
        self.clock.advance(6)
        self.keep(idle, "z")
        self.clock.advance(4)
        self.assertEqual(self.closed, ["x", "y"])
        self.clock.advance(6)
        self.keep(idle, "a")
        self.clock.advance(10)
        self.assertEqual((self.closed, self.clock.getDelayedCalls()), (["x", "y", "z", "a"], []))

    def test_taken_meanwhile(self):
        """One that is used and kept again has its whole time again."""
        idle = self.idle(timeout=10)
        self.keep(idle, "x")
        self.clock.advance(9)
        idle.keep(idle.take(self.a))
        self.clock.advance(9)
        self.assertEqual((self.closed, len(idle)), ([], 1))
        self.clock.advance(1)
        self.assertEqual(self.closed, ["x"])

    def test_contains(self):
        """It tells whether one is idle."""
        idle = self.idle()
        x = self.connection("x")
        before = x in idle
        idle.keep(x)
        during = x in idle
        idle.take(self.a)
        self.assertEqual((before, during, x in idle), (False, True, False))
        idle.close()

    def test_not_worth_keeping(self):
        """Neither one that has answered its number of requests nor one that is too old is kept."""
        idle = self.idle(requests=5, time=100)
        used, old = self.connection("used"), self.connection("old")
        used.requests = 5
        self.assertFalse(idle.keep(used))
        self.clock.advance(100)
        self.assertFalse(idle.keep(old))
        self.assertFalse(self.idle(connections=0).keep(self.connection("x")))

    def test_forget(self):
        """A connection that is gone is not handed out; one that is not here may be forgotten too."""
        idle = self.idle()
        x, y = self.connection("x"), self.connection("y")
        idle.keep(x)
        idle.keep(y)
        idle.forget(x)
        idle.forget(x)
        self.assertEqual([idle.take(self.a), idle.take(self.a)], [y, None])
        idle.close()

    def test_close(self):
        """All idle ones are closed at the end."""
        idle = self.idle()
        self.keep(idle, "xy")
        idle.close()
        self.assertEqual((sorted(self.closed), len(idle), self.clock.getDelayedCalls()), (["x", "y"], 0, []))

    def test_closed(self):
        """After the end none is kept any more."""
        idle = self.idle()
        idle.close()
        self.assertFalse(idle.keep(self.connection("x")))
        self.assertEqual((len(idle), self.clock.getDelayedCalls()), (0, []))

    def test_use_fewer(self):
        """Those that are too many now go, the one that was used longest ago first; more have room later."""
        idle = self.idle(connections=3)
        self.keep(idle, "xyz")
        idle.use(Keepalive(connections=1))
        self.assertEqual((self.closed, len(idle)), (["x", "y"], 1))
        self.keep(idle, "a")
        self.assertEqual(self.closed, ["x", "y", "z"])
        idle.use(Keepalive(connections=2))
        self.keep(idle, "b")
        self.assertEqual((len(self.closed), len(idle)), (3, 2))
        idle.close()

    def test_use_none(self):
        """All go, and none is kept, until some may be again."""
        idle = self.idle()
        self.keep(idle, "xy")
        idle.use(Keepalive(connections=0))
        self.assertEqual((self.closed, idle.keep(self.connection("a"))), (["x", "y"], False))
        idle.use(Keepalive(connections=1, timeout=5))
        self.keep(idle, "b")
        self.clock.advance(5)
        self.assertEqual(self.closed, ["x", "y", "b"])

    def test_use_shorter(self):
        """The new time counts from when each became idle: those that are over it go now, the others in time."""
        idle = self.idle(timeout=100)
        for name in "xy":
            self.keep(idle, name)
            self.clock.advance(6)
        idle.use(Keepalive(timeout=10))
        self.assertEqual(self.closed, ["x"])
        self.clock.advance(3.9)
        self.assertEqual(self.closed, ["x"])
        self.clock.advance(0.1)
        self.assertEqual((self.closed, self.clock.getDelayedCalls()), (["x", "y"], []))

    def test_use_longer(self):
        """Those that are there may stay longer, too."""
        idle = self.idle(timeout=10)
        self.keep(idle, "x")
        idle.use(Keepalive(timeout=20))
        self.clock.advance(19.9)
        self.assertEqual(self.closed, [])
        self.clock.advance(0.1)
        self.assertEqual((self.closed, self.clock.getDelayedCalls()), (["x"], []))

    def test_use_limits(self):
        """What is worth keeping is asked anew when one comes back."""
        idle = self.idle(requests=5)
        x = self.connection("x")
        x.requests = 5
        self.assertFalse(idle.keep(x))
        idle.use(Keepalive(requests=6))
        self.assertTrue(idle.keep(x))
        idle.close()
