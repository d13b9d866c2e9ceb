"""How do all workers know what health checks find, and what names stand for?

- The supervisor checks, each server once, on pools of its own that serve nobody.  It logs what becomes of a server, and
  tells all workers; one that is started later is told everything first.  They hear of servers that come and go, too: of
  one that returns they know nothing until there is something new to know.
- It looks names up for these pools, and those of all others, and logs what they stand for.  Workers look them up
  themselves; one that is started later begins with what the supervisor knows, whatever DNS says then.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from twisted.internet.defer import Deferred

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
    """The health checks and the names of a configuration.

    `tell` hears of each server that has come, or is another than before, `forget` of the pool and the name of each that has
    gone.  `clock` reads monotonic seconds.  Raises what `Monitor` does.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        clock: Callable[[], float],
        tell: Callable[[Finding], object],
        forget: Callable[[str, str], object],
    ) -> None:
        super().__init__()
        self._tell = tell
        self._forget = forget
        self._reactor = reactor
        self._streams = streams(reactor)
        self._clock = clock
        #: Those of the present configuration that have checks or names.
        self.pools = self._gather(config)
        #: Of each pool that has checks its servers by their names.
        self._known = {name: _findings(pool) for name, pool in self.pools.by_name.items() if pool.spec.health_check}

    def start(self) -> Deferred[None]:
        """Look the names up, and begin to check; fires when that is so, and not after `stop`."""
        return self.pools.look_up().addCallback(lambda _: self.pools.begin())

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
        for name in list(self._known):
            if name not in pools.by_name or not pools.by_name[name].spec.health_check:
                self._become(name, {})
                del self._known[name]

    def known(self) -> tuple[Finding, ...]:
        """All that checks have found so far."""
        return tuple(chain.from_iterable(servers.values() for servers in self._known.values()))

    def _gather(self, config: Config, before: Pools[Monitor] | None = None) -> Pools[Monitor]:
        most = capacity(config, descriptor_limit()).checks
        return Pools(
            [spec for spec in config.pools.values() if spec.health_check or any(map(name_of, spec.servers))],
            config.resolver,
            # Nobody waits for what takes long to make.
            lambda spec: make_pool(spec, self._clock, self, elsewhere=lambda work, done: None),
            lambda pools: Monitor(
                pools.values(), self._reactor, self._streams, self._clock, most, followed=self._servers_changed
            ),
            self._reactor,
            self._clock,
            before,
        )

    def server_changed(self, pool: Members, server: Server, change: Change, reason: str) -> None:
        super().server_changed(pool, server, change, reason)
        news = self._known.setdefault(pool.name, {})[server.name] = finding(pool, server)
        self._tell(news)

    def _servers_changed(self, pool: Members) -> None:
        self._become(pool.name, _findings(pool))

    def _become(self, name: str, present: dict[str, Finding]) -> None:
        """Tell who has come to a pool, is another, or has gone."""
        before, self._known[name] = self._known.get(name, {}), present
        for server in before.keys() - present.keys():
            self._forget(name, server)
        for server, news in present.items():
            if before.get(server) != news:
                self._tell(news)

    def panic_changed(self, pool: Members, panics: bool, reason: str) -> None:
        """Nobody uses these pools; each worker says it of its own."""


def _findings(pool: Members) -> dict[str, Finding]:
    return {server.name: finding(pool, server) for server in pool.servers}
