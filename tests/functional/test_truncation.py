"""Answers that are cut, wherever that is: what was passed on cannot be taken back, but a client can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import h11
from twisted.internet import reactor
from twisted.internet.endpoints import connectProtocol

from tests.backends import Backend, Peer, until
from tests.functional.faulty import body_of
from tests.functional.rig import all_at_once
from tests.functional.turning import Hedged, OnTwisted, OverTLS, TurningRig

#: Another one makes another run.
SEED = 7
#: What the request of a number gets: a framing, and how that ends.  Where a close is the end of the body, it cuts nothing.
CASES = [
    *((framing, end) for framing in ("length", "chunks") for end in ("whole", "close", "reset", "hang")),
    *(("close", end) for end in ("whole", "reset", "hang")),
]
#: And so many bytes.
SIZES = (2, 10, 1_000, 20_000, 300_000)
HEADS = {"length": b"Content-Length: %d\r\n", "chunks": b"Transfer-Encoding: chunked\r\n", "close": b""}


def heard_whole(peer: Peer) -> tuple[int, bytes] | None:
    """Status and body of the answer that a client has got, if it takes that for whole."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(bytes(peer.heard))
    if peer.clean:
        client.receive_data(b"")
    status, body = 0, b""
    try:
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return None
            status = getattr(event, "status_code", status)
            body += getattr(event, "data", b"")
    except h11.RemoteProtocolError:
        return None
    return status, body


class TruncationTests(TurningRig):
    COUNT = 660

    async def test_visible(self) -> None:
        """A client takes an answer for whole just when its server has sent all of it."""
        self.dice = Random(SEED)
        #: What servers have sent whole.
        self.whole: dict[int, bytes] = {}
        await self.begin([self.server(), self.server()], {"read_timeout": "100ms"})
        numbers = iter(range(self.COUNT))
        await all_at_once(self.ask_for(numbers) for _ in range(self.CLIENTS))
        self.assertEqual(len(self.whole), self.COUNT // len(CASES) * 3)

    def server(self) -> dict[str, object]:
        backend, tls = Backend(self.serve), self.server_tls()
        port = reactor.listenTCP(0, tls.over(backend, reactor) if tls else backend, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return {"address": f"127.0.0.1:{port.getHost().port}", "max_fails": 0}

    def serve(self, peer: Peer, data: bytes) -> None:
        """Answer, sometimes late."""
        if b"\r\n\r\n" in peer.heard:
            number = int(re.match(rb"GET /(\d+) ", peer.heard)[1])
            peer.heard.clear()
            self.time.callLater(self.dice.choice((0, 8)) * self.time.step, self.answer, peer, number)

    def answer(self, peer: Peer, number: int) -> None:
        """Whole or not."""
        framing, end = CASES[number % len(CASES)]
        body = body_of(number, SIZES[number // len(CASES) % len(SIZES)])
        sent = self.framed(framing, body)
        if end == "whole":
            self.whole[number] = body
        else:
            sent = sent[: self.dice.randrange(len(sent))]
        head = HEADS[framing] % len(body) if framing == "length" else HEADS[framing]
        peer.transport.write(b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (head, sent))
        if end == "close" or (framing, end) == ("close", "whole"):
            peer.transport.loseConnection()
        elif end == "reset":
            self.time.callLater(self.dice.randrange(9) * self.time.step, peer.transport.abortConnection)

    def framed(self, framing: str, body: bytes) -> bytes:
        if framing != "chunks":
            return body
        middle = self.dice.randrange(1, len(body))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (body[:middle], body[middle:]))
        return chunks + b"0\r\nX-Sum: 1\r\n\r\n"

    async def ask_for(self, numbers: Iterator[int]) -> None:
        """Each on a connection of its own, every other one over HTTP/1.0."""
        for number in numbers:
            peer = await connectProtocol(self.way(), Peer())
            peer.transport.write(b"GET /%d HTTP/1.%d\r\nHost: a\r\nConnection: close\r\n\r\n" % (number, number % 2))
            await until(lambda peer=peer: peer.lost)
            heard, case = heard_whole(peer), f"seed {SEED}, request {number}, {CASES[number % len(CASES)]}"
            if number in self.whole:
                self.assertEqual(heard, (200, self.whole[number]), case)
            else:
                self.assertTrue(heard is None or heard[0] in (502, 504), case)


class TwistedTruncationTests(OnTwisted, TruncationTests):
    COUNT = 330


class HedgedTruncationTests(Hedged, TruncationTests):
    COUNT = 330


class TLSTruncationTests(OverTLS, TruncationTests):
    COUNT = 220
