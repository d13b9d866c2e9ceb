"""What does one check of one server say, again and again?

- `fails` failures in a row and it calls the server unhealthy, `passes` in a row and healthy again.  The first answer to a
  mandatory check decides alone.
- It keeps its rhythm, from start to start, but none begins before the last is over.
- One that takes too long has failed, whether it can be given up or not.  As long as it goes on it fails again and again,
  and what it finds out in the end counts no more.
- That a deadline comes late says that pylb was stopped, and nothing of the server: it has its time once more.
- That pylb itself has no descriptor or no port left says nothing of the server: it is as if nobody had asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pylb.check.interface import IHealthCheck, Report, Unhealthy
from pylb.check.target import Target
from pylb.model import HealthCheck
from pylb.proxy.deadline import Deadline, Deadlines
from pylb.proxy.dial import OWN_FAULTS, UpstreamError
from pylb.words import raised, said

__all__ = ["Rota", "Tally", "Watch"]

#: Seconds: a deadline of 0 is none.
_AT_ONCE = 1e-6
#: Seconds between two times at which checks begin.
_MOMENT = 0.05
#: Seconds: a deadline that comes so late was missed by pylb itself; what came meanwhile has not been read yet.
_LATE = 0.2

_log = Logger()


class Tally(NamedTuple):
    """What checks have come to, as nginx's API counts them (health_checks)."""

    checks: int = 0
    #: Those of them that failed.
    fails: int = 0
    #: How often they made a server unhealthy that was not.
    unhealthy: int = 0
    #: None before the first.
    last_passed: bool | None = None


class Rota(Protocol):
    """Whoever gives watches their turns and hears of them."""

    def due(self, watch: Watch) -> None:
        """The time of its next check has come: call its `run`."""

    def over(self, watch: Watch) -> None:
        """Its check is over."""

    def concluded(self, watch: Watch) -> None:
        """Its verdict is another."""

    def reported(self, watch: Watch, report: Report) -> None:
        """The server said more of itself than that it is healthy."""


