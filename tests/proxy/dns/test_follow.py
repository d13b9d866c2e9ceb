"""pylb.proxy.dns.follow: a real server, time in the test's hand."""

from __future__ import annotations

from collections.abc import Sequence

import dns.message
import dns.rcode
from twisted.trial.unittest import TestCase

from pylb.model import Resolver
from pylb.proxy.dns.answers import SHORTEST, Answers
from pylb.proxy.dns.follow import NEVER, Follower, Found, Target
from tests.backends import round_trips, until
from tests.proxy.dns.servers import DnsServer, Time

BOTH = ["udp a.test A", "udp a.test AAAA"]
NXDOMAIN = "the name does not exist (NXDOMAIN)"


def failure(question: dns.message.Message) -> bytes:
    message = dns.message.make_response(question)
    message.set_rcode(dns.rcode.SERVFAIL)
    return message.to_wire()


class Followers(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.time = Time()
        self.server = DnsServer(self)
        self.answers = Answers(Resolver(), [self.server.address], self.time, self.time.seconds)
        self.addCleanup(self.answers.stop)
        #: What was heard: the addresses (or targets of a service), and the problem.
        self.heard: list[tuple[Sequence[Target], str]] = []

    def follow(
        self, name: str = "a.test", service: bool = False, random: float = 0.0, before: Found = NEVER
    ) -> Follower:
        follower = Follower(
            name, service, self.answers, lambda: random, lambda *heard: self.heard.append(heard), before
        )
        self.addCleanup(follower.stop)
        follower.start()
        return follower

    async def hears(self, *targets: str | Target, problem: str = "") -> None:
        """Wait for the next news."""
        await until(lambda: self.heard)
        wanted = [Target(each) if isinstance(each, str) else each for each in targets]
        self.assertEqual(self.heard, [(wanted, problem)])
        self.heard = []

    async def hears_nothing(self) -> None:
        await round_trips()
        self.assertEqual(self.heard, [])


class NameTests(Followers):
    async def test_both_kinds(self) -> None:
        """IPv4 before IPv6, in the order of the addresses, in whichever order the server has them."""
        self.server.has("a.test", "A", "10.0.0.10", "10.0.0.9")
        self.server.has("a.test", "AAAA", "fd00::1")
        self.follow()
        await self.hears("10.0.0.9", "10.0.0.10", "fd00::1")
        self.assertEqual(sorted(self.server.asked), BOTH)

    async def test_changes(self) -> None:
        """Each part is asked for again when it is old, the others are not."""
        self.server.has("a.test", "A", "10.0.0.1", ttl=10)
        self.server.has("a.test", "AAAA", "fd00::1", ttl=25)
        self.follow()
        await self.hears("10.0.0.1", "fd00::1")
        self.server.has("a.test", "A", "10.0.0.1", "10.0.0.2", ttl=10)
        self.server.asked.clear()
        self.time.advance(9.9)
        await self.hears_nothing()
        self.time.advance(0.1)
        await self.hears("10.0.0.1", "10.0.0.2", "fd00::1")
        self.assertEqual(self.server.asked, ["udp a.test A"])
        self.server.has("a.test", "A", "10.0.0.2", ttl=10)
        self.time.advance(10)
        await self.hears("10.0.0.2", "fd00::1")

    async def test_a_little_later(self) -> None:
        """Up to a tenth of the time, so that what came together is not asked for together."""
        self.server.has("a.test", "A", "10.0.0.1", ttl=10)
        self.server.has("a.test", "AAAA", "fd00::1", ttl=10)
        self.follow(random=0.5)
        await self.hears("10.0.0.1", "fd00::1")
        self.time.advance(10.4)
        await self.hears_nothing()
        self.time.advance(0.2)
        await self.hears("10.0.0.1", "fd00::1")

    async def test_ttl_0(self) -> None:
        """A second passes between two looks."""
        self.server.has("a.test", "A", "10.0.0.1", ttl=0)
        self.follow()
        await self.hears("10.0.0.1")
        self.time.advance(SHORTEST - 0.01)
        await self.hears_nothing()
        self.time.advance(0.01)
        await self.hears("10.0.0.1")

    async def test_old_before_it_is_whole(self) -> None:
        """A part whose time is over when the other one comes is asked for again a second later."""
        self.server.has("a.test", "A", "10.0.0.1", ttl=1)
        held: list[dns.message.Message] = []
        self.server.instead = [lambda question: self.server.answer(question).to_wire(), held.append]
        self.follow()
        await self.server.was_asked(*BOTH)
        await round_trips()
        self.time.advance(3)
        self.server.transport.write(self.server.answer(held[0]).to_wire(), self.server.clients[1])
        await self.hears("10.0.0.1")
        self.server.has("a.test", "A", "10.0.0.2", ttl=1)
        self.time.advance(SHORTEST - 0.01)
        await self.hears_nothing()
        self.time.advance(0.01)
        await self.hears("10.0.0.2")

    async def test_never_found(self) -> None:
        """Nothing, and why; then what there is."""
        self.follow()
        await self.hears(problem=NXDOMAIN)
        self.server.has("a.test", "A", "10.0.0.1")
        self.time.advance(10)
        await self.hears("10.0.0.1")

    async def test_lost(self) -> None:
        """A name that is gone, or has no address any more, keeps its last ones."""
        self.server.has("a.test", "A", "10.0.0.1", ttl=10)
        self.follow()
        await self.hears("10.0.0.1")
        self.server.has("a.test", "A", "10.0.0.1", ttl=10)
        del self.server.records["a.test", "A"]
        self.time.advance(10)
        await self.hears("10.0.0.1", problem=NXDOMAIN)
        self.server.has("a.test", "TXT", "gone")
        self.time.advance(10)
        await self.hears("10.0.0.1", problem="the name has no A records")
        self.server.has("a.test", "A", "10.0.0.2", ttl=10)
        self.time.advance(10)
        await self.hears("10.0.0.2")

    async def test_half_lost(self) -> None:
        """Addresses of one kind may go as long as others are left."""
        self.server.has("a.test", "A", "10.0.0.1", ttl=10)
        self.server.has("a.test", "AAAA", "fd00::1", ttl=10)
        self.follow()
        await self.hears("10.0.0.1", "fd00::1")
        del self.server.records["a.test", "AAAA"]
        self.time.advance(10)
        await self.hears("10.0.0.1")

    async def test_failing(self) -> None:
        """A kind that cannot be asked for counts with its last addresses; the other one goes on."""
        self.server.has("a.test", "A", "10.0.0.1", ttl=30)
        self.server.has("a.test", "AAAA", "fd00::1", ttl=10)
        self.follow()
        await self.hears("10.0.0.1", "fd00::1")
        self.server.instead = [failure]
        self.time.advance(10)
        problem = f"a.test AAAA: the server failed (SERVFAIL) ({self.server.address})"
        await self.hears("10.0.0.1", "fd00::1", problem=problem)
        self.server.has("a.test", "AAAA", "fd00::2", ttl=10)
        self.time.advance(1)
        await self.hears("10.0.0.1", "fd00::2")

    async def test_stop(self) -> None:
        """Whatever is under way, nothing is heard nor left."""
        self.server.has("a.test", "A", "10.0.0.1", ttl=10)
        follower = self.follow()
        await self.hears("10.0.0.1")
        follower.stop()
        self.assertEqual(self.time.getDelayedCalls(), [])
        self.time.advance(10)
        follower = self.follow()
        follower.stop()
        await self.hears_nothing()
        self.assertEqual(self.time.getDelayedCalls(), [])
        self.time.advance(60)
        self.follow().stop()
        self.answers.stop()
        await self.hears_nothing()
        self.assertEqual(self.time.getDelayedCalls(), [])


class BeforeTests(Followers):
    """From what another one has found."""

    async def before(self, name: str = "a.test", service: bool = False) -> Found:
        follower = self.follow(name, service)
        await until(lambda: self.heard)
        self.heard.clear()
        follower.stop()
        self.answers = Answers(Resolver(), [self.server.address], self.time, self.time.seconds)
        self.addCleanup(self.answers.stop)
        return follower.found

    async def test_nobody_answers(self) -> None:
        """Each part is asked at once, though its time is not over, and counts with its last answer."""
        self.server.has("a.test", "A", "10.0.0.1")
        self.server.has("a.test", "AAAA", "fd00::1")
        before = await self.before()
        self.server.asked.clear()
        self.server.instead = [failure] * 2
        follower = self.follow(before=before)
        problem = f"a.test A: the server failed (SERVFAIL) ({self.server.address})"
        await self.hears("10.0.0.1", "fd00::1", problem=problem)
        self.assertEqual(sorted(self.server.asked), BOTH)
        self.assertEqual(follower.found, before)
        self.time.advance(SHORTEST)
        await self.hears("10.0.0.1", "fd00::1")

    async def test_half_an_answer(self) -> None:
        """What is answered is new, what is not is as before."""
        self.server.has("a.test", "A", "10.0.0.1")
        self.server.has("a.test", "AAAA", "fd00::1")
        before = await self.before()
        self.server.has("a.test", "A", "10.0.0.2")
        self.server.instead = [lambda question: self.server.answer(question).to_wire(), failure]
        self.follow(before=before)
        problem = f"a.test AAAA: the server failed (SERVFAIL) ({self.server.address})"
        await self.hears("10.0.0.2", "fd00::1", problem=problem)

    async def test_lost(self) -> None:
        """A name that does not exist any more keeps its targets, also for one that begins after that."""
        self.server.has("a.test", "A", "10.0.0.1")
        before = await self.before()
        self.server.records.clear()
        for _ in range(2):
            follower = self.follow(before=before)
            await self.hears("10.0.0.1", problem=NXDOMAIN)
            before = follower.found

    async def test_service(self) -> None:
        """Records with their priorities and weights, and the addresses of their targets."""
        name = "_http._tcp.a.test"
        self.server.has(name, "SRV", "10 5 80 x.test.", "20 1 81 y.test.")
        self.server.has("x.test", "A", "10.0.0.1")
        self.server.has("y.test", "A", "10.0.0.2")
        before = await self.before(name, service=True)
        self.server.instead = [failure] * 5
        self.follow(name, service=True, before=before)
        problem = f"{name} SRV: the server failed (SERVFAIL) ({self.server.address})"
        await self.hears(Target("10.0.0.1", 80, 10, 5), Target("10.0.0.2", 81, 20, 1), problem=problem)


class ServiceTests(Followers):
    NAME = "_http._tcp.a.test"

    def offers(self, *records: str, ttl: int = 30) -> None:
        self.server.has(self.NAME, "SRV", *records, ttl=ttl)

    async def test_targets(self) -> None:
        """Each address of each target, by priority; what two records have in common counts once, for the first."""
        self.server.has("x.test", "A", "10.0.0.2", "10.0.0.1")
        self.server.has("y.test", "AAAA", "fd00::1")
        self.offers("20 1 80 x.test.", "10 5 8080 X.test.", "10 1 80 y.test.", "30 9 8080 x.test.")
        self.follow(self.NAME, service=True)
        await self.hears(
            Target("10.0.0.1", 8080, 10, 5),
            Target("10.0.0.2", 8080, 10, 5),
            Target("fd00::1", 80, 10, 1),
            Target("10.0.0.1", 80, 20, 1),
            Target("10.0.0.2", 80, 20, 1),
        )

    async def test_records_and_addresses(self) -> None:
        """Records and addresses are followed, each by its TTL."""
        self.server.has("x.test", "A", "10.0.0.1", ttl=10)
        self.server.has("y.test", "A", "10.0.0.9", ttl=99)
        self.offers("0 1 80 x.test.", ttl=15)
        self.follow(self.NAME, service=True)
        await self.hears(Target("10.0.0.1", 80))
        self.server.has("x.test", "A", "10.0.0.2", ttl=10)
        self.offers("0 1 80 x.test.", "0 7 81 y.test.", ttl=15)
        self.time.advance(10)
        await self.hears(Target("10.0.0.2", 80))
        self.time.advance(5)
        await self.hears(Target("10.0.0.2", 80), Target("10.0.0.9", 81, 0, 7))

    async def test_a_target_is_lost(self) -> None:
        """It goes as long as there are others; the last one stays."""
        self.server.has("x.test", "A", "10.0.0.1", ttl=10)
        self.server.has("y.test", "A", "10.0.0.2", ttl=10)
        self.offers("0 1 80 x.test.", "0 1 80 y.test.", ttl=99)
        self.follow(self.NAME, service=True)
        await self.hears(Target("10.0.0.1", 80), Target("10.0.0.2", 80))
        del self.server.records["x.test", "A"]
        self.time.advance(10)
        await self.hears(Target("10.0.0.2", 80))
        del self.server.records["y.test", "A"]
        self.time.advance(10)
        await self.hears(Target("10.0.0.2", 80), problem=NXDOMAIN)

    async def test_records_that_fail(self) -> None:
        """The last ones count, and their addresses are followed on."""
        self.server.has("x.test", "A", "10.0.0.1", ttl=10)
        self.offers("0 1 80 x.test.", ttl=10)
        self.follow(self.NAME, service=True)
        await self.hears(Target("10.0.0.1", 80))
        self.server.has("x.test", "A", "10.0.0.2", ttl=10)
        self.server.instead = [failure]
        self.time.advance(10)
        problem = f"{self.NAME} SRV: the server failed (SERVFAIL) ({self.server.address})"
        await self.hears(Target("10.0.0.2", 80), problem=problem)

    async def test_not_offered(self) -> None:
        """A dot says that there is no such service (RFC 2782); port 0 leads nowhere."""
        self.server.has("x.test", "A", "10.0.0.1")
        self.offers("0 0 0 .", "0 1 0 x.test.")
        self.follow(self.NAME, service=True)
        await self.hears(problem="no server offers it")

    async def test_sixty_targets(self) -> None:
        """The records come over TCP, the addresses few at a time."""
        for place in range(60):
            self.server.has(f"t{place}.test", "A", f"10.0.0.{place}")
        self.offers(*(f"0 1 80 t{place}.test." for place in range(60)))
        self.follow(self.NAME, service=True)
        await self.hears(*(Target(f"10.0.0.{place}", 80) for place in range(60)))
        self.assertEqual(len(self.server.asked), 2 + 2 * 60)


class TargetTests(TestCase):
    def test_in_the_log(self) -> None:
        """A name's are addresses, a service's have the rest, too."""
        self.assertEqual(str(Target("fd00::1")), "fd00::1")
        self.assertEqual(str(Target("10.0.0.1", 80, 10, 5)), "10.0.0.1:80 (priority 10, weight 5)")
        self.assertEqual(str(Target("fd00::1", 80)), "[fd00::1]:80 (priority 0, weight 1)")
