"""Whatever servers and clients do, in whatever order: no answer is mixed up, nothing is left behind."""

import random
import re

import h11
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.proxy.http.rig import Backend, Peer, Rig, turns

WHO = re.compile(rb"/(\d+) HTTP/1.1\r\n")


class Moody(Peer):
    """A server that does to every request what the dice say; good answers name the request's number."""

    def __init__(self, dice):
        super().__init__()
        self._dice = dice

    def dataReceived(self, data):
        self.received += data
        while found := WHO.search(self.received):
            self.received = self.received[found.end() :]
            self.answer(found[1])

    def answer(self, number):
        body = b"answer to %b" % number
        length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        mood = self._dice.choice(
            ["length"] * 6 + ["chunks", "close", "cut", "left", "reset", "503", "rubbish", "more", "slow"]
        )
        if mood in ("length", "more"):
            self.send(length + body + (b"HTTP/1.1 200 OK\r\n" if mood == "more" else b""))
        elif mood == "chunks":
            half = len(body) // 2
            pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]))
            self.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % pieces)
        elif mood == "503":
            self.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        elif mood == "rubbish":
            self.send(b"what?\r\n\r\n")
        elif mood == "reset":
            self.reset()
        elif mood == "slow":
            self.send(length)
            reactor.callLater(0.001, self.send, body)
        else:
            sent = {"close": b"HTTP/1.1 200 OK\r\n\r\n" + body, "cut": length + body[:-1], "left": b""}
            self.send(sent[mood])
            self.close()


class MoodyBackend(Backend):
    def __init__(self, test, dice):
        super().__init__(test)
        self._dice = dice

    def buildProtocol(self, addr):
        peer = Moody(self._dice)
        self.peers.append(peer)
        return peer


def request(dice, number):
    method = dice.choice([b"GET", b"GET", b"PUT", b"POST"])
    head = b"%b /%d HTTP/1.1\r\nHost: a\r\n" % (method, number)
    if method == b"GET":
        return method, head + b"\r\n"
    body = b"x" * dice.choice([0, 1, 1000, 70_000])
    if dice.random() < 0.5:
        return method, head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return method, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"


def answers(methods, data, closed):
    """(status, body) of every answer that is whole in `data`; (status, None) of one that was cut."""
    seen = []
    for method in methods:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        if closed:
            client.receive_data(b"")
        head, body = None, b""
        try:
            while isinstance(event := client.next_event(), h11.Response | h11.Data):
                head = event if isinstance(event, h11.Response) else head
                body += getattr(event, "data", b"")
        except h11.RemoteProtocolError:
            event = None
        if not isinstance(event, h11.EndOfMessage):
            return [*seen, (head.status_code, None)] if closed and head else seen
        seen.append((head.status_code, body))
        data = client.trailing_data[0]
    return seen


class FaultTests(TestCase):
    timeout = 30

    async def client(self, rig, dice, first):
        """Some requests on one connection; each answer is its own, cut, or pylb's."""
        wanted = [request(dice, first + n) for n in range(dice.randint(1, 4))]
        data = b"".join(sent for _, sent in wanted)
        peer = await rig.connect()
        for at in range(0, len(data), 20_000):
            peer.send(data[at : at + 20_000])
            await turns(dice.randint(0, 2))
        if dice.random() < 0.2:
            peer.close()
        methods = [method for method, _ in wanted]
        while peer.reason is None and len(answers(methods, peer.received, False)) < len(wanted):
            await turns(5)
        seen = answers(methods, peer.received, peer.reason is not None)
        for n, (status, body) in enumerate(seen):
            if status == 200 and body is not None:
                self.assertEqual(body, b"answer to %d" % (first + n))
            self.assertIn(status, (200, 502, 503))
        if len(seen) < len(wanted):
            self.assertIsNotNone(peer.reason, (seen, wanted))
        return [status for status, _ in seen]

    async def test_faults(self):
        """Hundreds of requests over moody servers; the rig looks for leases and delayed calls that were left."""
        for seed in range(2):
            dice = random.Random(seed)
            backends = [MoodyBackend(self, dice) for _ in range(3)]
            rig = Rig(self, *backends, next_upstream=frozenset({"error", "timeout", "http_503"}))
            for server in rig.pool.servers:
                server.health.max_fails = 0
            clients = [self.client(rig, dice, n * 10) for n in range(60)]
            seen = await gatherResults([Deferred.fromCoroutine(client) for client in clients])
            self.assertGreater(sum(statuses.count(200) for statuses in seen), 60)
