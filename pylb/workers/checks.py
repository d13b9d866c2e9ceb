"""How do all workers know what health checks find, and what names stand for?

- The supervisor checks, each server once, on pools of its own that serve nobody.  It logs what becomes of a server, and
  tells all workers; one that is started later is told everything first.
- It looks names up for these pools, and those of all others, and logs what they stand for.  Workers look them up
  themselves; one that is started later begins with what the supervisor knows, whatever DNS says then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pylb.balance.health import Change
from pylb.balance.members import Members
from pylb.balance.pool import make_pool
from pylb.balance.server import Server
from pylb.capacity import capacity, descriptor_limit
from pylb.check.findings import Finding, finding
from pylb.check.monitor import Monitor
from pylb.fortunes import Fortunes
from pylb.model import Config
from pylb.pools import Pools
from pylb.proxy.resolve import name_of
from pylb.proxy.streams import streams

__all__ = ["Checks"]


class Checks(Fortunes):
    """The health checks and the names of a configuration; `tell` hears of each server that is another than before.

    `clock` reads monotonic seconds.  Raises what `Monitor` does.
    """

    def __init__(
        self, config: Config, reactor: Any, clock: Callable[[], float], tell: Callable[[Finding], object]
    ) -> None:
        super().__init__()
        self._tell = tell
        self._reactor = reactor
        self._streams = streams(reactor)
        self._clock = clock
        #: Those of the present configuration that have checks or names.
        self.pools = self._gather(config)

    def start(self) -> None:
        """Look the names up, and begin to check."""
        self.pools.look_up().addCallback(lambda _: self.pools.begin())

    def stop(self) -> None:
        """Ask nobody any more."""
        self.pools.stop()

    def prepare(self, config: Config) -> Pools[Monitor]:
        """What another configuration asks for; to be looked up, and then gone on with, or stopped."""
        return self._gather(config, self.pools)

    def go_on(self, pools: Pools[Monitor]) -> None:
        """Check as is asked now, with all that was found till now."""
        self.pools = pools
        pools.begin()

    def known(self) -> tuple[Finding, ...]:
        """All that checks have found so far."""
        checked = [pool for pool in self.pools.by_name.values() if pool.spec.health_check]
        return tuple(finding(pool, server) for pool in checked for server in pool.servers)

    def _gather(self, config: Config, before: Pools[Monitor] | None = None) -> Pools[Monitor]:
        most = capacity(config, descriptor_limit()).checks
        return Pools(
            [spec for spec in config.pools.values() if spec.health_check or any(map(name_of, spec.servers))],
            config.resolver,
            # Nobody waits for what takes long to make.
            lambda spec: make_pool(spec, self._clock, self, elsewhere=lambda work, done: None),
            lambda pools: Monitor(pools.values(), self._reactor, self._streams, self._clock, most),
            self._reactor,
            self._clock,
            before,
        )

    def server_changed(self, pool: Members, server: Server, change: Change, reason: str) -> None:
        super().server_changed(pool, server, change, reason)
        self._tell(finding(pool, server))

    def panic_changed(self, pool: Members, panics: bool, reason: str) -> None:
        """Nobody uses these pools; each worker says it of its own."""
