"""Who are the workers of one configuration, and what if one of them ends?

- One that ends is replaced at once; one that ends again soon a little later each time.  Meanwhile another one serves its
  sockets.
- One that gives no sign of life for 5 s is killed, and replaced.  What is counted is how often it was looked at: nobody is
  killed because the whole machine, or the supervisor itself, was stopped for a while.
- If one ends before all have served for the first time, all is off.
- Nobody is replaced once they are to end.  At the end none is left: those that do not go by themselves are killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pylb.check.findings import Finding
from pylb.model import Config
from pylb.proxy.dns.follow import Found
from pylb.proxy.resolve import Name
from pylb.workers.child import Child, spawn
from pylb.workers.estate import Estate
from pylb.workers.rota import Change, Rota
from pylb.workers.sessions import Item

__all__ = ["Crew", "Lore", "WorkerEnded", "pause"]

#: Seconds between two signs of life.
BEAT = 1.0
#: How many may be missed, and how many before a worker serves.
MISSED, MISSED_AT_FIRST = 5, 60
#: Seconds that a worker has to serve, or it has ended soon.
SOON = 10.0
LONGEST_PAUSE = 10.0

_log = Logger()


class WorkerEnded(Exception):
    """A worker ended before all had served."""


class Lore(Protocol):
    """What workers learn and have to know."""

    def learned(self, child: Child, items: list[Item]) -> None:
        """One has learned something of sessions."""

    def known(self, config: Config) -> tuple[tuple[Item, ...], tuple[Finding, ...]]:
        """What is known of sessions and servers, for one that begins with `config`."""


class Crew:
    """The workers of `config`, which inherit `estate`; `names` tells what its names were found to stand for.

    `clock` reads monotonic seconds.
    """

    def __init__(
        self,
        config: Config,
        estate: Estate,
        lore: Lore,
        names: Callable[[], Mapping[Name, Found]],
        reactor: Any,
        clock: Callable[[], float],
    ) -> None:
        self.estate = estate
        #: Fires when all serve, or with a WorkerEnded.
        self.ready: Deferred[None] = Deferred()
        #: Fires when none is left, once they are to end.
        self.gone: Deferred[None] = Deferred()
        self._config = config
        self._lore = lore
        self._names = names
        self._reactor = reactor
        self._clock = clock
        #: Whether all have served for the first time, and whether they are to end.
        self._has_served = self._ends = False
        self._rota = Rota()
        self._children: dict[int, Child] = {}
        #: Those that are going to be started.
        self._due: dict[int, IDelayedCall] = {}
        #: How often in a row each of them ended soon.
        self._hasty: Counter[int] = Counter()
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor

    def begin(self) -> None:
        """Start all."""
        for number in range(1, self._config.workers + 1):
            self._start(number)
        self._watch.start(BEAT)

    def end(self, word: str) -> None:
        """Tell all to end: "retire" when nothing runs any more, or to "stop" in time; who does not serve yet ends now."""
        self._ends = True
        for call in self._due.values():
            call.cancel()
        self._due.clear()
        for child in self._children.values():
            child.channel.send(word) if child.serves else child.kill()
        self._end_if_alone()

    def kill(self) -> None:
        """End all, whatever they do, and replace none."""
        self.end("stop")
        for child in self._children.values():
            child.kill()

    def tell(self, word: str, *more: object) -> None:
        """Say something to all."""
        for child in self._children.values():
            child.channel.send(word, *more)

    def done(self) -> Deferred[Any]:
        """Fires when all have done what they were told so far, or have ended."""
        return DeferredList([child.done() for child in self._children.values()], consumeErrors=True)

    def offer(self, word: str, *more: object, besides: Child) -> None:
        """Say something that may be lost to all others."""
        for child in self._children.values():
            if child is not besides:
                child.channel.offer(word, *more)

    # What becomes of them.

    def came(self, child: Child) -> None:
        """A worker serves its own sockets."""
        if self._ends:
            return
        child.since = self._clock()
        _log.info("worker {worker} serves, process {pid}", worker=child.number, pid=child.pid)
        self._pass_on(self._rota.came(child.number))
        if not self.ready.called and all(child.serves for child in self._children.values()):
            self._has_served = True
            self.ready.callback(None)

    def went(self, child: Child, reason: str) -> None:
        """A worker has ended, and was reaped."""
        if self._children.get(child.number) is not child:
            return  # it could not be told what to do
        del self._children[child.number]
        self.estate.board.rows[child.number - 1].clear()
        if self._ends:
            self._end_if_alone()
        elif self._has_served:
            self._replace(child, reason)
        elif not self.ready.called:
            self.ready.errback(WorkerEnded(f"worker {child.number} ended before it served: {reason}"))

    def learned(self, child: Child, items: list[Item]) -> None:
        """A worker has learned something of sessions."""
        self._lore.learned(child, items)

    def _start(self, number: int) -> None:
        self._due.pop(number, None)
        child = self._children[number] = Child(number, self)
        start, descriptors = self.estate.share(number, BEAT)
        sessions, found = self._lore.known(self._config)
        try:
            start = replace(start, sessions=sessions, found=found, names=self._names())
            spawn(child, start, descriptors, self._reactor, self.estate.folders)
        except OSError as error:
            self.went(child, f"it cannot be started: {error.strerror}")

    def _replace(self, child: Child, reason: str) -> None:
        number = child.number
        soon = self._clock() - child.since < SOON
        self._hasty[number] = self._hasty[number] + 1 if soon else 0
        seconds = pause(self._hasty[number])
        _log.error(
            "worker {worker} has ended, its successor starts {when}: {reason}",
            worker=number,
            when=f"in {seconds:g} s" if seconds else "now",
            reason=reason,
        )
        self._pass_on(self._rota.went(number))
        self._due[number] = self._reactor.callLater(seconds, self._start, number)

    def _look(self) -> None:
        for child in self._children.values():
            beat = self.estate.board.rows[child.number - 1].heartbeat
            child.silent = child.silent + 1 if beat == child.beat else 0
            child.beat = beat
            if child.silent >= (MISSED if child.serves else MISSED_AT_FIRST):
                _log.error("worker {worker} gives no sign of life and is killed", worker=child.number)
                child.kill()

    def _pass_on(self, changes: Iterable[Change]) -> None:
        for worker, serves, row in changes:
            self._children[worker].channel.send("serve" if serves else "leave", row)

    def _end_if_alone(self) -> None:
        if self._children or self.gone.called:
            return
        if self._watch.running:
            self._watch.stop()
        # Its memory is given back now, and not only when garbage is collected.
        self.estate.board.rows.clear()
        self.gone.callback(None)


def pause(hasty: int) -> float:
    """Seconds until a worker is started that ended soon, so many times in a row."""
    return 0.0 if hasty < 2 else min(0.1 * 2 ** min(hasty - 2, 10), LONGEST_PAUSE)
