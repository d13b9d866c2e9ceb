"""May this server be used now?

`available` is the only place that knows about down, full and ejected; nobody else repeats the question.
"""

from __future__ import annotations

from pylb.balance.health import Health
from pylb.model import Address, ServerSpec

__all__ = ["Server"]


class Server:
    """One address in a pool, with its live state.

    A host name with several addresses makes several servers of one `spec`; `address` is then a literal.  A name that
    has not been found is one server that is `down`.
    """

    __slots__ = ("active", "address", "down", "failures", "health", "name", "picked", "spec", "usable")

    def __init__(self, spec: ServerSpec, address: Address | None = None, *, down: bool = False) -> None:
        self.spec = spec
        self.address = spec.address if address is None else address
        self.name = str(self.address)
        self.down = down or spec.down
        self.health = Health(spec.max_fails, spec.fail_timeout)
        #: Leases held now.
        self.active = 0
        #: Leases and failures since the start.
        self.picked = 0
        self.failures = 0
        #: The pool's note that its method holds this server.
        self.usable = False

    @property
    def weight(self) -> int:
        """The weight that counts now."""
        return self.spec.weight

    @property
    def full(self) -> bool:
        return 0 < self.spec.max_conns <= self.active

    def available(self, now: float) -> bool:
        """Whether a lease may be given at `now`."""
        return not self.down and not self.full and self.health.allows(now)

    def state(self, now: float) -> str:
        """In one word why the server can or cannot be used."""
        if self.down:
            return "down"
        if self.health.retry_at is not None:
            left = self.health.retry_at - now
            return f"ejected {left:.0f}s" if left > 0 else "ejected"
        return "full" if self.full else "up"

    def __repr__(self) -> str:
        ejected = "ejected, " if self.health.ejected else ""
        return f"<Server {self.name} {'down, ' if self.down else ejected}{self.active} active>"
