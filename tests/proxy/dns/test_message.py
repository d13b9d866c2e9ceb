"""pylb.proxy.dns.message: replies are written by dnspython."""

from __future__ import annotations

import contextlib

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st
from twisted.names.dns import AAAA, SRV, A
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.dns.message import DnsError, Question, Refused, Reply, Service, Truncated, read
from tests.proxy.dns.servers import soa

NUMBER = 4711
APP = Question("app.test", A)


def records(*lines: str) -> list[dns.rrset.RRset]:
    """Each line: name, TTL, type and what it says."""
    return [
        dns.rrset.from_text(name, int(ttl), "IN", kind, rest)
        for name, ttl, kind, rest in (line.split(" ", 3) for line in lines)
    ]


def reply(question: Question, *lines: str, rcode: int = dns.rcode.NOERROR, authority=()) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(question.message(NUMBER)))
    message.answer = records(*lines)
    message.authority = list(authority)
    message.set_rcode(rcode)
    return message.to_wire()


class QuestionTests(SynchronousTestCase):
    def test_message(self) -> None:
        """One question under the number, for a server that follows it to its end."""
        message = dns.message.from_wire(Question("_http._tcp.app.test", SRV).message(NUMBER))
        self.assertEqual(message.id, NUMBER)
        self.assertEqual(message.flags, dns.flags.RD)
        self.assertEqual([each.to_text() for each in message.question], ["_http._tcp.app.test. IN SRV"])

    def test_dot(self) -> None:
        """A dot at the end of a name is no part of it."""
        self.assertEqual(Question("app.test.", A).message(1), APP.message(1))
        data = reply(Question("app.test.", A), "app.test. 60 A 10.0.0.1")
        self.assertEqual(read(Question("app.test.", A), NUMBER, data), Reply(("10.0.0.1",), 60))

    def test_repr(self) -> None:
        self.assertEqual(str(Question("app.test", AAAA)), "app.test AAAA")


