"""Has this server failed too often to be asked now?

The rules are nginx's passive accounting (ngx_http_upstream_round_robin.c), to the millisecond:

- `max_fails` failures eject the server for `fail_timeout`.  Failures add up until a success that was picked more than
  `fail_timeout` after the last of them.
- Where the window is sliding, the latest `max_fails` of them eject only if all are of the last `fail_timeout`.  That success
  changes nothing about it: it finds none as young.
- Where failures in a row count, any success forgives those before it.
- After the pause one lease is let through as a trial; while it is under way nobody else is, for at most another
  `fail_timeout`.
- `max_fails` 0 means that nothing ejects the server; but it is news when it begins to fail and when it has stopped.
  The same goes for one that its pool spares.

and where nginx lets late news mislead it, the epoch of a lease decides.  Each ejection and each recovery begins one:

- what happened to a lease of an older epoch says nothing any more, so eight connections that fail together eject a
  server once, and a straggler that succeeds does not heal an ejected server;
- while a server is ejected, every lease of its present epoch is a trial, and only a trial ends the ejection;
- a trial that ends without a verdict (its client left) neither heals nor counts: the next lease is the trial.

Workers that share a server have one health, each a copy.  What a worker knows is a note, and notes are in an order in which
whatever happens makes them greater; so the greatest of all workers' is the truth, and each takes over what it has not known.
Each may start a trial of its own when the pause is over, until it has read that another one has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from itertools import repeat
from math import inf
from typing import NamedTuple, Protocol

__all__ = ["CALM", "NO_EPOCH", "Change", "Health", "Note", "Shared"]

#: Seconds without trouble after which it is called over, in the news.
CALM = 1.0
#: That of a lease which says nothing.
NO_EPOCH = -1


class Change(Enum):
    """What a verdict changed."""

    NOTHING = "nothing"
    #: A server that is not to be ejected has begun to fail.
    TOLERATED = "tolerated"
    EJECTED = "ejected"
    EXTENDED = "extended"
    RECOVERED = "recovered"
    #: The operator, or the server's agent, switched it to another state.
    SWITCHED = "switched"
    #: Active checks say something else of the server.
    CHECKED = "checked"
    #: Another part of its weight counts.
    WEIGHED = "weighed"


class Note(NamedTuple):
    """What a worker knows of the failures of a server, as it tells the others."""

    #: Odd while the server is ejected.
    epoch: int
    #: How often the failures were forgotten.
    cleared: int
    #: The failures since then.
    fails: int
    failed_at: float
    #: -inf: at once.
    retry_at: float


class Shared(Protocol):
    """Where the workers that share a server keep their notes."""

    def notes(self) -> Iterable[Note]:
        """Those of all of them, this one's too."""

    def publish(self, note: Note) -> None:
        """This one's from now on."""


