"""May this server be used now?

`available` is the only place that knows about down, draining, full and ejected; nobody else repeats the question.

A server that came back, or was added, is given little at first: with `slow_start` its share of the requests grows in a
straight line until it has its weight (`warmth`).
"""

from __future__ import annotations

from typing import Literal

from pylb.balance.health import Health
from pylb.model import Address, ServerSpec

__all__ = ["Server", "Switch"]

#: What the operator wants of a server.
Switch = Literal["up", "drain", "down"]
#: The least that a server's share is of its weight, so that it is never forgotten.
_LEAST_WARMTH = 0.01


class Server:
    """One address in a pool, with its live state.

    A host name with several addresses makes several servers of one `spec`; `address` is then a literal.  A name that
    has not been found is one server that is `missing`.
    """

    __slots__ = (
        "active",
        "address",
        "began",
        "failures",
        "health",
        "missing",
        "name",
        "picked",
        "spec",
        "switch",
        "usable",
        "waiting",
        "warming_since",
    )

    def __init__(self, spec: ServerSpec, address: Address | None = None, *, missing: bool = False) -> None:
        self.spec = spec
        self.address = spec.address if address is None else address
        self.name = str(self.address)
        self.missing = missing
        self.switch: Switch = "down" if spec.down else "drain" if spec.drain else "up"
        self.health = Health(spec.max_fails, spec.fail_timeout)
        #: Leases held now.
        self.active = 0
        #: Those of them whose time is to be measured still, and the sum of the moments at which they were given.
        self.waiting = 0
        self.began = 0.0
        #: Leases and failures since the start.
        self.picked = 0
        self.failures = 0
        #: The pool's note that it offers this server.
        self.usable = False
        #: When its slow start began; None when it is over.
        self.warming_since: float | None = None

    @property
    def weight(self) -> int:
        """Its share of the requests, beside the others'."""
        return self.spec.weight

    def warmth(self, now: float) -> float:
        """How much of its weight counts at `now`, as a part of 1: less while it starts slowly."""
        if self.warming_since is None:
            return 1.0
        passed = now - self.warming_since
        return min(1.0, max(_LEAST_WARMTH, passed / self.spec.slow_start))

    @property
    def full(self) -> bool:
        return 0 < self.spec.max_conns <= self.active

    def available(self, now: float, bound: bool = False) -> bool:
        """Whether a lease may be given at `now`; to a session that is `bound` to this server, also while it drains."""
        open_ = self.switch == "up" or (bound and self.switch == "drain")
        return open_ and not self.missing and not self.full and self.health.allows(now)

    def state(self, now: float) -> str:
        """In one word why the server can or cannot be used."""
        if self.missing:
            return "not found"
        if self.switch == "down":
            return "down"
        if self.health.retry_at is not None:
            left = self.health.retry_at - now
            return f"ejected {left:.0f}s" if left > 0 else "ejected"
        if self.full:
            return "full"
        return "draining" if self.switch == "drain" else "up"

    def __repr__(self) -> str:
        state = "ejected" if self.health.ejected else ""
        if self.missing or self.switch != "up":
            state = self.state(0.0)
        return f"<Server {self.name} {f'{state}, ' if state else ''}{self.active} active>"
