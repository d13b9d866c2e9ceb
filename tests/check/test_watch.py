"""pylb.check.watch: one check of one server, again and again, on a clock that stands still."""

from __future__ import annotations

import contextlib
import errno
import gc
from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.server import Server
from pylb.check.interface import Report, Unhealthy
from pylb.check.target import Target
from pylb.check.watch import Tally, Watch
from pylb.model import HealthCheck, InetAddress, ServerSpec, TcpCheck
from pylb.proxy.deadline import Deadlines
from pylb.proxy.dial import UpstreamError

BAD = Unhealthy("status 503")


class Scripted:
    """A check whose answers a test gives, in `answers`; where there are none it waits."""

    def __init__(self) -> None:
        self.answers: list[Exception | Report | None] = []
        self.asked: list[Deferred[Any]] = []
        self.given_up = 0

    def check(self, target: Target) -> Awaitable[Report | None]:
        answer: Deferred[Any] = Deferred(self._gave_up)
        self.asked.append(answer)
        if self.answers:
            self.say(self.answers.pop(0))
        return answer

    def say(self, what: Exception | Report | None) -> None:
        """Answer the check that waits."""
        if isinstance(what, Exception):
            self.asked[-1].errback(what)
        else:
            self.asked[-1].callback(what)

    def _gave_up(self, answer: object) -> None:
        self.given_up += 1


class WatchTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.check = Scripted()
        self.random = 0.0
        self.told: list[Any] = []

    def make(self) -> Scripted:
        return self.check

    def watch(self, spec: HealthCheck | None = None, **asked: Any) -> Watch:
        """A watch that begins at once."""
        deadlines = Deadlines(self.clock, self.clock.seconds)
        target = Target(Server(ServerSpec(address=InetAddress("10.0.0.1", 80))), self.clock, self.clock, deadlines)
        spec = spec or TcpCheck(**asked)
        self.subject = Watch(spec, self.make, target, self, deadlines, lambda: self.random)
        self.addCleanup(self.ended)
        self.subject.start(0.0)
        self.clock.advance(0.001)
        return self.subject

    def ended(self) -> None:
        """What every test must hold: nothing is left of a watch that was stopped."""
        self.subject.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.flushLoggedErrors(ZeroDivisionError)

    # A Rota.

    def due(self, watch: Watch) -> None:
        watch.run()

    def over(self, watch: Watch) -> None: ...

    def concluded(self, watch: Watch) -> None:
        self.told.append("healthy" if watch.healthy else watch.reason)

    def reported(self, watch: Watch, report: Report) -> None:
        self.told.append(report)

    def rounds(self, *answers: Exception | Report | None) -> None:
        """Let check after check have its answer."""
        for answer in answers:
            self.clock.advance(self.subject.spec.interval)
            self.check.say(answer)