class Health:
    """The failures of one server.  Times are seconds of whichever clock the caller reads."""

    __slots__ = (
        "cleared",
        "epoch",
        "fail_timeout",
        "failed_at",
        "fails",
        "in_a_row",
        "kept",
        "max_fails",
        "pause",
        "recent",
        "retry_at",
        "shared",
    )

    def __init__(self, max_fails: int = 1, fail_timeout: float = 10.0) -> None:
        self.max_fails = max_fails
        self.fail_timeout = fail_timeout
        #: How long an ejection lasts, or goes on after a trial that failed.
        self.pause = fail_timeout
        #: Whether any success forgives the failures before it.
        self.in_a_row = False
        self.fails = 0
        self.failed_at = -inf
        #: Odd while ejected.
        self.epoch = 0
        #: How often `fails` was set to 0.
        self.cleared = 0
        #: Whether it would be ejected if it were not spared.
        self.kept = False
        #: When the latest failures were; None if that does not matter.
        self.recent: deque[float] | None = None
        #: None if no other worker uses the server.
        self.shared: Shared | None = None
        #: While ejected: after this moment the next trial may start.
        self.retry_at: float | None = None

    def slide(self, max_fails: int) -> None:
        """From now on so many failures eject only if they are of the last `fail_timeout`."""
        if self.recent is None or self.recent.maxlen != max_fails:
            self.recent = deque(self.recent or (), maxlen=max_fails)

    @property
    def ejected(self) -> bool:
        return self.retry_at is not None

    def allows(self, now: float) -> bool:
        """Whether a lease may be given at `now`."""
        return self.retry_at is None or now > self.retry_at

    def trial_started(self, now: float) -> None:
        """A lease was given although the server is ejected: nobody else for another `fail_timeout`."""
        self.retry_at = now + self.fail_timeout
        self._publish()

    def failed(self, epoch: int, now: float, spared: bool = False) -> Change:
        """A lease of `epoch` failed; a server that is `spared` is not ejected."""
        if epoch != self.epoch:
            return Change.NOTHING
        self.fails += 1
        self.failed_at = now
        if self.recent is not None:
            self.recent.append(now)
        change = self._failed_again(now, spared)
        self._publish()
        return change

    def _failed_again(self, now: float, spared: bool) -> Change:
        if not self.max_fails:
            return Change.TOLERATED if self.fails == 1 else Change.NOTHING
        if self.ejected:
            self.retry_at = now + self.pause
            return Change.EXTENDED
        if self.fails < self.max_fails or self._are_spread(now):
            return Change.NOTHING
        if spared:
            before, self.kept = self.kept, True
            return Change.NOTHING if before else Change.TOLERATED
        self.retry_at = now + self.pause
        self.epoch += 1
        return Change.EJECTED

    def eject(self, now: float) -> None:
        """Take out a server that is not ejected."""
        self.failed_at = now
        self.retry_at = now + self.pause
        self.epoch += 1
        self._publish()

    def _are_spread(self, now: float) -> bool:
        """Whether some of the latest failures are too old to count, or of before they were noted."""
        recent = self.recent
        return recent is not None and (len(recent) < self.max_fails or now - recent[0] > self.fail_timeout)

    def succeeded(self, epoch: int, picked: float) -> Change:
        """A lease of `epoch`, given at `picked`, succeeded."""
        if epoch != self.epoch:
            return Change.NOTHING
        if self.epoch % 2:
            return self.forgive()
        # Where nothing is ejected only the news is at stake: a server that fails every other time is no news each time.
        tolerated = self.kept or not self.max_fails
        pause = max(self.fail_timeout, CALM) if tolerated else -inf if self.in_a_row else self.fail_timeout
        if not self.fails or picked - self.failed_at <= pause:
            return Change.NOTHING
        self._clear()
        return Change.RECOVERED if tolerated else Change.NOTHING

    def abandoned(self, epoch: int, picked: float) -> None:
        """A lease of `epoch`, given at `picked`, ended without a verdict."""
        # Only the latest trial opens the door: a later one, or a later failure, has moved `retry_at` on.
        if epoch == self.epoch and self.retry_at == picked + self.fail_timeout:
            self.retry_at = -inf
            self._publish()

    def forgive(self) -> Change:
        """Forget every failure and begin a new epoch."""
        change = Change.RECOVERED if self.ejected else Change.NOTHING
        self.retry_at = None
        self.epoch += 1 if self.epoch % 2 else 2
        self._clear()
        return change

    def catch_up(self) -> Change:
        """Take over what other workers know."""
        if self.shared is None:
            return Change.NOTHING
        was_ejected, known = self.ejected, self.note[:3]
        latest = max(self.shared.notes())
        if latest.cleared != self.cleared:
            self.kept, self.fails = False, 0
        if self.recent is not None and (more := latest.fails - self.fails) > 0:
            # Only of the last it is known when it was; that the others are old ejects nobody wrongly.
            self.recent.extend([*repeat(self.failed_at, min(more, self.max_fails) - 1), latest.failed_at])
        self.epoch, self.cleared, self.fails, self.failed_at, retry_at = latest
        # A server that nothing ejects here may be ejected by a worker that knows others.
        self.retry_at = retry_at if self.epoch % 2 and self.max_fails else None
        if latest[:3] > known:
            # So that it outlives the worker that it is from.  Of another's trial, which may be given up, nothing is kept.
            pause = latest.failed_at + self.fail_timeout
            self.shared.publish(latest._replace(retry_at=min(latest.retry_at, pause)))
        if self.ejected is was_ejected:
            return Change.NOTHING
        return Change.EJECTED if self.ejected else Change.RECOVERED

    @property
    def note(self) -> Note:
        """What this worker knows."""
        retry_at = -inf if self.retry_at is None else self.retry_at
        return Note(self.epoch, self.cleared, self.fails, self.failed_at, retry_at)

    def _clear(self) -> None:
        self.kept = False
        self.fails = 0
        self.cleared += 1
        self._publish()

    def _publish(self) -> None:
        if self.shared is not None:
            self.shared.publish(self.note)
