"""How is a question put to DNS servers, until one of them answers?

- Over UDP, to each server from a socket of its own that is connected to it, under a number of its own: whoever wants to
  answer in its place must guess both the number and the port, which the kernel chose.
- A server that is silent is left waiting, because it may answer yet, and the next one is asked; after the last one the
  first again.  The times between grow from `FIRST_WAIT` to `LONGEST_WAIT` seconds.
- A server that refuses, or is not there, is not asked again.
- An answer that is truncated is fetched over TCP from the server that gave it.
- It ends with the first answer, with the last server's refusal, or with the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from secrets import randbits
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ClientFactory
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

from pylb.model import InetAddress
from pylb.proxy.dns.message import DnsError, Question, Refused, Reply, Truncated, read
from pylb.proxy.server_port import ServerPort

__all__ = ["FIRST_WAIT", "LONGEST_WAIT", "Query"]

FIRST_WAIT = 1.0
LONGEST_WAIT = 4.0


class _Way(Protocol):
    """How a server is asked."""

    def ask(self) -> None:
        """Ask it, perhaps once more."""

    def close(self) -> None:
        """Let go of the socket; nothing is heard any more."""


class Query:
    """A question that is being asked of `servers`, for `timeout` seconds.

    `answer` fires with a Reply or fails with DnsError; who cancels it ends the query.
    """

    def __init__(self, reactor: Any, servers: Sequence[InetAddress], question: Question, timeout: float) -> None:
        self.reactor = reactor
        self.question = question
        self.answer: Deferred[Reply] = Deferred(lambda _: self._close())
        #: Those that have not refused, the next one first.
        self._servers = deque(servers)
        self._ways: dict[InetAddress, _Way] = {}
        self._wait = FIRST_WAIT
        self._again: IDelayedCall | None = None
        self._end: IDelayedCall = reactor.callLater(timeout, self._fail, f"no answer in {timeout:g} s")
        self._ask()

    def heard(self, server: InetAddress, number: int, data: bytes) -> bool:
        """Bytes have come from a server; whether they are a reply."""
        try:
            reply = read(self.question, number, data)
        except Truncated as error:
            self._fetch(server, str(error))
        except Refused as error:
            self.refused(server, str(error))
        else:
            if reply is None:
                return False
            self._close()
            self.answer.callback(reply)
        return True

    def refused(self, server: InetAddress, problem: str) -> None:
        """Nothing is to be had from a server: ask the next one at once."""
        if server not in self._servers:
            return
        self._servers.remove(server)
        if server in self._ways:
            self._ways.pop(server).close()
        if self._servers:
            self._ask()
        else:
            self._fail(f"{problem} ({server})")

    def _ask(self) -> None:
        server = self._servers[0]
        self._servers.rotate(-1)
        if self._again is not None and self._again.active():
            self._again.cancel()
        self._again = self.reactor.callLater(self._wait, self._ask)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        try:
            if server not in self._ways:
                self._ways[server] = _Datagrams(self, server)
            self._ways[server].ask()
        except OSError as error:
            self.refused(server, str(error.strerror))

    def _fetch(self, server: InetAddress, problem: str) -> None:
        way = self._ways[server]
        if isinstance(way, _Stream):
            self.refused(server, f"{problem} even over TCP")
            return
        way.close()
        self._ways[server] = _Stream(self, server)

    def _fail(self, problem: str) -> None:
        self._close()
        self.answer.errback(DnsError(problem))

    def _close(self) -> None:
        for call in (self._again, self._end):
            if call is not None and call.active():
                call.cancel()
        self._servers.clear()
        ways, self._ways = self._ways, {}
        for way in ways.values():
            way.close()


class _Datagrams:
    """Over UDP; what is no reply may come from anybody, and is passed over."""

    def __init__(self, query: Query, server: InetAddress) -> None:
        self._query = query
        self._server = server
        self._number = randbits(16)
        self._port = ServerPort(query.reactor, self, server)

    def ask(self) -> None:
        self._port.send(self._query.question.message(self._number))

    def close(self) -> None:
        self._port.close()

    # What the port tells (`pylb.proxy.server_port.ServerSession`).

    def reply_arrived(self, datagram: bytes) -> bool:
        self._query.heard(self._server, self._number, datagram)
        return False

    def refused(self, reason: str) -> None:
        self._query.refused(self._server, reason)


class _Stream(ClientFactory):
    """Over TCP; what is no reply is a refusal."""

    noisy = False

    def __init__(self, query: Query, server: InetAddress) -> None:
        self._query = query
        self._server = server
        self._number = randbits(16)
        self._connector = query.reactor.connectTCP(server.host, server.port, self)

    def ask(self) -> None:
        """It has been asked, and nothing gets lost."""

    def buildProtocol(self, addr: object) -> Int16StringReceiver:
        return _Exchange(self)

    def made(self, exchange: _Exchange) -> None:
        exchange.sendString(self._query.question.message(self._number))

    def heard(self, data: bytes) -> None:
        if not self._query.heard(self._server, self._number, data):
            self._query.refused(self._server, "what it says over TCP is no reply")

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._query.refused(self._server, f"no TCP: {reason.getErrorMessage()}")

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:
        self._query.refused(self._server, "no answer over TCP")

    def close(self) -> None:
        self._connector.disconnect()


class _Exchange(Int16StringReceiver):
    """A question and its answer, each behind its length."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def connectionMade(self) -> None:
        self._stream.made(self)

    def stringReceived(self, string: bytes) -> None:
        self._stream.heard(string)
