"""A DNS server on the loopback that says what a test wants, and a reactor whose time stands still."""

from __future__ import annotations

from collections.abc import Callable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import Clock
from twisted.protocols.basic import Int16StringReceiver
from twisted.trial.unittest import TestCase

from pylb.model import InetAddress
from tests.backends import until
from tests.functional.rig import free_port

__all__ = ["DnsServer", "Time", "soa"]

#: Bytes of a reply over UDP.
LARGEST = 512


def soa(zone: str, ttl: int, minimum: int) -> dns.rrset.RRset:
    """What says for how long there is nothing."""
    return dns.rrset.from_text(zone, ttl, "IN", "SOA", f"ns.{zone} admin.{zone} 1 2 3 4 {minimum}")


class Time(Clock):
    """Time is in the test's hand, sockets are real."""

    addReader = staticmethod(reactor.addReader)
    removeReader = staticmethod(reactor.removeReader)
    connectTCP = staticmethod(reactor.connectTCP)


class DnsServer(DatagramProtocol):
    """Speaks UDP and TCP at one port; `asked` has what was asked: "udp a.test A"."""

    noisy = False

    def __init__(self, case: TestCase, host: str = "127.0.0.1") -> None:
        #: By name and type: the TTL and the records.
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.asked: list[str] = []
        #: Where datagrams came from.
        self.clients: list[tuple[str, int]] = []
        #: Answers that are not of `records`, each used once, the first first; None is silence, and over TCP
        #: no bytes are the end.
        self.instead: list[Callable[[dns.message.Message], bytes | None]] = []
        #: Seconds for which it holds that there is nothing; None is not said.
        self.nothing_for: int | None = None
        port = free_port()
        self.address = InetAddress(host, port)
        tcp = Factory.forProtocol(_Exchange)
        tcp.noisy, tcp.server = False, self
        self._ports = [
            reactor.listenUDP(port, self, interface=host),
            reactor.listenTCP(port, tcp, interface=host),
        ]
        case.addCleanup(self.stop)

    async def stop(self) -> None:
        for port in self._ports:
            await maybeDeferred(port.stopListening)

    async def stop_tcp(self) -> None:
        await self._ports[1].stopListening()

    def has(self, name: str, kind: str, *records: str, ttl: int = 60) -> None:
        """A name has these records, and no others of their kind."""
        self.records[name, kind] = ttl, list(records)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.clients.append(addr)
        reply = self.reply(datagram, "udp")
        if reply is not None:
            self.transport.write(reply, addr)

    def reply(self, data: bytes, way: str) -> bytes | None:
        question = dns.message.from_wire(data)
        [asked] = question.question
        self.asked.append(f"{way} {asked.name.to_text(True)} {dns.rdatatype.to_text(asked.rdtype)}")
        if self.instead:
            return self.instead.pop(0)(question)
        message = self.answer(question)
        if way == "udp" and len(message.to_wire()) > LARGEST:
            message.flags |= dns.flags.TC
            message.answer = []
        return message.to_wire()

    def answer(self, question: dns.message.Message) -> dns.message.Message:
        """What the records say, aliases of this server followed."""
        message = dns.message.make_response(question)
        name = question.question[0].name.to_text(True).lower()
        kind = dns.rdatatype.to_text(question.question[0].rdtype)
        while (name, "CNAME") in self.records:
            name = self._add(message, name, "CNAME")
        if (name, kind) in self.records:
            self._add(message, name, kind)
        elif name not in {known for known, _ in self.records}:
            message.set_rcode(dns.rcode.NXDOMAIN)
        if (name, kind) not in self.records and self.nothing_for is not None:
            message.authority.append(soa("test.", self.nothing_for, self.nothing_for))
        return message

    def _add(self, message: dns.message.Message, name: str, kind: str) -> str:
        ttl, records = self.records[name, kind]
        message.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *records))
        return records[0].rstrip(".")

    async def was_asked(self, *questions: str) -> None:
        """Wait until these have been asked, in any order, and no others since this was asked last."""
        await until(lambda: len(self.asked) >= len(questions))
        asked, self.asked = self.asked, []
        if sorted(asked) != sorted(questions):
            raise AssertionError(f"{asked} were asked, not {questions}")


class _Exchange(Int16StringReceiver):
    def stringReceived(self, string: bytes) -> None:
        reply = self.factory.server.reply(string, "tcp")
        if reply:
            self.sendString(reply)
        elif reply is not None:
            self.transport.loseConnection()
