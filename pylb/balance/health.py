"""Has this server failed too often to be asked now?

The rules are nginx's passive accounting (ngx_http_upstream_round_robin.c), to the millisecond:

- `max_fails` failures eject the server for `fail_timeout`.  Failures add up until a success that was picked more than
  `fail_timeout` after the last of them.
- After the pause one lease is let through as a trial; while it is under way nobody else is, for at most another
  `fail_timeout`.
- `max_fails` 0 means that nothing ejects the server; but it is news when it begins to fail and when it has stopped.

and where nginx lets late news mislead it, the epoch of a lease decides.  Each ejection and each recovery begins one:

- what happened to a lease of an older epoch says nothing any more, so eight connections that fail together eject a
  server once, and a straggler that succeeds does not heal an ejected server;
- while a server is ejected, every lease of its present epoch is a trial, and only a trial ends the ejection;
- a trial that ends without a verdict (its client left) neither heals nor counts: the next lease is the trial.
"""

from __future__ import annotations

from enum import Enum
from math import inf

__all__ = ["CALM", "Change", "Health"]

#: Seconds without trouble after which it is called over, in the news.
CALM = 1.0


class Change(Enum):
    """What a verdict changed."""

    NOTHING = "nothing"
    #: A server that is never ejected has begun to fail.
    TOLERATED = "tolerated"
    EJECTED = "ejected"
    EXTENDED = "extended"
    RECOVERED = "recovered"
    #: The operator switched the server to another state.
    SWITCHED = "switched"


class Health:
    """The failures of one server.  Times are seconds of whichever clock the caller reads."""

    __slots__ = ("epoch", "fail_timeout", "failed_at", "fails", "max_fails", "retry_at")

    def __init__(self, max_fails: int = 1, fail_timeout: float = 10.0) -> None:
        self.max_fails = max_fails
        self.fail_timeout = fail_timeout
        self.fails = 0
        self.failed_at = -inf
        self.epoch = 0
        #: While ejected: after this moment the next trial may start.
        self.retry_at: float | None = None

    @property
    def ejected(self) -> bool:
        return self.retry_at is not None

    def allows(self, now: float) -> bool:
        """Whether a lease may be given at `now`."""
        return self.retry_at is None or now > self.retry_at

    def trial_started(self, now: float) -> None:
        """A lease was given although the server is ejected: nobody else for another `fail_timeout`."""
        self.retry_at = now + self.fail_timeout

    def failed(self, epoch: int, now: float) -> Change:
        """A lease of `epoch` failed."""
        if epoch != self.epoch:
            return Change.NOTHING
        self.fails += 1
        self.failed_at = now
        if not self.max_fails:
            return Change.TOLERATED if self.fails == 1 else Change.NOTHING
        if self.ejected:
            self.retry_at = now + self.fail_timeout
            return Change.EXTENDED
        if self.fails < self.max_fails:
            return Change.NOTHING
        self.retry_at = now + self.fail_timeout
        self.epoch += 1
        return Change.EJECTED

    def succeeded(self, epoch: int, picked: float) -> Change:
        """A lease of `epoch`, given at `picked`, succeeded."""
        if epoch != self.epoch:
            return Change.NOTHING
        if self.ejected:
            return self.forgive()
        # Where nothing is ejected only the news is at stake: a server that fails every other time is no news each time.
        pause = self.fail_timeout if self.max_fails else max(self.fail_timeout, CALM)
        if not self.fails or picked - self.failed_at <= pause:
            return Change.NOTHING
        self.fails = 0
        return Change.NOTHING if self.max_fails else Change.RECOVERED

    def abandoned(self, epoch: int, picked: float) -> None:
        """A lease of `epoch`, given at `picked`, ended without a verdict."""
        # Only the latest trial opens the door: a later one, or a later failure, has moved `retry_at` on.
        if epoch == self.epoch and self.retry_at == picked + self.fail_timeout:
            self.retry_at = -inf

    def forgive(self) -> Change:
        """Forget every failure and begin a new epoch."""
        change = Change.RECOVERED if self.ejected else Change.NOTHING
        self.fails = 0
        self.retry_at = None
        self.epoch += 1
        return change
