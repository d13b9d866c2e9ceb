"""Servers that fall ill and get well again every 0.3 s, beside one that is always well."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from pylb.balance.health import Change
from tests.functional.faulty import Faulty, Plan
from tests.functional.turning import Answer, Request, TurningRig

#: Seconds.
PHASE = 0.3
#: In each of them one of two servers is ill.
PHASES = 8
MAX_FAILS = 3


class Mood(Plan):
    """The same fault at every request while it is set."""

    def __init__(self) -> None:
        super().__init__(0, 0.0)
        self.fault: str | None = None

    def next(self) -> str | None:
        return self.fault


class FlapTests(TurningRig):
    STEP = 0.01
    CLIENTS = 8

    async def flap(self, fault: str, **pool: object) -> list[list[Change]]:
        """Two servers are ill in turn, and no client notices; what becomes of each."""
        self.servers = [Faulty(self.time, Mood()) for _ in range(3)]
        for server in self.servers:
            self.addCleanup(server.stop)
        servers = [{"address": each.address, "max_fails": MAX_FAILS, "fail_timeout": "100ms"} for each in self.servers]
        limits = {"read_timeout": "300ms", "next_upstream": ["error", "timeout", "invalid_header"]}
        await self.begin(servers, limits, **pool)
        self.phase = 0
        self._next_phase(fault)
        answers = await self.ask(self._questions())
        self.assertEqual({n: answer for n, answer in answers.items() if answer != Answer(200, b"%d" % n)}, {})
        return [self.news.changes[server.name] for server in self.pool.servers]

    def _next_phase(self, fault: str) -> None:
        """The one that was ill gets well; the other one falls ill, but not in the last phase."""
        ill, well = (self.servers[(self.phase + number) % 2] for number in range(2))
        self._become(well, None)
        if self.phase < PHASES:
            self._become(ill, fault)
        self.phase += 1
        if self.phase <= PHASES + 1:
            self.time.callLater(PHASE, self._next_phase, fault)

    def _become(self, server: Faulty, fault: str | None) -> None:
        server.plan.fault = fault
        if fault == "fall":
            server.fall()
        else:
            server.rise()

    def _questions(self) -> Iterator[Request]:
        for number in count():
            if self.phase > PHASES + 1:
                return
            yield number, (b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number,)

    async def test_fall(self) -> None:
        """Each time it is ejected once, and once it is back."""
        changes = [Change.EJECTED, Change.RECOVERED] * (PHASES // 2)
        self.assertEqual(await self.flap("fall"), [changes, changes, []])

    async def test_garbage(self) -> None:
        """The same."""
        changes = [Change.EJECTED, Change.RECOVERED] * (PHASES // 2)
        self.assertEqual(await self.flap("garbage"), [changes, changes, []])

    async def test_hang(self) -> None:
        """It is ejected once for so many failures as it takes."""
        self.time.step = 0.003  # or a moment would be too long
        changes = await self.flap("hang")
        for server, news in zip(self.pool.servers, changes, strict=True):
            self.assertEqual(news, [Change.EJECTED, Change.RECOVERED] * (len(news) // 2))
            self.assertLessEqual(len(news) // 2 * MAX_FAILS, server.failures)
        self.assertEqual([bool(news) for news in changes], [True, True, False])

    async def test_checked(self) -> None:
        """Checks find each change once; what clients find out before adds no more than an ejection each time."""
        self.time.step = 0.003  # so that there are some in each phase
        check = {"type": "http", "uri": "/0", "interval": "50ms", "timeout": "300ms", "fails": 2, "passes": 2}
        changes = await self.flap("garbage", health_check=check)
        self.assertEqual([news.count(Change.CHECKED) for news in changes], [PHASES, PHASES, 0])
        self.assertLessEqual(max(len(news) for news in changes), PHASES * 3 // 2)
