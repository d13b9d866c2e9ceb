"""pylb.proxy.resolve: names beside those of an earlier configuration, and in their place."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from pylb import model
from pylb.model import InetAddress, ServerSpec
from pylb.proxy.lookup import RETRY
from pylb.proxy.resolve import PATIENCE, Names
from tests.backends import round_trips, until
from tests.proxy.dns.test_follow import failure
from tests.proxy.test_resolve import Reactor, Resolver, pool_of
from tests.proxy.test_resolve_dns import Followed

APP = InetAddress("app.test", 80)


def addresses(pool):
    return [server.name for server in pool.servers]


class Reloading(SynchronousTestCase):
    def setUp(self):
        self.reactor = Reactor()
        self.resolver = Resolver(app_test=["10.0.0.1", "10.0.0.2"], other_test=["10.0.1.1"])
        self.changed = []

    def names(self, *pools, before=None):
        known = before.found() if before else {}
        names = Names(self.reactor, pools, self.resolver, changed=self.changed.append, before=known)
        self.addCleanup(names.stop)
        return names

    def found(self, *servers):
        """A pool whose names have been found, and the names."""
        pool = pool_of(*servers)
        names = self.names(pool)
        ready = names.start()
        self.reactor.hear()
        self.successResultOf(ready)
        self.changed.clear()
        self.resolver.asked.clear()
        return pool, names

    def exchange(self, names, draft, pool, before):
        """Let `pool` be as `draft` in earnest."""
        same = pool.renew(draft.spec, draft.servers)
        names.exchange(draft, pool, same)
        before.stop()


class BeforeTests(Reloading):
    def test_known(self):
        """What was found is there before anything is asked, as the new line says, and nobody waits; it is asked anew."""
        _, before = self.found(APP)
        line = ServerSpec(address=InetAddress("app.test", 81), weight=3, backup=True)
        draft = pool_of(InetAddress("10.0.0.9", 80), line)
        names = self.names(draft, before=before)
        self.assertEqual(addresses(draft), ["10.0.0.9:80", "10.0.0.1:81", "10.0.0.2:81"])
        self.assertEqual([(server.spec.weight, server.spec.backup) for server in draft.servers[1:]], [(3, True)] * 2)
        self.successResultOf(names.start())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.reactor.hear()
        self.assertEqual((self.resolver.asked, self.changed), (["app.test"], [draft]))

    def test_found_otherwise(self):
        """Another answer takes the place of what was known."""
        _, before = self.found(APP)
        draft = pool_of(APP)
        names = self.names(draft, before=before)
        self.resolver.answers["app.test"] = ["10.0.0.2", "10.0.0.3"]
        stays = draft.servers[1]
        names.start()
        self.reactor.hear()
        self.assertEqual((addresses(draft), draft.servers[0]), (["10.0.0.2:80", "10.0.0.3:80"], stays))

    def test_not_found_any_more(self):
        """A name that fails now is what it was, and that is told; it is asked for again."""
        _, before = self.found(APP)
        draft = pool_of(APP)
        names = self.names(draft, before=before)
        self.resolver.answers["app.test"] = OSError(-2, "gone")
        with capturedLogs() as logs:
            names.start()
            self.reactor.hear()
        self.assertEqual(addresses(draft), ["10.0.0.1:80", "10.0.0.2:80"])
        self.assertEqual(
            [formatEvent(log) for log in logs], ["app.test: gone; what was known stays; it is asked for again"]
        )
        self.resolver.answers["app.test"] = ["10.0.0.3"]
        self.reactor.advance(RETRY)
        self.reactor.hear()
        self.assertEqual(addresses(draft), ["10.0.0.3:80"])

    def test_new(self):
        """A name that is new is waited for, and only that."""
        _, before = self.found(APP)
        hanging = self.resolver.answers["app.test"] = threading.Event()
        self.addCleanup(hanging.set)
        self.resolver.answers["app.test", "later"] = []
        draft = pool_of(APP, InetAddress("other.test", 80))
        ready = self.names(draft, before=before).start()
        self.assertNoResult(ready)
        self.reactor.hear()
        self.successResultOf(ready)
        self.assertEqual(addresses(draft), ["10.0.0.1:80", "10.0.0.2:80", "10.0.1.1:80"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_patience(self):
        """Whom one does without is not who is known."""
        _, before = self.found(APP)
        hanging = self.resolver.answers["app.test"] = self.resolver.answers["other.test"] = threading.Event()
        self.addCleanup(hanging.set)
        self.resolver.answers |= {("app.test", "later"): [], ("other.test", "later"): []}
        ready = self.names(pool_of(APP, InetAddress("other.test", 80)), before=before).start()
        with capturedLogs() as logs:
            self.reactor.advance(PATIENCE)
        self.successResultOf(ready)
        self.assertEqual([log["names"] for log in logs], ["other.test"])

    def test_never_found(self):
        """A name that failed before is as one that is new."""
        self.resolver.answers["app.test"] = OSError(-2, "")
        _, before = self.found(APP)
        draft = pool_of(APP)
        names = self.names(draft, before=before)
        ready = names.start()
        self.assertNoResult(ready)
        self.reactor.hear()
        self.successResultOf(ready)
        self.assertTrue(draft.servers[0].missing)

    def test_not_wanted(self):
        """What nobody asks for any more is forgotten, also for the reload after the next."""
        _, before = self.found(APP)
        between = self.names(pool_of(InetAddress("10.0.0.9", 80)), before=before)
        self.successResultOf(between.start())
        ready = self.names(pool_of(APP), before=between).start()
        self.assertNoResult(ready)
        self.reactor.hear()
        self.successResultOf(ready)

    def test_reload_after_reload(self):
        """What is known is handed on, though it was not found anew in between."""
        _, before = self.found(APP)
        between = self.names(pool_of(APP), before=before)
        draft = pool_of(APP)
        self.successResultOf(self.names(draft, before=between).start())
        self.reactor.hear()
        self.assertEqual(addresses(draft), ["10.0.0.1:80", "10.0.0.2:80"])

    def test_given_up(self):
        """Names that do not take the place of those before leave these as they are."""
        pool, before = self.found(APP)
        servers = list(pool.servers)
        names = self.names(pool_of(APP), before=before)
        names.start()
        names.stop()
        self.resolver.answers["app.test"] = ["10.0.0.3"]
        self.reactor.hear()
        self.assertEqual((pool.servers, self.reactor.getDelayedCalls()), (servers, []))


class ExchangeTests(Reloading):
    def test_live(self):
        """What is found from then on is the live pool's, whose servers stay; the draft is nobody's."""
        pool, before = self.found(APP, InetAddress("10.0.0.9", 80))
        lease = pool.acquire()
        draft = pool_of(InetAddress("10.0.0.8", 80), ServerSpec(address=APP, weight=3))
        names = self.names(draft, before=before)
        first, stays = pool.servers[:2]
        self.exchange(names, draft, pool, before)
        self.changed.clear()
        left = list(draft.servers)
        self.resolver.answers["app.test"] = ["10.0.0.3", "10.0.0.2"]
        names.start()
        self.reactor.hear()
        self.assertEqual(addresses(pool), ["10.0.0.8:80", "10.0.0.3:80", "10.0.0.2:80"])
        self.assertIs(pool.servers[2], stays)
        self.assertEqual([server.spec.weight for server in pool.servers], [1, 3, 3])
        self.assertEqual((self.changed, draft.servers), ([pool], left))
        self.assertIs(lease.server, first)
        lease.release()
        self.assertEqual(first.active, 0)

    def test_while_it_is_asked(self):
        """An answer that comes after the exchange to a question from before is the live pool's, too."""
        pool, before = self.found(APP)
        draft = pool_of(APP)
        names = self.names(draft, before=before)
        self.resolver.answers["app.test"] = ["10.0.0.3"]
        names.start()
        self.exchange(names, draft, pool, before)
        self.reactor.hear()
        self.assertEqual((addresses(pool), addresses(draft)), (["10.0.0.3:80"], ["10.0.0.1:80", "10.0.0.2:80"]))

    def test_again(self):
        """A pool is exchanged time and again, and its servers stay who they are."""
        pool, before = self.found(APP)
        servers = list(pool.servers)
        for weight in (2, 3):
            draft = pool_of(ServerSpec(address=APP, weight=weight))
            names = self.names(draft, before=before)
            names.start()
            self.exchange(names, draft, pool, before)
            self.reactor.hear()
            before = names
        self.assertEqual((pool.servers, [server.spec.weight for server in servers]), (servers, [3, 3]))

    def test_twice_in_the_file(self):
        """A line that stands twice is two servers each, of which those that stay keep their line."""
        pool, before = self.found(APP, APP)
        servers = list(pool.servers)
        draft = pool_of(APP, APP)
        names = self.names(draft, before=before)
        self.exchange(names, draft, pool, before)
        self.resolver.answers["app.test"] = ["10.0.0.2"]
        names.start()
        self.reactor.hear()
        self.assertEqual(pool.servers, [servers[1], servers[3]])

    def test_pools_beside(self):
        """Other pools of the same names, new ones, are filled as ever."""
        pool, before = self.found(APP)
        draft, new = pool_of(APP), pool_of(APP, name="new")
        names = self.names(draft, new, before=before)
        self.exchange(names, draft, pool, before)
        self.resolver.answers["app.test"] = ["10.0.0.3"]
        names.start()
        self.reactor.hear()
        self.assertEqual((addresses(pool), addresses(new)), (["10.0.0.3:80"], ["10.0.0.3:80"]))


