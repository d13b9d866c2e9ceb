"""A thousand faults and more: what must not be lost, and what must not be done twice."""

from __future__ import annotations

from collections import Counter
from random import Random

from tests.functional.faulty import FAULTS, Faulty, Plan, body_of
from tests.functional.turning import Answer, Hedged, OnTwisted, OverTLS, TurningRig

#: Another one makes another run.
SEED = 5


def lost(answers: dict[int, Answer]) -> dict[int, Answer]:
    """What is no answer to the request, or only pylb's."""
    return {number: answer for number, answer in answers.items() if answer != Answer(200, b"%d" % number)}


class FaultCase(TurningRig):
    """Three servers: one is never wrong, the others are at every other request."""

    RARITY = 2.0
    #: Requests, the least number of faults that they are to meet, and that of each kind.
    COUNT = 0
    TOTAL = 1_000
    EACH = 80
    KINDS = (*FAULTS, "late", "refused")

    async def serve(self, **server: object) -> None:
        """`server` is what the configuration says of each."""
        plans = [Plan(f"{SEED} {number}", self.RARITY * (number != SEED % 3)) for number in range(3)]
        self.servers = [Faulty(self.time, plan, self.server_tls()) for plan in plans]
        for each in self.servers:
            self.addCleanup(each.stop)
        limits = {"read_timeout": "100ms", "next_upstream": ["error", "timeout", "invalid_header"]}
        await self.begin([{"address": each.address, **server} for each in self.servers], limits)

    async def count_faults(self) -> None:
        """There were enough.  What servers do not know pylb's log tells: who was refused, and who was waited for in vain."""
        await self.end()
        happened = sum((server.plan.happened for server in self.servers), Counter())
        for line in self.log.read_text().splitlines():
            _, tries, connects = line.rsplit("=", 2)
            happened["late"] += tries.count("504")
            happened["refused"] += connects.count("-")
        self.assertGreaterEqual(happened.total() - happened["late"], self.TOTAL)
        self.assertEqual({kind for kind in self.KINDS if happened[kind] < self.EACH}, set(), happened)


class GetTests(FaultCase):
    COUNT = 20_000

    async def test_none_is_lost(self) -> None:
        """Every GET is answered, and by what it has asked, while one server is healthy."""
        await self.serve(fail_timeout="1ms")
        answers = await self.ask((n, (b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n,)) for n in range(self.COUNT))
        self.assertEqual((len(answers), lost(answers)), (self.COUNT, {}), f"seed {SEED}")
        await self.count_faults()


class PostTests(FaultCase):
    COUNT = 5_000

    async def test_none_is_executed_twice(self) -> None:
        """Every POST is executed once at most; its client hears what came of it, or that this is not known."""
        await self.serve(max_fails=0)
        dice = Random(SEED)
        answers = await self.ask((number, self.post(number, dice)) for number in range(self.COUNT))
        executed = Counter(number for server in self.servers for number in server.executed)
        twice = [number for number, times in executed.items() if times > 1]
        spoilt = [number for server in self.servers for number in server.spoilt]
        self.assertEqual((len(answers), twice, spoilt), (self.COUNT, [], []), f"seed {SEED}")
        failed = lost(answers)
        self.assertEqual(answers.keys() - failed.keys() - executed.keys(), set(), f"seed {SEED}")
        self.assertEqual({answer.status for answer in failed.values()} - {0}, {502, 504}, f"seed {SEED}")
        self.assertLess(len(failed), self.COUNT // 2)
        await self.count_faults()

    def post(self, number: int, dice: Random) -> tuple[bytes, ...]:
        """One whose body may be too long to be kept, and may come later than its head."""
        body = body_of(number, dice.choice((0, 10, 3_000, 30_000, 100_000)))
        head = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (number, len(body))
        return (head, body) if dice.random() < 0.5 else (head + body,)


class PutTests(FaultCase):
    COUNT = 3_000
    TOTAL = 250
    EACH = 20

    async def test_none_is_spoilt(self) -> None:
        """Every PUT is executed, perhaps more than once, and each time with the whole of its body."""
        await self.serve(fail_timeout="1ms")
        dice = Random(SEED)
        answers = await self.ask((number, self.put(number, dice)) for number in range(self.COUNT))
        spoilt = [number for server in self.servers for number in server.spoilt]
        self.assertEqual((len(answers), lost(answers), spoilt), (self.COUNT, {}, []), f"seed {SEED}")
        await self.count_faults()

    def put(self, number: int, dice: Random) -> tuple[bytes, ...]:
        body = body_of(number, dice.choice((0, 10, 3_000, 10_000)))
        return (b"PUT /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body),)


class TwistedGetTests(OnTwisted, GetTests):
    COUNT = 5_000
    TOTAL = 250
    EACH = 20


class TwistedPostTests(OnTwisted, PostTests):
    COUNT = 1_500
    TOTAL = 250
    EACH = 15


class HedgedGetTests(Hedged, GetTests):
    COUNT = 5_000
    TOTAL = 250
    EACH = 20
    KINDS = (*FAULTS, "refused")


class HedgedPostTests(Hedged, PostTests):
    COUNT = 1_500
    TOTAL = 250
    EACH = 15


class HedgedPutTests(Hedged, PutTests):
    KINDS = (*FAULTS, "refused")


class TLSGetTests(OverTLS, GetTests):
    COUNT = 2_500
    TOTAL = 150
    EACH = 10


class TLSPostTests(OverTLS, PostTests):
    COUNT = 800
    TOTAL = 150
    EACH = 8
