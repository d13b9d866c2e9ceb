"""Which servers does a configuration ask for, and how are they?

Its pools by their names, the look-ups of their servers, and the checks of these.  They can be looked up beside those of an
earlier configuration, and then take their place at once: a pool of the same name stays the one that it is, with all that is
known of its servers, and whoever uses it notices nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, Self, TypeVar

from twisted.internet.defer import Deferred

from pylb.balance.pool import Pool, make_pool
from pylb.model import PoolSpec, Resolver
from pylb.proxy.dns.follow import Found
from pylb.proxy.resolve import NOTHING, Name, Names

__all__ = ["Checking", "Pools"]


class Checking(Protocol):
    """What tells pools how their servers are (`pylb.check.monitor.Monitor`)."""

    def start(self, before: Self | None = None) -> None:
        """Begin, or go on with what `before` has come to, which ends."""

    def exchange(self, pool: Pool, other: Pool) -> None:
        """Before the start: have to do with `other` instead."""

    def follow(self, pool: Pool) -> None:
        """Its servers are others than before."""

    def stop(self) -> None:
        """Tell nobody any more."""


T = TypeVar("T", bound=Checking)


class Pools(Generic[T]):
    """The pools that `specs` ask for, which take the place of those `before` when they begin.

    `make` makes a pool, `make_checks` what tells them how their servers are, and both may raise what they like: nothing has
    become of those before then.  What names stand for is known at first from those before, or from who else `found` it.
    """

    def __init__(
        self,
        specs: Iterable[PoolSpec],
        resolver: Resolver | None,
        make: Callable[[PoolSpec], Pool],
        make_checks: Callable[[Mapping[str, Pool]], T],
        reactor: Any,
        clock: Callable[[], float],
        before: Pools[T] | None = None,
        found: Mapping[Name, Found] = NOTHING,
    ) -> None:
        known: Mapping[str, Pool] = {} if before is None else before.by_name
        self.by_name: dict[str, Pool] = {
            spec.name: _draft(spec, clock) if spec.name in known else make(spec) for spec in specs
        }
        self.checks = make_checks(self.by_name)
        self._before = before
        self._names: Names = Names(
            reactor,
            self.by_name.values(),
            changed=self.checks.follow,
            resolver=resolver,
            clock=clock,
            before=found if before is None else before.found(),
        )

    def look_up(self) -> Deferred[None]:
        """Look for the addresses of all servers; fires when they can begin, and not after `stop`."""
        return self._names.start()

    def found(self) -> Mapping[Name, Found]:
        """What names were found to stand for so far, for those that come after."""
        return self._names.found()

    def begin(self) -> None:
        """Take the place of those before, if there are any, and let the servers be checked."""
        before, self._before = self._before, None
        if before is None:
            self.checks.start()
            return
        for name in self.by_name.keys() & before.by_name.keys():
            self._go_on(name, before.by_name[name])
        for name in before.by_name.keys() - self.by_name.keys():
            before.by_name[name].give_up()
        before._names.stop()
        self.checks.start(before.checks)

    def stop(self) -> None:
        """Look nothing up and check nobody any more; the pools go on as they are."""
        self._names.stop()
        self.checks.stop()

    def _go_on(self, name: str, pool: Pool) -> None:
        """Let `pool` be as the one of that name was to be."""
        draft, self.by_name[name] = self.by_name[name], pool
        same = pool.renew(draft.spec, draft.servers)
        self._names.exchange(draft, pool, same)
        self.checks.exchange(draft, pool)


def _draft(spec: PoolSpec, clock: Callable[[], float]) -> Pool:
    """A pool that serves nobody, of which nobody hears, and which makes nothing that takes long."""
    return make_pool(spec, clock, elsewhere=lambda work, done: None)
