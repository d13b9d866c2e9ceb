"""pylb.check.presets: questions that servers of well-known protocols answer."""

from __future__ import annotations

import hmac
from hashlib import md5

from twisted.internet import reactor
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.server import DNSServerFactory
from twisted.trial.unittest import SynchronousTestCase

from pylb.check.interface import Unhealthy
from pylb.check.presets import PRESETS
from pylb.model import InetAddress, UdpCheck
from tests.check.asking import Asking


class Zone(FileAuthority):
    """example.com, which has one address."""

    def loadFile(self, filename):
        self.soa = (b"example.com", dns.Record_SOA())
        self.records = {b"example.com": [dns.Record_A("192.0.2.1")]}


class DnsTests(Asking):
    DNS = UdpCheck(preset="dns")

    def name_server(self) -> InetAddress:
        """twisted.names, with a zone of its own, and without the one that is asked for."""
        server = DNSServerFactory(authorities=[Zone("")])
        server.noisy = False
        port = reactor.listenUDP(0, dns.DNSDatagramProtocol(server), "127.0.0.1")
        self.addCleanup(port.stopListening)
        return InetAddress("127.0.0.1", port.getHost().port)

    async def test_a_real_one(self):
        """Any answer or refusal shows that a name server is alive."""
        self.assertIsNone(await self.verdict(self.DNS, self.name_server()))

    async def test_failure(self):
        """A name server that says that it fails does."""
        where = self.udp(lambda question: [question[:2] + b"\x81\x82" + question[4:]])
        self.assertEqual(await self.verdict(self.DNS, where), "DNS server failure")

    async def test_other_answers(self):
        """Answers to other questions, questions and garbage are waited past."""
        noise = [b"", b"x", bytes(12)]
        where = self.udp(
            lambda question: [*noise, question, bytes([question[0] ^ 1]) + question[1:2] + b"\x81\x80" + bytes(8)]
        )
        self.assertEqual(await self.verdict(self.DNS, where, 0.05), "late")
        where = self.udp(lambda question: [*noise, question[:2] + b"\x81\x80" + question[4:]])
        self.assertIsNone(await self.verdict(self.DNS, where))

    def test_question(self):
        """One question, for NS of the root, as the protocol has it."""
        message = dns.Message()
        message.fromStr(PRESETS["dns"](b"").datagram)
        [query] = message.queries
        self.assertEqual((str(query.name), query.type, query.cls, message.recDes), ("", dns.NS, dns.IN, 1))


def ntp_answer(question: bytes, stratum: int = 2, leap: int = 0, mode: int = 4) -> bytes:
    """What a time server answers; it repeats the time at which it was asked."""
    return bytes([leap << 6 | 4 << 3 | mode, stratum]) + bytes(22) + question[40:48] + bytes(16)


class NtpTests(Asking):
    NTP = UdpCheck(preset="ntp")

    async def test_synchronised(self):
        self.assertIsNone(await self.verdict(self.NTP, self.udp(lambda question: [ntp_answer(question)])))
        [question] = self.datagrams.heard
        self.assertEqual((len(question), question[0]), (48, 0x23))

    async def test_not_synchronised(self):
        """A clock that says itself that it is not to be trusted, or that sends one away (kiss of death)."""
        for wrong in ({"leap": 3}, {"stratum": 0}, {"stratum": 16}):
            where = self.udp(lambda question, wrong=wrong: [ntp_answer(question, **wrong)])
            self.assertEqual(await self.verdict(self.NTP, where), "its clock is not synchronised")

    async def test_other_answers(self):
        """What is no answer to this question is waited past."""

        def answers(question: bytes) -> list[bytes]:
            return [b"", question, ntp_answer(question, mode=5), ntp_answer(bytes(48)), ntp_answer(question)[:47]]

        self.assertEqual(await self.verdict(self.NTP, self.udp(answers), 0.05), "late")
        self.assertIsNone(
            await self.verdict(self.NTP, self.udp(lambda question: [*answers(question), ntp_answer(question)]))
        )


def radius_answer(question: bytes, secret: bytes = b"shared", code: int = 2, more: bytes = b"") -> bytes:
    """What a RADIUS server answers, signed (RFC 2865, 3)."""
    head = bytes([code]) + question[1:2] + (20 + len(more)).to_bytes(2, "big")
    return head + md5(head + question[4:20] + more + secret).digest() + more


class RadiusTests(Asking):
    RADIUS = UdpCheck(preset="radius", secret="shared")

    async def test_signed(self):
        """By whom has the secret, with attributes or without, for authentication or accounting."""
        for more in (b"", bytes([18, 4]) + b"hi"):
            for code in (2, 5):
                where = self.udp(lambda question, code=code, more=more: [radius_answer(question, code=code, more=more)])
                self.assertIsNone(await self.verdict(self.RADIUS, where))

    async def test_question(self):
        """A Status-Server with a Message-Authenticator that is right (RFC 5997)."""
        await self.verdict(self.RADIUS, self.udp(lambda question: [radius_answer(question)]))
        [question] = self.datagrams.heard
        self.assertEqual((question[0], int.from_bytes(question[2:4], "big"), question[20:22]), (12, 38, b"\x50\x12"))
        signed = hmac.digest(b"shared", question[:22] + bytes(16), "md5")
        self.assertEqual(question[22:], signed)

    async def test_signed_wrongly(self):
        """Whoever lacks the secret, and whoever has changed something, is not believed."""

        def answers(question: bytes) -> list[bytes]:
            right = radius_answer(question, more=bytes([18, 4]) + b"hi")
            return [
                b"",
                radius_answer(question, b"guessed"),
                right[:-1] + b"o",
                right[:-1],
                bytes([right[0], right[1] ^ 1]) + right[2:],
                right[:2] + b"\0\0" + right[4:],
            ]

        self.assertEqual(await self.verdict(self.RADIUS, self.udp(answers), 0.05), "late")


class FreshTests(SynchronousTestCase):
    def test_late_answers(self):
        """An answer to an earlier question is none to a later one."""
        answers = {
            "dns": lambda question: question[:2] + b"\x81\x80" + question[4:],
            "ntp": ntp_answer,
            "radius": radius_answer,
        }
        for name, answer in answers.items():
            first = PRESETS[name](b"shared")
            others = [PRESETS[name](b"shared") for _ in range(3)]
            reply = answer(first.datagram)
            self.assertTrue(first.answered(reply), name)
            self.assertIn(None, [other.answered(reply) for other in others], name)

    def test_failure_of_somebody_else(self):
        """Somebody else's bad answer is not ours."""
        question = PRESETS["dns"](b"")
        failure = b"\x81\x82" + bytes(8)
        other = bytes([question.datagram[0] ^ 1]) + question.datagram[1:2]
        self.assertIsNone(question.answered(other + failure))
        self.assertRaises(Unhealthy, question.answered, question.datagram[:2] + failure)
