"""How does a worker hear what another one has learned of sessions?

A worker gathers what is new and sends it in batches; the supervisor keeps it, for those that start later, and passes it on.
What cannot be sent for a while waits, up to a number, and what is more than that is not passed on: this helps clients that
come to another worker, and must not become a burden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeAlias

from twisted.internet.interfaces import IDelayedCall

from pylb.balance.sticky import Learned, LearnedSessions
from pylb.model import Config, StickyLearn

__all__ = ["Item", "News", "hear", "tables", "told"]

#: Seconds that what is new may wait for more.
LAG = 0.02
#: How much is sent at once, and may wait.
BATCH, MOST = 1000, 20_000

#: What was learned, in a form for JSON: pool, session, server, moment, whether it is bound.
Item: TypeAlias = tuple[str, str, str, float, bool]


class News:
    """What a worker has learned and has not sent yet; `send` sends a batch, and says whether it did."""

    def __init__(self, send: Callable[[list[Item]], bool], reactor: Any) -> None:
        self._send = send
        self._reactor = reactor
        #: The last of each session.
        self._waiting: dict[tuple[str, bytes], Item] = {}
        self._timer: IDelayedCall | None = None

    def gather(self, tables: Mapping[str, LearnedSessions]) -> None:
        """Hear of what these tables, of pools by their names, learn from now on."""
        for pool, table in tables.items():
            table.tell = partial(self._add, pool)

    def stop(self) -> None:
        """Send what waits, and nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._send(list(islice(self._waiting.values(), BATCH)))
        self._waiting.clear()

    def _add(self, pool: str, learned: Learned) -> None:
        key = pool, learned.session
        if len(self._waiting) < MOST or key in self._waiting:
            self._waiting[key] = _item(pool, learned)
        if self._timer is None:
            self._timer = self._reactor.callLater(LAG, self._flush)

    def _flush(self) -> None:
        self._timer = None
        batch = list(islice(self._waiting.items(), BATCH))
        if self._send([item for _, item in batch]):
            for key, _ in batch:
                del self._waiting[key]
        if self._waiting:
            self._timer = self._reactor.callLater(LAG, self._flush)


def tables(config: Config, before: Mapping[str, LearnedSessions] = MappingProxyType({})) -> dict[str, LearnedSessions]:
    """A table for each pool that learns, with what it has learned `before`."""
    return {
        name: LearnedSessions(spec.sticky, before.get(name))
        for name, spec in config.pools.items()
        if isinstance(spec.sticky, StickyLearn)
    }


def told(tables: Mapping[str, LearnedSessions]) -> Iterator[Item]:
    """All that tables know."""
    return (_item(pool, learned) for pool, table in tables.items() for learned in table.learned())


def hear(tables: Mapping[str, LearnedSessions], items: Iterable[Item]) -> None:
    """Let tables know what another worker has learned, who may have pools that are not here."""
    for pool, session, server, when, bound in items:
        if pool in tables:
            tables[pool].hear(Learned(bytes.fromhex(session), server, when, bound))


def _item(pool: str, learned: Learned) -> Item:
    return pool, learned.session.hex(), learned.server, learned.when, learned.bound
