"""pylb.proxy.dns.query: real servers, time in the test's hand."""

from __future__ import annotations

import errno
import socket

import dns.flags
import dns.message
import dns.rcode
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.names.dns import A
from twisted.trial.unittest import TestCase

from pylb.model import InetAddress
from pylb.proxy.dns.message import DnsError, Question
from pylb.proxy.dns.query import FIRST_WAIT, LONGEST_WAIT, Query
from pylb.proxy.server_port import ServerPort
from tests.backends import dead_address, round_trips, until
from tests.proxy.dns.servers import DnsServer, Time

TIMEOUT = 30.0


def silence(question: dns.message.Message) -> None:
    """Nothing is said."""


def failure(question: dns.message.Message) -> bytes:
    message = dns.message.make_response(question)
    message.set_rcode(dns.rcode.SERVFAIL)
    return message.to_wire()


def truncated(question: dns.message.Message) -> bytes:
    message = dns.message.make_response(question)
    message.flags |= dns.flags.TC
    return message.to_wire()


class Queries(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.time = Time()
        self.open = set(reactor.getReaders())

    def server(self, *addresses: str, host: str = "127.0.0.1") -> DnsServer:
        server = DnsServer(self, host)
        server.has("a.test", "A", *addresses)
        self.open |= set(reactor.getReaders())
        return server

    def ask(self, *servers: DnsServer | InetAddress) -> Query:
        addresses = [each.address if isinstance(each, DnsServer) else each for each in servers]
        return Query(self.time, addresses, Question("a.test", A), TIMEOUT)

    async def values(self, query: Query) -> tuple[str, ...]:
        reply = await query.answer
        self.nothing_left()
        return tuple(sorted(reply.values))

    async def problem(self, query: Query) -> str:
        error = await self.assertFailure(query.answer, DnsError)
        self.nothing_left()
        return str(error)

    def nothing_left(self) -> None:
        """No socket of the query and no call is left."""
        left = [each for each in set(reactor.getReaders()) - self.open if isinstance(each, ServerPort)]
        self.assertEqual((left, self.time.getDelayedCalls()), ([], []))


class DatagramTests(Queries):
    async def test_answer(self) -> None:
        server = self.server("10.0.0.1", "10.0.0.2")
        self.assertEqual(await self.values(self.ask(server)), ("10.0.0.1", "10.0.0.2"))
        self.assertEqual(server.asked, ["udp a.test A"])

    async def test_ipv6(self) -> None:
        self.assertEqual(await self.values(self.ask(self.server("10.0.0.1", host="::1"))), ("10.0.0.1",))

    async def test_lost(self) -> None:
        """What was lost is asked again, after ever longer times."""
        server = self.server("10.0.0.1")
        server.instead = [silence] * 4
        query = self.ask(server)
        for count, wait in enumerate([FIRST_WAIT, 2 * FIRST_WAIT, LONGEST_WAIT, LONGEST_WAIT], 1):
            await until(lambda count=count: len(server.asked) == count)
            self.time.advance(wait - 0.01)
            await round_trips()
            self.assertEqual(len(server.asked), count)
            self.time.advance(0.01)
        self.assertEqual(await self.values(query), ("10.0.0.1",))

    async def test_next_server(self) -> None:
        """While one is silent the next is asked; both are heard, also the one that was asked first."""
        first, second = self.server("10.0.0.1"), self.server("10.0.0.2")
        held = []
        first.instead = [held.append]
        second.instead = [silence]
        query = self.ask(first, second)
        await first.was_asked("udp a.test A")
        self.time.advance(FIRST_WAIT)
        await second.was_asked("udp a.test A")
        first.transport.write(first.answer(held[0]).to_wire(), first.clients[0])
        self.assertEqual(await self.values(query), ("10.0.0.1",))

    async def test_failing_server(self) -> None:
        """The next is asked at once, and it not again."""
        first, second = self.server(), self.server("10.0.0.2")
        first.instead = [failure]
        second.instead = [silence] * 2
        query = self.ask(first, second)
        for _ in range(2):
            await second.was_asked("udp a.test A")
            self.time.advance(LONGEST_WAIT)
        self.assertEqual(await self.values(query), ("10.0.0.2",))
        self.assertEqual(first.asked, ["udp a.test A"])

    async def test_nobody_there(self) -> None:
        """A port where nobody listens is passed over at once, and so is an address to which there is no way."""
        server = self.server("10.0.0.1")
        for dead in (dead_address(self), InetAddress("255.255.255.255", 53)):
            self.assertEqual(await self.values(self.ask(dead, server)), ("10.0.0.1",))

    async def test_all_refuse(self) -> None:
        """It ends with the last server's reason, at once."""
        first, second = self.server(), self.server()
        first.instead = [failure]
        second.instead = [failure]
        problem = await self.problem(self.ask(first, second))
        self.assertEqual(problem, f"the server failed (SERVFAIL) ({second.address})")
        dead = dead_address(self)
        self.assertEqual(await self.problem(self.ask(dead)), f"Connection refused ({dead})")

    async def test_no_descriptors(self) -> None:
        """A socket that cannot be had fails the question, not the program."""

        def exhausted(*arguments: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        server = self.server()
        self.patch(socket, "socket", exhausted)
        problem = await self.problem(self.ask(server))
        self.assertIn("Too many open files", problem)

    async def test_timeout(self) -> None:
        """Over all servers and tries."""
        server = self.server()
        server.instead = [silence] * 20
        query = self.ask(server)
        self.time.pump([0.5] * int(2 * TIMEOUT - 1))
        self.assertNoResult(query.answer)
        self.time.advance(0.5)
        self.assertEqual(await self.problem(query), "no answer in 30 s")

    async def test_garbage(self) -> None:
        """What is no reply to the question, and a reply under another number, count for nothing."""
        server = self.server("10.0.0.1")

        def foreign(question: dns.message.Message) -> bytes:
            question.id ^= 1
            return server.answer(question).to_wire()

        server.instead = [lambda question: b"garbage", foreign]
        query = self.ask(server)
        for _ in range(2):
            await server.was_asked("udp a.test A")
            await round_trips()
            self.assertNoResult(query.answer)
            self.time.advance(LONGEST_WAIT)
        self.assertEqual(await self.values(query), ("10.0.0.1",))

    async def test_somebody_else(self) -> None:
        """The right reply from another port is none."""
        server = self.server("10.0.0.1")
        held = []
        server.instead = [held.append]
        query = self.ask(server)
        await server.was_asked("udp a.test A")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(server.answer(held[0]).to_wire(), server.clients[0])
        await round_trips()
        self.assertNoResult(query.answer)
        self.time.advance(FIRST_WAIT)
        self.assertEqual(await self.values(query), ("10.0.0.1",))

    async def test_hard_to_guess(self) -> None:
        """Each question has a number and a port of its own; of 32 random ones hardly two are the same."""
        server = self.server("10.0.0.1")
        numbers = set()
        reply = server.answer
        server.answer = lambda question: numbers.add(question.id) or reply(question)
        for _ in range(32):
            await self.values(self.ask(server))
        self.assertGreater(len(numbers), 28)
        self.assertGreater(len(set(server.clients)), 16)

    async def test_cancelled(self) -> None:
        """Who does not want the answer any more lets go of the sockets, over UDP and TCP."""
        for instead in (silence, truncated):
            server = self.server()
            server.instead = [instead, silence]
            query = self.ask(server)
            await until(lambda server=server, instead=instead: len(server.asked) == 1 + (instead is truncated))
            query.answer.cancel()
            await self.assertFailure(query.answer, CancelledError)
            self.nothing_left()
            await round_trips()


class TruncatedTests(Queries):
    async def test_sixty_records(self) -> None:
        """What does not fit into a datagram is fetched over TCP."""
        server = self.server(*(f"10.0.0.{host}" for host in range(60)))
        self.assertEqual(len(await self.values(self.ask(server))), 60)
        self.assertEqual(server.asked, ["udp a.test A", "tcp a.test A"])

    async def test_fails_over_tcp(self) -> None:
        """Then the next server is asked, whatever it was: no port, the end, an error, garbage, cut short again."""
        for instead in (None, lambda question: b"", failure, lambda question: b"garbage", truncated):
            first, second = self.server(), self.server("10.0.0.2")
            first.instead = [truncated, instead]
            if instead is None:
                await first.stop_tcp()
            self.assertEqual(await self.values(self.ask(first, second)), ("10.0.0.2",))
            await round_trips()

    async def test_reason(self) -> None:
        server = self.server()
        server.instead = [truncated, truncated]
        problem = await self.problem(self.ask(server))
        self.assertEqual(problem, f"the reply is truncated even over TCP ({server.address})")

    async def test_silent_over_tcp(self) -> None:
        """The next server is asked meanwhile, and the silent one not over UDP again."""
        first, second = self.server(), self.server("10.0.0.2")
        first.instead = [truncated, silence]
        second.instead = [silence] * 2
        query = self.ask(first, second)
        await first.was_asked("udp a.test A", "tcp a.test A")
        for _ in range(2):
            self.time.advance(LONGEST_WAIT)
            await second.was_asked("udp a.test A")
            self.time.advance(LONGEST_WAIT)
        self.time.advance(LONGEST_WAIT)
        self.assertEqual(await self.values(query), ("10.0.0.2",))
        self.assertEqual(first.asked, [])
        await round_trips()