class Watch:
    """One check of one server; `make` makes it when it is needed, and again if that fails."""

    __slots__ = (
        "_check",
        "_deadline",
        "_deadlines",
        "_ends",
        "_excused",
        "_given_up",
        "_make",
        "_next",
        "_random",
        "_rota",
        "_running",
        "_started",
        "_stopped",
        "fails",
        "healthy",
        "passes",
        "reason",
        "spec",
        "tally",
        "target",
    )

    def __init__(
        self,
        spec: HealthCheck,
        make: Callable[[], IHealthCheck],
        target: Target,
        rota: Rota,
        deadlines: Deadlines,
        random: Callable[[], float],
    ) -> None:
        self.spec = spec
        self.target = target
        #: Its verdict; None while a mandatory one has none.
        self.healthy: bool | None = None if spec.mandatory else True
        self.tally = Tally()
        #: In a row.
        self.passes = 0
        self.fails = 0
        #: Why the last check failed.
        self.reason = ""
        self._make = make
        self._check: IHealthCheck | None = None
        self._rota = rota
        self._deadlines = deadlines
        self._random = random
        self._running: Deferred[None] | None = None
        self._started = self._next = self._ends = 0.0
        #: Whether the check that is under way has had its time twice, and whether it has failed for its time.
        self._excused = self._given_up = False
        self._stopped = False
        self._deadline = Deadline(deadlines, self._due)

    def start(self, seconds: float) -> None:
        """Be due in so many seconds for the first time."""
        self._sleep(self._deadlines.clock() + seconds)

    @property
    def under_way(self) -> bool:
        """Whether the server is being asked."""
        return self._running is not None

    def go_on(self, rota: Rota) -> None:
        """Be of `rota` from now on: due when it was, at once if it waited for its turn; what is under way goes on."""
        self._rota = rota
        if not self.under_way:
            self._sleep(self._next)

    def lapse(self) -> None:
        """Begin without a verdict again: that it has passed counts no more."""
        self.healthy = None
        self.passes = self.fails = 0

    def run(self) -> None:
        """Check now."""
        self._started = self._deadlines.clock()
        self._excused = self._given_up = False
        self._wait()
        running = Deferred.fromCoroutine(self._ask())
        self._running = None if running.called else running

    def stop(self) -> None:
        """Check no more."""
        self._stopped = True
        self._deadline.stop()
        if self._running is not None:
            self._running.cancel()
        self.target.leave()

    async def _ask(self) -> None:
        error: BaseException | None = None
        report: Report | None = None
        try:
            if self._check is None:
                self._check = self._make()
            report = _known(await self._check.check(self.target))
        except GeneratorExit:  # Nobody runs it any more.
            raise
        except BaseException as problem:  # Somebody's own check may well call sys.exit().
            error = problem
        self.target.close()
        if not self._stopped:
            self._answered(report, error)

    def _answered(self, report: Report | None, error: BaseException | None) -> None:
        self._running = None
        try:
            self._judge(error)
        finally:  # Whatever goes wrong there, it is checked again.
            if not self._stopped:  # by who has heard of it
                self._rest()
                self._rota.over(self)
        if report is not None and not (self._stopped or self._given_up):
            self._rota.reported(self, report)

    def _judge(self, error: BaseException | None) -> None:
        if self._given_up:
            return
        if error is None:
            self._passed()
        elif not _is_ours(error):
            self._failed(self._explain(error))

    def _passed(self) -> None:
        self.fails = 0
        self.passes += 1
        self._count(True)
        if self.healthy is None or (not self.healthy and self.passes >= self.spec.passes):
            self._conclude(True)

    def _failed(self, reason: str) -> None:
        self.reason = reason
        self.passes = 0
        self.fails += 1
        self._count(False)
        if self.healthy is None or (self.healthy and self.fails >= self.spec.fails):
            self._conclude(False)

    def _count(self, passed: bool) -> None:
        checks, fails, unhealthy, _ = self.tally
        self.tally = Tally(checks + 1, fails + (not passed), unhealthy, passed)

    def _conclude(self, healthy: bool) -> None:
        self.healthy = healthy
        if not healthy:
            self.tally = self.tally._replace(unhealthy=self.tally.unhealthy + 1)
        self._rota.concluded(self)

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, Unhealthy | UpstreamError):
            return said(error)
        if isinstance(error, OSError):
            return said(error.strerror or error)
        text = raised(error)
        if text != self.reason:
            _log.failure("a check of {server} breaks", Failure(error), server=self.target.name)
        return text

    def _rest(self) -> None:
        """Be due when the interval is over; at once if the check took longer."""
        spec = self.spec
        pause = spec.interval
        if self.healthy is False and spec.unhealthy_interval is not None:
            pause = spec.unhealthy_interval
        self._deadline.expired = self._due
        self._sleep(self._started + pause + self._random() * spec.jitter)

    def _sleep(self, until: float) -> None:
        """Be due at about that time, together with others: waking up costs half of what a check does."""
        self._next = until
        moment = min(_MOMENT, self.spec.interval / 100)
        self._deadline.set(max(_AT_ONCE, round(until / moment) * moment - self._deadlines.clock()))

    def _due(self) -> None:
        self._rota.due(self)

    def _wait(self) -> None:
        """Wait for its answer until the timeout is over."""
        self._deadline.expired = self._too_late
        self._deadline.set(self.spec.timeout)
        self._ends = self._deadlines.clock() + self.spec.timeout

    def _too_late(self) -> None:
        was_stopped = self._deadlines.clock() - self._ends > _LATE
        self._wait()
        if was_stopped and not self._excused:
            self._excused = True
            return
        self._given_up = True
        self._failed(f"{self.target.heard()} within {self.spec.timeout:g} s")
        if self._running is not None:
            self._running.cancel()


def _known(report: object) -> Report | None:
    """What a check has returned, which may be somebody's own."""
    if report is None or isinstance(report, Report):
        return report
    raise TypeError(f"check() returned {report!r}, it may return None or a Report")


def _is_ours(error: BaseException) -> bool:
    """Whether it is pylb that has no descriptor, or no port, left."""
    return error.ours if isinstance(error, UpstreamError) else isinstance(error, OSError) and error.errno in OWN_FAULTS
