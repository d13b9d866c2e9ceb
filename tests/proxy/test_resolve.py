"""pylb.proxy.resolve: look-ups in real threads, time in the test's hand."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pylb.balance.pool import NoServerAvailable, make_pool
from pylb.model import InetAddress, PoolSpec, ServerSpec
from pylb.proxy.lookup import RETRY, getaddrinfo
from pylb.proxy.resolve import PATIENCE, Names


@implementer(IReactorThreads)
class Reactor(Clock):
    """A clock to which threads can speak; what they say is heard when the test asks for it."""

    def __init__(self):
        super().__init__()
        self._said = SimpleQueue()

    def callFromThread(self, call, *arguments):
        self._said.put((call, arguments))

    def hear(self, count=1):
        """Wait for `count` threads to speak."""
        for _ in range(count):
            call, arguments = self._said.get(timeout=5)
            call(*arguments)


class Resolver:
    """Knows what it was told; a name whose answer is an event hangs until that is set."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked = []
        self.threads = []

    def __call__(self, name):
        self.asked.append(name)
        self.threads.append(threading.current_thread())
        answer = self.answers[name]
        if isinstance(answer, threading.Event):
            answer.wait(5)
            answer = self.answers[name, "later"]
        if isinstance(answer, Exception):
            raise answer
        return answer


def pool_of(*servers, name="web", clock=lambda: 0.0):
    specs = [ServerSpec(address=server) if isinstance(server, InetAddress) else server for server in servers]
    return make_pool(PoolSpec(name=name, servers=tuple(specs)), clock)