class FollowedTests(Followed):
    def reload(self, draft, before):
        names = Names(
            self.time,
            [draft],
            resolver=model.Resolver(addresses=(self.server.address,)),
            clock=self.time.seconds,
            random=lambda: 0.0,
            before=before,
        )
        self.addCleanup(names.stop)
        return names

    async def test_followed(self):
        """A name that is followed is known at once, asked for anew, and followed on for the live pool."""
        self.server.has("app.test", "A", "10.0.0.1", "10.0.0.2", ttl=10)
        line = ServerSpec(address=APP, resolve=True)
        pool = self.pool(line)
        before = await self.start(pool)
        servers = list(pool.servers)
        draft = self.pool(replace(line, max_conns=5))
        names = self.reload(draft, before.found())
        self.server.asked.clear()
        self.assertTrue(names.start().called)
        names.exchange(draft, pool, pool.renew(draft.spec, draft.servers))
        before.stop()
        await until(lambda: self.server.asked)
        await round_trips()
        self.assertEqual((pool.servers, servers[0].spec.max_conns), (servers, 5))
        self.server.has("app.test", "A", "10.0.0.2", "10.0.0.3", ttl=10)
        await self.after(10)
        self.assertEqual(self.names_of(pool), ["10.0.0.2:80", "10.0.0.3:80"])
        self.assertIs(pool.servers[0], servers[1])

    async def test_service(self):
        """The servers of a service keep the weights and ranks that DNS said."""
        self.server.has("_http._tcp.app.test", "SRV", "1 5 8080 one.test.", "2 5 8081 two.test.", ttl=10)
        self.server.has("one.test", "A", "10.0.0.1", ttl=10)
        self.server.has("two.test", "A", "10.0.0.2", ttl=10)
        line = ServerSpec(address=APP, resolve=True, service="http")
        pool = self.pool(line)
        before = await self.start(pool)
        servers = list(pool.servers)
        draft = self.pool(replace(line, max_fails=3))
        names = self.reload(draft, before.found())
        self.assertTrue(names.start().called)
        names.exchange(draft, pool, pool.renew(draft.spec, draft.servers))
        shown = [(each.name, each.spec.weight, each.spec.backup, each.spec.max_fails) for each in pool.servers]
        self.assertEqual(shown, [("10.0.0.1:8080", 5, False, 3), ("10.0.0.2:8081", 5, True, 3)])
        self.assertEqual(pool.servers, servers)

    async def test_half_an_answer(self):
        """A family that cannot be asked for keeps its addresses beside the other one's new ones."""
        self.server.has("app.test", "A", "10.0.0.1", ttl=10)
        self.server.has("app.test", "AAAA", "fd00::1", ttl=10)
        line = ServerSpec(address=APP, resolve=True)
        before = await self.start(self.pool(line))
        draft = self.pool(line)
        self.server.has("app.test", "A", "10.0.0.2", ttl=10)
        self.server.instead = [lambda question: self.server.answer(question).to_wire(), failure]
        self.reload(draft, before.found()).start()
        await until(lambda: self.names_of(draft) != ["10.0.0.1:80", "[fd00::1]:80"])
        self.assertEqual(self.names_of(draft), ["10.0.0.2:80", "[fd00::1]:80"])

    async def test_another_process(self):
        """What was found can be sent there: it serves at once, whatever DNS says or does not, until that has an answer."""
        self.server.has("app.test", "A", "10.0.0.1", ttl=10)
        self.server.has("_http._tcp.app.test", "SRV", "1 5 8080 app.test.", ttl=10)
        lines = [ServerSpec(address=APP, resolve=True), ServerSpec(address=APP, resolve=True, service="http")]
        before = await self.start(self.pool(*lines))
        before.stop()
        sent = pickle.loads(pickle.dumps(before.found()))
        self.server.instead = [lambda question: None] * 9
        draft = self.pool(*lines)
        names = self.reload(draft, sent)
        self.assertTrue(names.start().called)
        self.assertEqual(self.names_of(draft), ["10.0.0.1:80", "10.0.0.1:8080"])
        self.assertEqual(names.found(), sent)
        await until(lambda: self.server.asked)
        self.server.instead.clear()
        self.server.has("app.test", "A", "10.0.0.2", ttl=10)
        for _ in range(10):
            await self.after(1)
            if self.names_of(draft)[0] == "10.0.0.2:80":
                break
        self.assertEqual(self.names_of(draft), ["10.0.0.2:80", "10.0.0.2:8080"])

    async def test_from_now_on(self):
        """A name that was looked up once and is to be followed from now on is waited for."""
        self.server.has("app.test", "A", "10.0.0.1", ttl=10)
        before = await self.start(self.pool(ServerSpec(address=APP, resolve=True)))
        once = Names(self.time, [self.pool(ServerSpec(address=APP))], lambda name: ["10.0.0.2"], before=before.found())
        self.assertEqual(once._found, {})
        draft = self.pool(ServerSpec(address=APP, resolve=True))
        names = self.reload(draft, once.found())
        ready = names.start()
        self.assertFalse(ready.called)
        await ready
        self.assertEqual(self.names_of(draft), ["10.0.0.1:80"])