class VerdictTests(WatchTestCase):
    def test_first_failure(self) -> None:
        """By default one failure takes a server out, and one pass lets it in."""
        self.check.answers = [BAD]
        watch = self.watch()
        self.assertEqual((watch.healthy, self.told), (False, ["status 503"]))
        self.rounds(None)
        self.assertEqual((watch.healthy, self.told), (True, ["status 503", "healthy"]))

    def test_told_once(self) -> None:
        """Not what stays as it was."""
        self.watch()
        self.check.say(None)
        self.rounds(None, BAD, BAD, None, None)
        self.assertEqual(self.told, ["status 503", "healthy"])

    def test_fails_in_a_row(self) -> None:
        """Failures count only when they follow each other."""
        watch = self.watch(fails=3)
        self.check.say(BAD)
        self.rounds(BAD, None, BAD, BAD)
        self.assertEqual((watch.healthy, self.told), (True, []))
        self.rounds(BAD)
        self.assertEqual((watch.healthy, self.told), (False, ["status 503"]))

    def test_passes_in_a_row(self) -> None:
        watch = self.watch(passes=3)
        self.check.say(BAD)
        self.rounds(None, None, BAD, None, None)
        self.assertFalse(watch.healthy)
        self.rounds(None)
        self.assertEqual(self.told, ["status 503", "healthy"])

    def test_mandatory(self) -> None:
        """The first answer decides, however many in a row it takes later."""
        for answer, told in ((None, "healthy"), (BAD, "status 503")):
            self.told.clear()
            self.assertIsNone(self.watch(mandatory=True, fails=3, passes=3).healthy)
            self.check.say(answer)
            self.assertEqual(self.told, [told])
            self.subject.stop()

    def test_report(self) -> None:
        """What a server says of itself is handed on each time."""
        self.check.answers = [Report(share=0.5)]
        self.watch()
        self.rounds(Report(share=0.5))
        self.assertEqual(self.told, [Report(share=0.5)] * 2)

    def test_tally(self) -> None:
        """As nginx's API counts it."""
        watch = self.watch(fails=2)
        self.assertEqual(watch.tally, Tally(0, 0, 0, None))
        self.check.say(None)
        self.assertEqual(watch.tally, Tally(1, 0, 0, True))
        self.rounds(BAD, BAD, BAD, None, BAD)
        self.assertEqual(watch.tally, Tally(6, 4, 1, False))

    def test_reasons(self) -> None:
        """A server's faults are told in their own words; a check that breaks is told with its traceback, once."""
        self.watch()
        self.check.say(UpstreamError("connection was refused"))
        told = []
        for error in (
            OSError(errno.ENETUNREACH, "Network is unreachable"),
            ZeroDivisionError("by 0"),
            ZeroDivisionError("by 0"),
        ):
            self.rounds(error)
            told.append(self.subject.reason)
        self.assertEqual(self.told, ["connection was refused"])
        self.assertEqual(told, ["Network is unreachable", "ZeroDivisionError: by 0", "ZeroDivisionError: by 0"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_ends_the_program(self) -> None:
        """A check that would end the program breaks like any other: told once, and checking goes on."""
        for error in (SystemExit("no file"), KeyboardInterrupt()):

            async def check(target: Target, error: BaseException = error) -> None:
                raise error

            self.told.clear()
            self.check.check = check  # type: ignore[method-assign, assignment]
            watch = self.watch()
            self.clock.advance(5.0)
            self.assertEqual((watch.tally, self.told), (Tally(2, 2, 1, False), [f"{type(error).__name__}: {error}"]))
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)
            watch.stop()

    def test_cannot_be_made(self) -> None:
        """A check that cannot be made for this server fails, and is made anew until it can be, once."""
        made: list[Scripted] = [self.check]

        def make() -> Scripted:
            return made.pop() if self.told else 1 // 0  # type: ignore[return-value]

        self.make = make  # type: ignore[method-assign]
        self.check.answers = [None, None]
        watch = self.watch()
        self.assertEqual((watch.healthy, watch.reason.partition(":")[0]), (False, "ZeroDivisionError"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(5.0)
        self.clock.advance(5.0)
        self.assertEqual((watch.healthy, watch.tally), (True, Tally(3, 1, 1, True)))

    def test_strange_reasons(self) -> None:
        """What a server, a program or a class says is one line in the log, and not a long one."""
        self.watch()
        self.check.say(Unhealthy("one\n2026-11-24 two \x1b[2J" + 5000 * "x"))
        reasons = [self.subject.reason]
        for error in (UpstreamError("a\rb"), OSError("c\0d"), ZeroDivisionError("e\nf")):
            self.rounds(error)
            reasons.append(self.subject.reason)
        self.assertTrue(reasons[0].startswith("one\\n2026-11-24 two \\x1b[2Jxxx"), reasons[0])
        self.assertLess(len(reasons[0]), 400)
        self.assertEqual(reasons[1:], ["a\\rb", "c\\x00d", "ZeroDivisionError: e\\nf"])

    def test_cannot_be_shown(self) -> None:
        """An exception without a text fails like any other; one that is no server's fault is told once."""

        class Mute(Exception):
            def __str__(self) -> str:
                raise SystemExit("no text")

        class MuteServer(Unhealthy):
            __str__ = Mute.__str__

        mute = "(no text: its __str__ raises SystemExit)"
        watch = self.watch()
        self.check.say(OSError(5, 7))
        reasons = [watch.reason]
        for error in (Mute(), Mute(), MuteServer()):
            self.rounds(error)
            reasons.append(watch.reason)
        self.assertEqual(reasons, ["7", f"Mute: {mute}", f"Mute: {mute}", mute])
        self.assertEqual(watch.tally, Tally(4, 4, 1, False))
        self.assertEqual(len(self.flushLoggedErrors(Mute)), 1)

    def test_goes_on(self) -> None:
        """Whatever goes wrong with a verdict, checking goes on, and whoever gives the turns hears that this one is over."""
        over: list[Watch] = []
        self.patch(self, "concluded", lambda watch: 1 // 0)
        self.patch(self, "over", over.append)
        watch = self.watch()
        self.check.say(BAD)
        self.assertEqual((watch.under_way, over), (False, [watch]))
        self.rounds(BAD)
        self.assertEqual((watch.fails, over), (2, [watch, watch]))
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_returned(self) -> None:
        """A check that returns what it may not is broken, which is told once, and checking goes on."""
        for value in (5, False, "up", {"share": 1.0}):

            async def check(target: Target, value: Any = value) -> Any:
                return value

            self.told.clear()
            self.check.check = check  # type: ignore[method-assign]
            watch = self.watch()
            self.clock.advance(5.0)
            words = f"TypeError: check() returned {value!r}, it may return None or a Report"
            self.assertEqual((watch.tally, self.told), (Tally(2, 2, 1, False), [words]))
            self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
            watch.stop()

    def test_forgotten(self) -> None:
        """A check that waits for what nobody knows any more has no verdict, and harms nobody."""

        async def check(target: Target) -> None:
            await Deferred()

        self.check.check = check  # type: ignore[method-assign]
        watch = self.watch()
        watch._running = None
        gc.collect()
        self.assertEqual((watch.tally, self.told, self.flushLoggedErrors()), (Tally(), [], []))

    def test_own_faults(self) -> None:
        """That pylb has no descriptor or port left says nothing of the server: it is as if nobody had asked."""
        watch = self.watch(mandatory=True)
        self.check.say(OSError(errno.EMFILE, "Too many open files"))
        self.rounds(UpstreamError("no port", ours=True), OSError(errno.EADDRNOTAVAIL, "no address"))
        self.assertEqual((watch.healthy, watch.tally, self.told), (None, Tally(), []))
        self.rounds(BAD, OSError(errno.EMFILE, "Too many open files"))
        self.assertEqual((watch.healthy, watch.tally), (False, Tally(1, 1, 1, False)))

    def test_no_awaitable(self) -> None:
        """A check of somebody's own that is no coroutine fails, and goes on failing."""
        self.check.check = lambda target: None  # type: ignore[method-assign]
        watch = self.watch()
        self.clock.advance(5.0)
        self.assertEqual(watch.tally, Tally(2, 2, 1, False))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class RhythmTests(WatchTestCase):
    def starts(self, seconds: float, step: float = 0.01) -> list[float]:
        """When checks began, in so many seconds from now on."""
        began = []
        for _ in range(round(seconds / step)):
            before = len(self.check.asked)
            self.clock.advance(step)
            began += [round(self.clock.seconds(), 1)] * (len(self.check.asked) - before)
        return began

    def test_interval(self) -> None:
        """From start to start, however long each takes."""
        self.watch(interval=1.0)
        for _ in range(3):
            self.clock.advance(0.4)
            self.check.say(None)
            self.clock.advance(0.6)
        self.assertEqual(len(self.check.asked), 4)

    def test_never_overlapping(self) -> None:
        """One that takes longer than the interval is followed at once."""
        self.watch(interval=1.0, timeout=10.0)
        self.clock.advance(3.5)
        self.assertEqual(len(self.check.asked), 1)
        self.check.say(None)
        self.clock.advance(0.001)
        self.assertEqual(len(self.check.asked), 2)

    def test_unhealthy_interval(self) -> None:
        """While a server is unhealthy it is asked at another pace."""
        self.watch(interval=5.0, unhealthy_interval=1.0)
        self.check.answers = [BAD, BAD, None, None]
        self.check.say(BAD)
        self.assertEqual(self.starts(14.0), [1.0, 2.0, 3.0, 8.0, 13.0])

    def test_jitter(self) -> None:
        """Up to so much more, by chance."""
        self.check.answers = [None] * 10
        self.random = 0.5
        self.watch(interval=1.0, jitter=0.8)
        self.assertEqual(self.starts(5.0), [1.4, 2.8, 4.2])

    def test_timeout(self) -> None:
        """One that does not answer in time is given up, and is a failure."""
        watch = self.watch(interval=5.0, timeout=2.0)
        self.clock.advance(1.9)
        self.assertEqual(self.check.given_up, 0)
        self.clock.advance(0.2)
        self.assertEqual((self.check.given_up, self.told), (1, ["no answer within 2 s"]))
        self.clock.advance(3.0)
        self.assertEqual((len(self.check.asked), watch.tally.checks), (2, 1))

    def test_something_else(self) -> None:
        """One that answers, but not what is waited for, is quoted."""
        watch = self.watch(timeout=2.0)
        watch.target.heard = lambda: 'nothing but "-NOAUTH"'  # type: ignore[method-assign]
        self.clock.advance(2.0)
        self.assertEqual(self.told, ['nothing but "-NOAUTH" within 2 s'])

    def test_in_time(self) -> None:
        """The time begins anew with each check."""
        self.watch(interval=5.0, timeout=2.0)
        for _ in range(3):
            self.clock.advance(1.9)
            self.check.say(None)
            self.clock.advance(3.1)
        self.assertEqual((self.check.given_up, self.told), (0, []))

    def test_stopped(self) -> None:
        """When pylb itself was stopped beyond the timeout, the server has its time once more, and no oftener."""
        watch = self.watch(interval=60.0, timeout=2.0)
        self.clock.advance(4.5)
        self.assertEqual((self.check.given_up, self.told), (0, []))
        self.clock.advance(1.5)
        self.check.say(None)
        self.assertEqual(watch.tally, Tally(1, 0, 0, True))
        self.clock.advance(60.0)
        for told in ([], ["no answer within 2 s"]):
            self.clock.advance(4.5)
            self.assertEqual(self.told, told)

    def test_stopped_twice(self) -> None:
        """What was said of one check says nothing of the next one."""
        self.watch(interval=60.0, timeout=2.0)
        for _ in range(2):
            self.clock.advance(4.5)
            self.check.say(None)
            self.clock.advance(60.0)
        self.assertEqual((len(self.check.asked), self.told), (3, []))


class StubbornTests(WatchTestCase):
    """Checks of somebody's own that will not be given up."""

    def setUp(self) -> None:
        super().setUp()
        self.answer: Deferred[None] = Deferred()
        self.tries: list[float] = []

    async def stubborn(self, target: Target) -> None:
        """Try again whatever happens, as people write it."""
        while True:
            self.tries.append(round(self.clock.seconds()))
            self.answer = Deferred()
            try:
                return await self.answer
            except Exception:
                pass

    def watch(self, spec: HealthCheck | None = None, **asked: Any) -> Watch:
        self.check.check = self.stubborn  # type: ignore[method-assign, assignment]
        return super().watch(spec, timeout=2.0, **asked)

    def test_in_time(self) -> None:
        """They have failed at the timeout, and at each further one; they are given up each time, and asked once."""
        watch = self.watch(interval=1.0, fails=3)
        self.clock.pump([2.0, 2.0])
        self.assertEqual((self.tries, watch.tally, self.told), ([0, 2, 4], Tally(2, 2, 0, False), []))
        self.clock.advance(2.0)
        self.assertEqual(self.told, ["no answer within 2 s"])

    def test_late(self) -> None:
        """What one finds out at last is nobody's; the next one begins then, at once as it is due, and counts."""
        watch = self.watch(interval=1.0)
        self.clock.pump([2.1, 0.9])
        self.answer.callback(None)
        self.assertEqual((watch.healthy, watch.tally.checks, self.told), (False, 1, ["no answer within 2 s"]))
        self.clock.advance(0.01)
        self.assertEqual(self.tries, [0, 2, 3])
        self.answer.callback(None)
        self.assertEqual((watch.healthy, watch.tally), (True, Tally(2, 1, 1, True)))

    def test_consent(self) -> None:
        """One that takes to be given up for an answer has failed."""

        async def check(target: Target) -> None:
            with contextlib.suppress(CancelledError):
                await Deferred()

        self.stubborn = check  # type: ignore[method-assign]
        watch = self.watch(interval=10.0)
        self.clock.advance(2.0)
        self.assertEqual((watch.tally, self.told), (Tally(1, 1, 1, False), ["no answer within 2 s"]))
        self.clock.advance(8.0)
        self.clock.advance(2.0)
        self.assertEqual(watch.tally, Tally(2, 2, 1, False))

    def test_stop(self) -> None:
        """They are given up at the end, too, and are nobody's then."""
        watch = self.watch()
        watch.stop()
        self.clock.advance(10.0)
        self.assertEqual((self.tries, watch.tally), ([0, 0], Tally()))


class StopTests(WatchTestCase):
    def test_while_it_waits(self) -> None:
        """A check that is under way is given up, and says nothing any more."""
        watch = self.watch()
        watch.stop()
        self.assertEqual((self.check.given_up, watch.tally, self.told), (1, Tally(), []))

    def test_between(self) -> None:
        """No further one begins."""
        self.check.answers = [None]
        self.watch().stop()
        self.clock.advance(60.0)
        self.assertEqual(len(self.check.asked), 1)

    def test_in_its_answer(self) -> None:
        """Whoever hears of it may stop it there and then."""
        watch = self.watch()
        self.concluded = lambda _: watch.stop()  # type: ignore[method-assign]
        self.check.say(BAD)
        self.clock.advance(60.0)
        self.assertEqual(len(self.check.asked), 1)
