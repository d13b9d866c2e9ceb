"""pylb.proxy.dns.answers: real servers, time in the test's hand."""

from __future__ import annotations

import dns.message
import dns.rcode
from twisted.internet.defer import Deferred, gatherResults
from twisted.names.dns import AAAA, SRV, A
from twisted.trial.unittest import TestCase

from pylb.model import Resolver
from pylb.proxy.dns.answers import AT_ONCE, LONGEST_NOTHING, LONGEST_PAUSE, SHORTEST, Answers, Known
from pylb.proxy.dns.message import Question
from tests.backends import round_trips, until
from tests.proxy.dns.servers import DnsServer, Time

APP = Question("a.test", A)


class AnswersTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.time = Time()
        self.server = DnsServer(self)
        self.server.has("a.test", "A", "10.0.0.1", ttl=30)

    def answers(self, *servers: DnsServer, **spec) -> Answers:
        addresses = [server.address for server in servers or [self.server]]
        answers = Answers(Resolver(**spec), addresses, self.time, self.time.seconds)
        self.addCleanup(answers.stop)
        return answers

    async def ask(self, answers: Answers, question: Question = APP) -> Known:
        known = answers.about(question)
        await answers.refresh(known)
        return known

    async def holds(self, known: Known, seconds: float, answers: Answers) -> None:
        """It is asked again after so many seconds, and not before."""
        self.assertAlmostEqual(known.due - self.time.seconds(), seconds)
        self.server.asked.clear()
        self.time.advance(seconds - 0.001)
        await answers.refresh(known)
        self.assertEqual(self.server.asked, [])
        self.time.advance(0.002)
        await answers.refresh(known)
        self.assertTrue(self.server.asked)

    async def test_ttl(self) -> None:
        """An answer holds for its TTL."""
        answers = self.answers()
        known = await self.ask(answers)
        self.assertEqual(known.values, ("10.0.0.1",))
        self.server.has("a.test", "A", "10.0.0.2", ttl=30)
        await self.holds(known, 30, answers)
        self.assertEqual(known.values, ("10.0.0.2",))

    async def test_ttl_0(self) -> None:
        """Nothing is asked more than once a second, and nothing is believed for longer than a day."""
        answers = self.answers()
        for ttl, seconds in [(0, SHORTEST), (2**31 - 1, 86_400)]:
            self.server.has(f"t{ttl}.test", "A", "10.0.0.1", ttl=ttl)
            await self.holds(await self.ask(answers, Question(f"t{ttl}.test", A)), seconds, answers)

    async def test_valid(self) -> None:
        """What the operator says, whatever the answer, also of nothing."""
        answers = self.answers(valid=7.0)
        await self.holds(await self.ask(answers), 7, answers)
        await self.holds(await self.ask(answers, Question("none.test", A)), 7, answers)
        answers = self.answers(valid=0.1)
        await self.holds(await self.ask(answers), SHORTEST, answers)

    async def test_nothing(self) -> None:
        """That there is nothing holds as its zone says, for ten seconds at most, or if it says nothing."""
        answers = self.answers()
        for place, (said, seconds) in enumerate(
            [(None, LONGEST_NOTHING), (4, 4), (3600, LONGEST_NOTHING), (0, SHORTEST)]
        ):
            self.server.nothing_for = said
            known = await self.ask(answers, Question(f"none{place}.test", A))
            self.assertEqual((known.values, known.nothing), ((), "the name does not exist (NXDOMAIN)"))
            self.assertEqual(known.problem, "")
            await self.holds(known, seconds, answers)

    async def test_no_more(self) -> None:
        """An answer that there is nothing takes the place of the one before; a failure does not."""
        answers = self.answers()
        known = await self.ask(answers)
        self.time.advance(30)
        self.server.instead = [self.failure]
        await answers.refresh(known)
        self.assertEqual(known.values, ("10.0.0.1",))
        self.assertIn("SERVFAIL", known.problem)
        del self.server.records["a.test", "A"]
        self.time.advance(1)
        await answers.refresh(known)
        self.assertEqual((known.values, known.problem), ((), ""))

    async def test_failures(self) -> None:
        """The pauses double, up to half a minute; an answer ends that."""
        answers = self.answers()
        self.server.instead = [self.failure] * 8
        known = await self.ask(answers)
        for seconds in (1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE):
            await self.holds(known, seconds, answers)
        self.assertTrue(known.problem)
        await self.holds(known, LONGEST_PAUSE, answers)
        self.assertEqual((known.problem, known.values), ("", ("10.0.0.1",)))
        self.server.instead = [self.failure]
        await self.holds(known, 30, answers)
        await self.holds(known, 1, answers)

    def failure(self, question: dns.message.Message) -> bytes:
        message = dns.message.make_response(question)
        message.set_rcode(dns.rcode.SERVFAIL)
        return message.to_wire()

    async def test_aliases(self) -> None:
        """Followed to names that the server says only when asked; the shortest TTL on the way counts."""
        self.server.has("a.test", "CNAME", "b.test.", ttl=20)
        self.server.has("b.test", "A", "10.0.0.2", ttl=40)
        self.server.instead = [self.alias_alone]
        answers = self.answers()
        known = await self.ask(answers)
        self.assertEqual(self.server.asked, ["udp a.test A", "udp b.test A"])
        self.assertEqual((known.values, known.due), (("10.0.0.2",), 20))

    def alias_alone(self, question: dns.message.Message) -> bytes:
        message = self.server.answer(question)
        del message.answer[1:]
        return message.to_wire()

    async def test_aliases_without_an_end(self) -> None:
        """From server to server for ever: a failure."""
        self.server.has("a.test", "CNAME", "b.test.")
        self.server.has("b.test", "CNAME", "a.test.")
        self.server.instead = [lambda question: self.bare_alias(question)] * 20
        known = await self.ask(self.answers())
        self.assertEqual(known.problem, "an alias of an alias, and so on without an end")
        self.assertEqual(len(self.server.asked), 8)

    def bare_alias(self, question: dns.message.Message) -> bytes:
        message = dns.message.make_response(question)
        self.server._add(message, question.question[0].name.to_text(True), "CNAME")
        return message.to_wire()

    async def test_asked_once(self) -> None:
        """However many want it; all hear of it."""
        answers = self.answers()
        first = answers.about(APP)
        self.assertIs(answers.about(Question("a.test", A)), first)
        await gatherResults([answers.refresh(first) for _ in range(3)])
        self.assertEqual(self.server.asked, ["udp a.test A"])

    async def test_forgotten(self) -> None:
        """What nobody holds is asked anew; nothing piles up."""
        answers = self.answers()
        for _ in range(2):
            await self.ask(answers)
            await round_trips()
        self.assertEqual(self.server.asked, ["udp a.test A"] * 2)

    async def test_before(self) -> None:
        """What somebody knew before is due, and stays when there is no answer; what is known here counts for more."""
        self.server.records.clear()
        self.server.instead = [self.failure]
        answers = self.answers()
        known = answers.about(APP, ("10.0.0.9",))
        await answers.refresh(known)
        self.assertEqual((known.values, bool(known.problem)), (("10.0.0.9",), True))
        self.assertIs(answers.about(APP, ("10.0.0.8",)), known)
        self.assertEqual(known.values, ("10.0.0.9",))
        self.time.advance(SHORTEST)
        await answers.refresh(known)
        self.assertEqual((known.values, known.problem), ((), ""))

    async def test_not_all_at_once(self) -> None:
        """Few questions are under way at a time; the others wait until one of these has ended."""
        held: list[bytes] = []
        self.server.instead = [lambda question: held.append(question)] * AT_ONCE
        answers = self.answers()
        questions = [Question(f"n{number}.test", A) for number in range(AT_ONCE + 3)]
        known = [answers.about(question) for question in questions]
        done = [answers.refresh(each) for each in known]
        await until(lambda: len(self.server.asked) == AT_ONCE)
        await round_trips()
        self.assertEqual(len(self.server.asked), AT_ONCE)
        self.server.transport.write(self.server.answer(held[0]).to_wire(), self.server.clients[0])
        await gatherResults(done[AT_ONCE:])
        self.assertEqual(len(self.server.asked), AT_ONCE + 3)

    async def test_servers_take_turns(self) -> None:
        """Each question goes to the next server first; one that is named twice is one."""
        other = DnsServer(self)
        answers = self.answers(self.server, other, self.server)
        for name in "abcd":
            await self.ask(answers, Question(f"{name}.test", A))
        self.assertEqual(self.server.asked, ["udp a.test A", "udp c.test A"])
        self.assertEqual(other.asked, ["udp b.test A", "udp d.test A"])

    async def test_timeout(self) -> None:
        """A question ends after the time that the operator gave it."""
        self.server.instead = [lambda question: None] * 9
        answers = self.answers(timeout=3.0)
        asked = answers.about(APP)
        done = answers.refresh(asked)
        await self.server.was_asked("udp a.test A")
        self.time.advance(2.9)
        self.assertNoResult(done)
        self.time.advance(0.1)
        await done
        self.assertEqual(asked.problem, "no answer in 3 s")

    async def test_kinds(self) -> None:
        self.assertEqual(self.answers().kinds, [A, AAAA])
        self.assertEqual(self.answers(ipv4=False).kinds, [AAAA])
        self.assertEqual(self.answers(ipv6=False).kinds, [A])

    async def test_stop(self) -> None:
        """Nothing is open afterwards, not of those that waited for their turn either, and nobody hears of anything."""
        self.server.instead = [lambda question: None] * 99
        answers = self.answers()
        known = [answers.about(Question(f"n{number}.test", SRV)) for number in range(AT_ONCE + 3)]
        done: list[Deferred[None]] = [answers.refresh(each) for each in known]
        await until(lambda: len(self.server.asked) == AT_ONCE)
        answers.stop()
        await round_trips()
        self.assertEqual(self.time.getDelayedCalls(), [])
        self.assertEqual(len(self.server.asked), AT_ONCE)
        for each in done:
            self.assertNoResult(each)
