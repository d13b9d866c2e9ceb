"""Servers that go wrong when a seed says so.

Which request of a server meets which fault follows from the seed and the request's number there, so a run can be repeated.
What a server has read whole it has executed, whatever becomes of the answer.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from pylb.proxy.tls import ServerTLS
from tests.functional.turning import LENGTH, Turning

__all__ = ["FAULTS", "Faulty", "Plan", "body_of"]

#: What a server may do instead of answering.  One that falls resets all connections, and nobody listens until it rises.
FAULTS = ("fall", "reset", "end", "garbage", "truncate", "hang")
#: Turns until it rises.
FALLEN = (3, 8)

_GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunks\r\n\r\n",
)
_NUMBER = re.compile(rb"[A-Z]+ /(\d+) ")


def body_of(number: int, size: int) -> bytes:
    """The `size` bytes that belong to a request."""
    unit = b"%d " % number
    return (unit * (size // len(unit) + 1))[:size]


class Plan:
    """About every `rarity`-th request meets a fault; 0: none does."""

    def __init__(self, seed: object, rarity: float) -> None:
        self.dice = Random(f"{seed}")
        self.happened: Counter[str] = Counter()
        self._rarity = rarity

    def next(self) -> str | None:
        """The fault of the next request."""
        if not self._rarity or self.dice.random() * self._rarity >= 1.0:
            return None
        fault = self.dice.choice(FAULTS)
        self.happened[fault] += 1
        return fault


class Faulty(Factory):
    """A server of numbered requests, which it answers with their number, and its plan."""

    noisy = False

    def __init__(self, time: Turning, plan: Plan, tls: ServerTLS | None = None) -> None:
        self.plan = plan
        #: The numbers of the requests that were executed, and of those whose body was not theirs.
        self.executed: list[int] = []
        self.spoilt: list[int] = []
        self.connections: set[_Connection] = set()
        self._time = time
        self._factory = self if tls is None else tls.over(self, reactor)
        self._port: Any = None
        # Keeps the port while nobody listens.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self._number = self._place.getsockname()[1]
        self.address = f"127.0.0.1:{self._number}"
        self.rise()

    def buildProtocol(self, addr: object) -> _Connection:
        return _Connection(self)

    def rise(self) -> None:
        """Listen."""
        if self._port is None:
            self._port = reactor.listenTCP(self._number, self._factory, interface="127.0.0.1")

    def fall(self) -> None:
        """Listen no more and reset all connections."""
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()
        for connection in list(self.connections):
            connection.transport.abortConnection()

    def stumble(self) -> None:
        """Fall, and rise some turns later."""
        self.fall()
        self._time.callLater(self.plan.dice.randint(*FALLEN) * self._time.step, self.rise)

    def stop(self) -> None:
        """Fall for good."""
        self.fall()
        self._place.close()


class _Connection(Protocol):
    """One request after the other, as pylb sends them."""

    def __init__(self, server: Faulty) -> None:
        self._server = server
        self._data = b""
        #: The request whose head has come, and the size of its body.
        self._number: int | None = None
        self._size = 0
        self._fault: str | None = None
        #: Nothing is answered any more.
        self._over = False

    def connectionMade(self) -> None:
        self._server.connections.add(self)

    def connectionLost(self, reason: object = None) -> None:
        self._server.connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if self._number is None and b"\r\n\r\n" in self._data and not self._over:
            self._begin()
        if self._number is not None and len(self._data) >= self._size and not self._over:
            self._execute(self._number)

    def _begin(self) -> None:
        """A head is whole; if there is a body the fault may come before that is."""
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        size = LENGTH.search(head)
        self._number, self._size = int(_NUMBER.match(head)[1]), int(size[1]) if size else 0
        plan = self._server.plan
        self._fault = plan.next()
        if self._fault and self._size and plan.dice.random() < 0.5:
            self._err(self._fault)

    def _execute(self, number: int) -> None:
        body, self._data, self._number = self._data, b"", None
        self._server.executed.append(number)
        if body != body_of(number, self._size):
            self._server.spoilt.append(number)
        if self._fault:
            self._err(self._fault)
        else:
            self.transport.write(_answer(number))

    def _err(self, fault: str) -> None:
        self._over = True
        dice, transport = self._server.plan.dice, self.transport
        if fault == "fall":
            self._server.stumble()
        elif fault == "reset":
            transport.abortConnection()
        elif fault == "end":
            transport.loseConnection()
        elif fault == "garbage":
            transport.write(dice.choice(_GARBAGE))
        elif fault == "truncate":
            head = _answer(0)[:-1]
            transport.write(head[: dice.randrange(1, len(head))])
            transport.loseConnection()
        elif fault == "hang":
            # Not even a fall ends it: pylb must.
            self._server.connections.discard(self)


def _answer(number: int) -> bytes:
    body = b"%d" % number
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
