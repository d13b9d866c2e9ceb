"""Who starts the workers, and what if one ends?

- Everything that a worker could find wrong is found before the first one starts.
- A worker that ends is replaced at once; one that ends again soon a little later each time.  Meanwhile another one serves
  its sockets.
- A worker that gives no sign of life for 5 s is killed, and replaced.  What is counted is how often it was looked at: nobody
  is killed because the whole machine, or the supervisor itself, was stopped for a while.
- If one ends before all have served for the first time, the whole program gives up.
- At the end no worker is left: those that do not go by themselves are killed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pylb.capacity import capacity, descriptor_limit
from pylb.model import Address, Config
from pylb.proxy.accesslog import open_access_log
from pylb.proxy.listen import bind_rows
from pylb.service import Inherited, LoadBalancer, announce
from pylb.workers.checks import Checks
from pylb.workers.child import Child, spawn
from pylb.workers.estate import Estate
from pylb.workers.rota import Change, Rota
from pylb.workers.sessions import Item, hear, tables, told

__all__ = ["Supervisor", "WorkerEnded", "pause"]

#: Seconds between two signs of life.
BEAT = 1.0
#: How many may be missed, and how many before a worker serves.
MISSED, MISSED_AT_FIRST = 5, 60
#: Seconds that a worker has to serve, or it has ended soon.
SOON = 10.0
LONGEST_PAUSE = 10.0
#: Seconds that workers have to go beyond `shutdown_timeout`, and when they are told to go at once.
GRACE, AT_ONCE = 5.0, 1.0

_log = Logger()


class WorkerEnded(Exception):
    """A worker ended before all had served."""


class Supervisor(Service):
    """Serves a configuration with several workers, under twistd.

    `clock` reads monotonic seconds.  Raises what `LoadBalancer` does.
    """

    def __init__(self, config: Config, reactor: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.reactor = reactor
        #: Fires with None once all workers accept clients, fails if one cannot.
        self.ready: Deferred[None] = Deferred()
        self._clock = clock
        #: Whether all have served for the first time.
        self._has_served = False
        # What is wrong is found by making one of those that the workers are going to have.
        LoadBalancer(replace(config, access_log=None), reactor, clock, Inherited([], None))
        self._checks = Checks(config, reactor, clock, lambda news: self._tell_all("found", *news))
        self._estate = _estate(config, reactor, clock)
        self._sessions = tables(config)
        self._rota = Rota()
        self._children: dict[int, Child] = {}
        #: Those that are going to be started.
        self._due: dict[int, IDelayedCall] = {}
        #: How often in a row each of them ended soon.
        self._hasty: Counter[int] = Counter()
        self._beat = BEAT
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor
        self._deadline: IDelayedCall | None = None
        self._gone: Deferred[None] = Deferred()

    def addresses(self, listener: str) -> list[Address]:
        """Where `listener` listens, until it is stopped."""
        return [bound.where for bound in chain(*self._estate.rows[:1]) if bound.listener.name == listener]

    def startService(self) -> None:
        super().startService()
        self.reactor.callWhenRunning(self._begin)

    def stopService(self) -> Deferred[None]:
        """Accept no more, let what runs finish for `shutdown_timeout`; fires when no worker is left."""
        super().stopService()
        self._checks.stop()
        for call in self._due.values():
            call.cancel()
        self._due.clear()
        self.close()
        self._deadline = self.reactor.callLater(self.config.shutdown_timeout + GRACE, self._kill)
        for child in self._children.values():
            child.channel.send("stop") if child.serves else child.kill()
        self._end_if_alone()
        return self._gone

    def abort(self) -> None:
        """Close whatever still runs."""
        self._tell_all("abort")
        if self._deadline is not None and self._deadline.active():
            self._deadline.reset(AT_ONCE)

    def close(self) -> None:
        """Give the sockets back."""
        self._estate.close()

    def reopen_log(self) -> None:
        """Go on in a new access log of the same path: the old one was moved away."""
        self._estate.log.reopen()
        self._tell_all("reopen")

    # What becomes of the workers.

    def came(self, child: Child) -> None:
        """A worker serves its own sockets."""
        if not self.running:
            return
        child.since = self._clock()
        _log.info("worker {worker} serves, process {pid}", worker=child.number, pid=child.pid)
        self._pass_on(self._rota.came(child.number))
        if not self.ready.called and all(child.serves for child in self._children.values()):
            announce(self.config, self._estate.rows[0], capacity(self.config, descriptor_limit()))
            self._has_served = True
            self.ready.callback(None)

    def went(self, child: Child, reason: str) -> None:
        """A worker has ended, and was reaped."""
        if self._children.get(child.number) is not child:
            return  # it could not be told what to do
        del self._children[child.number]
        self._estate.board.rows[child.number - 1].clear()
        if not self.running:
            self._end_if_alone()
        elif self._has_served:
            self._replace(child, reason)
        elif not self.ready.called:
            self.ready.errback(WorkerEnded(f"worker {child.number} ended before it served: {reason}"))

    def learned(self, child: Child, items: list[Item]) -> None:
        """A worker has learned something of sessions."""
        hear(self._sessions, items)
        for other in self._children.values():
            if other is not child:
                other.channel.offer("learn", items)

    def _begin(self) -> None:
        if self.running:
            for number in range(1, self.config.workers + 1):
                self._start(number)
            self._checks.start()
            self._watch.start(self._beat)

    def _start(self, number: int) -> None:
        self._due.pop(number, None)
        child = self._children[number] = Child(number, self)
        start, descriptors = self._estate.share(number, self._beat)
        start = replace(start, sessions=tuple(told(self._sessions)), found=self._checks.known())
        try:
            spawn(child, start, descriptors, self.reactor, self._estate.folders)
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
        self._due[number] = self.reactor.callLater(seconds, self._start, number)

    def _look(self) -> None:
        for child in self._children.values():
            beat = self._estate.board.rows[child.number - 1].heartbeat
            child.silent = child.silent + 1 if beat == child.beat else 0
            child.beat = beat
            if child.silent >= (MISSED if child.serves else MISSED_AT_FIRST):
                _log.error("worker {worker} gives no sign of life and is killed", worker=child.number)
                child.kill()

    # What they are told.

    def _pass_on(self, changes: Iterable[Change]) -> None:
        for worker, serves, row in changes:
            self._children[worker].channel.send("serve" if serves else "leave", row)

    def _tell_all(self, word: str, *more: object) -> None:
        for child in self._children.values():
            child.channel.send(word, *more)

    def _kill(self) -> None:
        for child in self._children.values():
            child.kill()

    def _end_if_alone(self) -> None:
        if self._children or self._gone.called:
            return
        if self._watch.running:
            self._watch.stop()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._gone.callback(None)


def _estate(config: Config, reactor: Any, clock: Callable[[], float]) -> Estate:
    estate = Estate(config)
    try:
        estate.log = open_access_log(config.access_log, reactor, clock)
        estate.rows = bind_rows(config.listeners.values(), config.workers)
    except Exception:
        estate.close()
        raise
    return estate


def pause(hasty: int) -> float:
    """Seconds until a worker is started that ended soon, so many times in a row."""
    return 0.0 if hasty < 2 else min(0.1 * 2 ** min(hasty - 2, 10), LONGEST_PAUSE)
