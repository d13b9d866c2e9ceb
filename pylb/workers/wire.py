"""What do a supervisor and its workers say to each other, and how does it get across?

They talk over a pair of sockets, one pair a worker.  First comes a `Start`, pickled; then each side sends messages, a word
and what belongs to it, in JSON: a worker, which strangers talk to, cannot make its supervisor run anything.  It gives signs
of life in the scoreboard.

    to a worker    serve ROW, leave ROW, learn ITEMS, found POOL SERVER CHECKED SWITCH SHARE, gone POOL SERVER,
                   retire, stop, abort, reopen, drop ADDRESSES, ask
    from a worker  ready, done, learn ITEMS, log LEVEL NAMESPACE TEXT
"""

from __future__ import annotations

import json
import pickle
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.check.findings import Finding
from pylb.model import Address, Config
from pylb.proxy.dns.follow import Found
from pylb.proxy.poller import DONE
from pylb.proxy.resolve import Name
from pylb.workers.sessions import Item

__all__ = ["Channel", "Socket", "Start", "receive"]

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Socket:
    """A bound socket, by its number in a worker."""

    listener: str
    address: Address
    fd: int


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker has to know; `number` counts from 1, `beat` is the seconds between two signs of life."""

    number: int
    config: Config
    beat: float
    #: The sockets of each worker.
    rows: tuple[tuple[Socket, ...], ...]
    #: The numbers of the scoreboard's memory and of the access log's file.
    board: int
    log: int | None
    #: What the others have learned of sessions.
    sessions: tuple[Item, ...] = ()
    #: What health checks have found so far.
    found: tuple[Finding, ...] = ()
    #: What names have been found to stand for so far.
    names: Mapping[Name, Found] = field(default_factory=dict)


@implementer(IPushProducer)
class Channel(Int32StringReceiver):
    """One end of the pair; `answers` says what each word does that comes."""

    MAX_LENGTH = 1 << 20
    transport: Any

    def __init__(self, answers: Mapping[str, Callable[..., object]]) -> None:
        self._answers = answers
        #: Fires when the other side is gone.
        self.lost: Deferred[None] = Deferred()
        self._has_room = True

    def start(self, start: Start) -> None:
        """Send what comes first."""
        pickled = pickle.dumps(start)
        self.transport.write(_LENGTH.pack(len(pickled)) + pickled)

    def send(self, word: str, *more: object) -> None:
        """Send a message, if the other side is still there."""
        if self.connected:
            self.sendString(json.dumps([word, *more]).encode())

    def offer(self, word: str, *more: object) -> bool:
        """Send a message that may be lost, unless too much waits for the other side already; whether it was sent."""
        if self._has_room:
            self.send(word, *more)
        return self._has_room

    def close(self) -> Deferred[None]:
        """Send what waits, and close; fires when that is done."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        return self.lost

    def connectionMade(self) -> None:
        # Only to hear of it when too much waits.
        self.transport.registerProducer(self, True)

    def stringReceived(self, string: bytes) -> None:
        word, *more = json.loads(string)
        self._answers[word](*more)

    def connectionLost(self, reason: Failure = DONE) -> None:
        self.lost.callback(None)

    def pauseProducing(self) -> None:
        self._has_room = False

    def resumeProducing(self) -> None:
        self._has_room = True

    def stopProducing(self) -> None:
        """The other side is gone, which connectionLost tells."""


def receive(control: socket.socket) -> Start:
    """Wait for what comes first; raises EOFError when the supervisor is gone."""
    (length,) = _LENGTH.unpack(_exactly(control, _LENGTH.size))
    start: Start = pickle.loads(_exactly(control, length))
    return start


def _exactly(control: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = control.recv(size - len(received))
        if not piece:
            raise EOFError("the supervisor is gone")
        received += piece
    return bytes(received)