class NamesTests(SynchronousTestCase):
    def setUp(self):
        self.reactor = Reactor()

    def start(self, resolver, *pools):
        names = Names(self.reactor, pools, resolver)
        self.addCleanup(names.stop)
        return names, names.start()

    def test_nothing_to_look_up(self):
        """Literal addresses are served at once."""
        resolver = Resolver()
        _, ready = self.start(resolver, pool_of(InetAddress("127.0.0.1", 80), InetAddress("::1", 80)))
        self.successResultOf(ready)
        self.assertEqual((resolver.asked, self.reactor.getDelayedCalls()), ([], []))

    def test_every_address_becomes_a_server(self):
        """With the parameters of the name, in its place."""
        app = ServerSpec(address=InetAddress("app.test", 80), weight=3, backup=True)
        pool = pool_of(InetAddress("10.0.0.1", 80), app, InetAddress("10.0.0.9", 80))
        _, ready = self.start(Resolver(app_test=["10.0.0.2", "fd00::2"]), pool)
        self.assertNoResult(ready)
        self.reactor.hear()
        self.successResultOf(ready)
        self.assertEqual(
            [server.name for server in pool.servers], ["10.0.0.1:80", "10.0.0.2:80", "[fd00::2]:80", "10.0.0.9:80"]
        )
        self.assertEqual([server.spec.weight for server in pool.servers], [1, 3, 3, 1])
        self.assertEqual([server.spec.backup for server in pool.servers], [False, True, True, False])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_off_the_reactor_thread(self):
        """In threads that do not hold the program up when it ends."""
        resolver = Resolver(app_test=["10.0.0.2"])
        self.start(resolver, pool_of(InetAddress("app.test", 80)))
        self.reactor.hear()
        (thread,) = resolver.threads
        self.assertIsNot(thread, threading.current_thread())
        self.assertTrue(thread.daemon)

    def test_waits_for_all(self):
        hanging = threading.Event()
        resolver = Resolver(a_test=["10.0.0.1"], b_test=hanging)
        resolver.answers["b.test", "later"] = ["10.0.0.2"]
        _, ready = self.start(resolver, pool_of(InetAddress("a.test", 80)), pool_of(InetAddress("b.test", 80)))
        self.reactor.hear()
        self.assertNoResult(ready)
        hanging.set()
        self.reactor.hear()
        self.successResultOf(ready)

    def test_patience(self):
        """What has not answered after five seconds is done without, and used when it comes."""
        hanging = threading.Event()
        resolver = Resolver(a_test=["10.0.0.1"], b_test=hanging)
        resolver.answers["b.test", "later"] = ["10.0.0.2"]
        pool = pool_of(InetAddress("a.test", 80), InetAddress("b.test", 80))
        _, ready = self.start(resolver, pool)
        self.reactor.hear()
        self.reactor.advance(PATIENCE - 0.1)
        self.assertNoResult(ready)
        with capturedLogs() as logs:
            self.reactor.advance(0.1)
        self.successResultOf(ready)
        self.assertEqual([log["names"] for log in logs], ["b.test"])
        self.assertEqual({pool.acquire().server.name for _ in range(4)}, {"10.0.0.1:80"})
        hanging.set()
        self.reactor.hear()
        self.assertEqual({pool.acquire().server.name for _ in range(4)}, {"10.0.0.1:80", "10.0.0.2:80"})

    def test_not_found(self):
        """A name that fails counts as down, and is asked for again until it is found."""
        resolver = Resolver(app_test=OSError(-2, "Name or service not known"))
        pool = pool_of(InetAddress("app.test", 80))
        with capturedLogs() as logs:
            _, ready = self.start(resolver, pool)
            self.reactor.hear()
            self.successResultOf(ready)
            self.assertRaises(NoServerAvailable, pool.acquire)
            self.reactor.advance(RETRY)
            self.reactor.hear()
            self.assertRaises(NoServerAvailable, pool.acquire)
            resolver.answers["app.test"] = ["10.0.0.2"]
            self.reactor.advance(RETRY)
            self.reactor.hear()
        self.assertEqual(pool.acquire().server.name, "10.0.0.2:80")
        self.assertEqual(resolver.asked, ["app.test"] * 3)
        self.assertEqual(
            [(log.get("problem"), log.get("addresses")) for log in logs],
            [("Name or service not known", None), (None, "10.0.0.2")],
        )
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_not_a_name(self):
        """What cannot even be asked for is not found."""
        _, ready = self.start(getaddrinfo, pool_of(InetAddress("x" * 64 + ".test", 80)))
        self.reactor.hear()
        self.successResultOf(ready)

    def test_found_nothing(self):
        _, ready = self.start(Resolver(app_test=[]), pool_of(InetAddress("app.test", 80)))
        self.reactor.hear()
        self.successResultOf(ready)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)

    def test_a_failure_disturbs_nobody(self):
        """As long as a name is not found, the pool is left alone: its rotation goes on where it was."""
        pool = pool_of(InetAddress("10.0.0.1", 80), InetAddress("10.0.0.3", 80), InetAddress("app.test", 80))
        self.start(Resolver(app_test=OSError(-2, "")), pool)
        self.reactor.hear()
        before = list(pool.servers)
        first = pool.acquire().server
        self.reactor.advance(RETRY)
        self.reactor.hear()
        self.assertEqual(pool.servers, before)
        self.assertIsNot(pool.acquire().server, first)

    def test_servers_that_stay_keep_their_state(self):
        hanging = threading.Event()
        resolver = Resolver(app_test=hanging)
        resolver.answers["app.test", "later"] = ["10.0.0.2"]
        pool = pool_of(InetAddress("10.0.0.1", 80), InetAddress("app.test", 80))
        self.start(resolver, pool)
        self.reactor.advance(PATIENCE)
        lease = pool.acquire()
        hanging.set()
        self.reactor.hear()
        self.assertEqual([server.active for server in pool.servers], [1, 0])
        self.assertIs(pool.servers[0], lease.server)

    def test_asked_once(self):
        """A name in several places is one question, and its answer is for all of them."""
        resolver = Resolver(app_test=["10.0.0.2"])
        one = pool_of(InetAddress("app.test", 80), InetAddress("app.test", 81), name="one")
        two = pool_of(InetAddress("app.test", 82), name="two")
        self.start(resolver, one, two)
        self.reactor.hear()
        self.assertEqual(resolver.asked, ["app.test"])
        names = [server.name for pool in (one, two) for server in pool.servers]
        self.assertEqual(names, ["10.0.0.2:80", "10.0.0.2:81", "10.0.0.2:82"])

    def test_twice_in_the_file(self):
        """A line that stands twice is two servers, also after an answer."""
        again = InetAddress("10.0.0.1", 80)
        pool = pool_of(again, again, InetAddress("app.test", 80))
        self.start(Resolver(app_test=["10.0.0.1"]), pool)
        self.reactor.hear()
        self.assertEqual(len(set(pool.servers)), 3)

    def test_stop(self):
        """Once stopped, nothing is asked and answers that still come change nothing."""
        hanging = threading.Event()
        resolver = Resolver(app_test=hanging, bad_test=OSError(-2, ""))
        resolver.answers["app.test", "later"] = ["10.0.0.2"]
        pool = pool_of(InetAddress("app.test", 80), InetAddress("bad.test", 80))
        names, ready = self.start(resolver, pool)
        self.reactor.hear()
        before = list(pool.servers)
        names.stop()
        hanging.set()
        self.reactor.hear()
        self.assertNoResult(ready)
        self.assertEqual(pool.servers, before)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