class ReadTests(SynchronousTestCase):
    def says(self, *lines: str, question: Question = APP, **more) -> Reply | None:
        return read(question, NUMBER, reply(question, *lines, **more))

    def test_addresses(self) -> None:
        """All addresses; the shortest TTL counts; names have no case, and records of other names and kinds no say."""
        found = self.says("APP.test. 60 A 10.0.0.1", "app.test. 30 A 10.0.0.2", "b.test. 1 A 10.0.0.3")
        self.assertEqual(found, Reply(("10.0.0.1", "10.0.0.2"), 30))
        question = Question("app.test", AAAA)
        found = self.says("app.test. 60 AAAA FD00::0:1", "app.test. 5 A 10.0.0.1", question=question)
        self.assertEqual(found, Reply(("fd00::1",), 60))

    def test_services(self) -> None:
        question = Question("_http._tcp.app.test", SRV)
        found = self.says("_http._tcp.app.test. 60 SRV 10 5 8080 A.test.", question=question)
        self.assertEqual(found, Reply((Service(10, 5, 8080, "a.test"),), 60))
        found = self.says("_http._tcp.app.test. 60 SRV 0 0 0 .", question=question)
        self.assertEqual(found, Reply((Service(0, 0, 0, ""),), 60))

    def test_aliases(self) -> None:
        """Followed in whatever order they come; their TTL counts, too."""
        lines = ["c.test. 60 A 10.0.0.1", "b.test. 20 CNAME C.test.", "app.test. 30 CNAME b.test."]
        self.assertEqual(self.says(*lines), Reply(("10.0.0.1",), 20))
        self.assertEqual(self.says(*reversed(lines)), Reply(("10.0.0.1",), 20))

    def test_alias_elsewhere(self) -> None:
        """What the server does not know more of must be asked for; what has an end there not."""
        self.assertEqual(self.says("app.test. 30 CNAME b.example."), Reply((), 30, alias="b.example"))
        ended = self.says("app.test. 30 CNAME b.test.", authority=[soa("test.", 9, 9)])
        self.assertEqual(ended, Reply((), 9, nothing="the name has no A records"))

    def test_aliases_in_a_circle(self) -> None:
        found = self.says("app.test. 30 CNAME b.test.", "b.test. 30 CNAME app.test.")
        self.assertEqual((found.values, found.nothing), ((), "the name has no A records"))

    def test_nothing(self) -> None:
        """A name without such records, and one that does not exist; for the smaller of the TTL and what SOA says."""
        self.assertEqual(self.says(), Reply((), None, nothing="the name has no A records"))
        found = self.says(rcode=dns.rcode.NXDOMAIN, authority=[soa("test.", 100, 7)])
        self.assertEqual(found, Reply((), 7, nothing="the name does not exist (NXDOMAIN)"))
        self.assertEqual(self.says(authority=[soa("test.", 5, 700)]).ttl, 5)

    def test_ttl_below_zero(self) -> None:
        """The sign bit makes it 0 (RFC 2181)."""
        self.assertEqual(self.says("app.test. 2147483648 A 10.0.0.1").ttl, 0)

    def test_truncated(self) -> None:
        """Whatever else it has."""
        for data in (reply(APP), reply(APP, "app.test. 60 A 10.0.0.1")):
            cut = data[:2] + bytes([data[2] | 2]) + data[3:]
            self.assertRaises(Truncated, read, APP, NUMBER, cut)

    def test_refused(self) -> None:
        """What the server says of itself is no answer about the name."""
        texts = {
            dns.rcode.SERVFAIL: "the server failed (SERVFAIL)",
            dns.rcode.REFUSED: "the server refuses to answer",
            dns.rcode.NOTIMP: "the server knows no such questions",
            dns.rcode.FORMERR: "the server does not understand the question",
            dns.rcode.NOTAUTH: "the server says error 9",
        }
        for rcode, text in texts.items():
            self.assertEqual(str(self.assertRaises(Refused, self.says, rcode=rcode)), text)

    def test_not_ours(self) -> None:
        """Another number, name, kind or count of questions, a question, another opcode: no replies to this."""
        right = reply(APP, "app.test. 60 A 10.0.0.1")
        self.assertIsNotNone(read(APP, NUMBER, right))
        self.assertIsNone(read(APP, NUMBER + 1, right))
        self.assertIsNone(read(Question("apq.test", A), NUMBER, right))
        self.assertIsNone(read(Question("app.test", AAAA), NUMBER, right))
        self.assertIsNone(read(APP, NUMBER, APP.message(NUMBER)))
        self.assertIsNone(read(APP, NUMBER, right[:2] + bytes([right[2] | 0x10]) + right[3:]))
        self.assertIsNone(read(APP, NUMBER, right[:5] + b"\0" + right[6:]))

    def test_case_of_the_question(self) -> None:
        """A server may write the name as it likes."""
        data = reply(APP, "app.test. 60 A 10.0.0.1").replace(b"\3app\4test", b"\3ApP\4tESt", 1)
        self.assertEqual(read(APP, NUMBER, data), Reply(("10.0.0.1",), 60))

    def test_cut_off(self) -> None:
        """A reply that ends before its answers do is none: half of the servers would seem to be gone."""
        data = reply(APP, *(f"app.test. 60 A 10.0.0.{host}" for host in range(9)))
        for end in range(len(data)):
            self.assertIsNone(read(APP, NUMBER, data[:end]))

    def test_many(self) -> None:
        """As many records as a reply over TCP can hold."""
        lines = [f"app.test. 60 A 10.0.{host >> 8}.{host & 255}" for host in range(4000)]
        self.assertEqual(len(self.says(*lines).values), 4000)

    @given(st.binary(max_size=120), st.booleans())
    def test_garbage(self, rest: bytes, ours: bool) -> None:
        """Whatever comes, with our question before it or not: an answer, none, or DnsError."""
        head = reply(APP, "app.test. 60 A 10.0.0.1")[: len(APP.message(NUMBER))] if ours else b""
        with contextlib.suppress(DnsError):  # a module's `suppress` has a meaning for trial
            read(APP, NUMBER, head + rest)

    def test_pointers_in_a_circle(self) -> None:
        """A name that points to itself is no name."""
        data = reply(APP, "app.test. 60 A 10.0.0.1")
        head = len(APP.message(NUMBER))
        self.assertIsNone(read(APP, NUMBER, data[:head] + bytes([0xC0, head]) + data[head + 2 :]))
