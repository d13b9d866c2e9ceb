"""May this server be used now?

`available` is the only place that knows about down, draining, unhealthy, full and ejected; nobody else repeats the question.

A server that came back, or was added, is given little at first: with `slow_start` its share of the requests grows in a
straight line until it has its weight (`warmth`).
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Literal

from pylb.balance.health import Health
from pylb.model import Address, ServerSpec

__all__ = ["Checked", "Server", "Status", "Switch", "written_switch"]

#: What the operator wants of a server.
Switch = Literal["up", "drain", "down"]
#: What active checks say of a server; "passed" also where there are none.
Checked = Literal["passed", "checking", "unhealthy"]
#: A server's state in the words of nginx's API.
Status = Literal["up", "draining", "down", "unavail", "checking", "unhealthy"]
#: The least that a server's share is of its weight, so that it is never forgotten.
_LEAST_WARMTH = 0.01


def written_switch(spec: ServerSpec) -> Switch:
    """How the operator wrote that a server begins."""
    return "down" if spec.down else "drain" if spec.drain else "up"


class Server:
    """One address in a pool, with its live state.

    A host name with several addresses makes several servers of one `spec`; `address` is then a literal.  A name that
    has not been found is one server that is `missing`.  Where DNS says weight and rank, it gets another `spec` when they
    change, before the pool's next `replace`.
    """

    __slots__ = (
        "active",
        "address",
        "began",
        "checked",
        "failures",
        "health",
        "held",
        "lost",
        "missing",
        "name",
        "picked",
        "share",
        "spec",
        "switch",
        "usable",
        "waiting",
        "warming_since",
        "weight",
    )

    def __init__(self, spec: ServerSpec, address: Address | None = None, *, missing: bool = False) -> None:
        self.spec = spec
        self.address = spec.address if address is None else address
        self.name = str(self.address)
        self.missing = missing
        self.switch = written_switch(spec)
        self.health = Health(spec.max_fails, spec.fail_timeout)
        self.checked: Checked = "passed"
        #: Leases held now, by all workers as far as this one knows, and in one cell those of this one.
        self.active = 0
        self.held: MutableSequence[int] | memoryview = [0]
        #: Those of them whose time is to be measured still, and the sum of the moments at which they were given.
        self.waiting = 0
        self.began = 0.0
        #: How many requests in a row others had to answer since its last answer, by whether it was still connected to.
        self.lost: dict[bool, int] = {}
        #: Leases and failures since the start.
        self.picked = 0
        self.failures = 0
        #: The pool's note that it offers this server.
        self.usable = False
        #: The part of its weight that counts (see `Pool.reweigh`), and what that is beside the others'.
        self.share = 1.0
        self.weight = spec.weight
        #: When its slow start began; None when it is over.
        self.warming_since: float | None = None

    def warmth(self, now: float) -> float:
        """How much of its weight counts at `now`, as a part of 1: less while it starts slowly."""
        if self.warming_since is None:
            return 1.0
        passed = now - self.warming_since
        return min(1.0, max(_LEAST_WARMTH, passed / self.spec.slow_start))

    @property
    def drains(self) -> bool:
        """Whether it serves only those that belong to it."""
        return self.switch == "drain" or (self.switch == "up" and not self.share)

    @property
    def full(self) -> bool:
        return 0 < self.spec.max_conns <= self.active

    @property
    def serves(self) -> bool:
        """Whether it is to serve, if only it is well: it is there, switched on, and has been checked if it must be."""
        return self.switch == "up" and not self.drains and not self.missing and self.checked != "checking"

    @property
    def well(self) -> bool:
        """Whether it is to serve, and neither checks nor clients' failures speak against it."""
        return self.serves and self.checked == "passed" and not self.health.ejected

    def available(self, now: float, bound: bool = False, panic: bool = False) -> bool:
        """Whether a lease may be given at `now`; to a session that is `bound` to this server, also while it drains.

        In `panic` it does not matter that it is ejected or unhealthy.
        """
        open_ = bound if self.drains else self.switch == "up"
        if not open_ or self.missing or self.full:
            return False
        return (self.checked == "passed" and self.health.allows(now)) or (panic and self.checked != "checking")

    @property
    def status(self) -> Status:
        """Its state as nginx's API names it; a server that is full is up."""
        if self.missing or self.switch == "down":
            return "down"
        if self.checked != "passed":
            return self.checked
        if self.health.ejected:
            return "unavail"
        return "draining" if self.drains else "up"

    def state(self, now: float) -> str:
        """In one word, for people, why the server can or cannot be used."""
        if self.missing:
            return "not found"
        status = self.status
        if status == "unavail":
            left = (self.health.retry_at or 0.0) - now
            return f"ejected {left:.0f}s" if left > 0 else "ejected"
        return "full" if self.full and status in ("up", "draining") else status

    def __repr__(self) -> str:
        state = "ejected" if self.health.ejected else ""
        if self.missing or self.switch != "up" or self.checked != "passed":
            state = self.state(0.0)
        return f"<Server {self.name} {f'{state}, ' if state else ''}{self.active} active>"
