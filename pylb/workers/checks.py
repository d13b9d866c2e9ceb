"""How do all workers know what health checks find?

The supervisor checks, each server once, on pools of its own that serve nobody.  It logs what becomes of a server, and tells
all workers; one that is started later is told everything first.
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
from pylb.proxy.resolve import Names
from pylb.proxy.streams import streams

__all__ = ["Checks"]


class Checks(Fortunes):
    """The health checks of a configuration; `tell` hears of each server that is another than before.

    `clock` reads monotonic seconds.  Raises what `Monitor` does.
    """

    def __init__(
        self, config: Config, reactor: Any, clock: Callable[[], float], tell: Callable[[Finding], object]
    ) -> None:
        super().__init__()
        self._tell = tell
        self._pools = [make_pool(spec, clock, self) for spec in config.pools.values() if spec.health_check]
        most = capacity(config, descriptor_limit()).checks
        self._monitor = Monitor(self._pools, reactor, streams(reactor), clock, most)
        self._names = Names(reactor, self._pools, changed=self._monitor.follow, resolver=config.resolver, clock=clock)

    def start(self) -> None:
        """Look the names up, and begin to check."""
        self._names.start().addCallback(lambda _: self._monitor.start())

    def stop(self) -> None:
        """Ask nobody any more."""
        self._names.stop()
        self._monitor.stop()

    def known(self) -> tuple[Finding, ...]:
        """All that was found so far."""
        return tuple(finding(pool, server) for pool in self._pools for server in pool.servers)

    def server_changed(self, pool: Members, server: Server, change: Change, reason: str) -> None:
        super().server_changed(pool, server, change, reason)
        self._tell(finding(pool, server))
