"""Who starts the workers, and what if they are to serve another configuration?

- Everything that a worker could find wrong is found before the first one starts.  If one ends nevertheless before all have
  served, the whole program gives up.
- For another configuration others are started, with a crew of their own, beside those that serve.  They serve whatever is
  asked for now: sockets that were there stay.  Only when all of them serve do the old ones retire: they accept no more, and
  end when what they serve has ended, however long that takes.  If one of the new ones ends before, the old ones stay.
- What health checks have found, what names stand for, and what was learned of sessions, is the supervisor's, and lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from pylb.announce import announce, announce_reload
from pylb.capacity import capacity, descriptor_limit
from pylb.check.findings import Finding
from pylb.check.monitor import Monitor
from pylb.model import Address, Config, UdpListener
from pylb.pools import Pools
from pylb.proxy.accesslog import open_access_log
from pylb.proxy.listen import Bound, bind_rows, restore, without
from pylb.reloads import ReloadBroke, Reloads, check_reloadable
from pylb.service import Inherited, LoadBalancer
from pylb.workers.checks import Checks
from pylb.workers.child import Child
from pylb.workers.crew import Crew
from pylb.workers.estate import Estate
from pylb.workers.sessions import Item, hear, tables, told

__all__ = ["Supervisor"]

#: Seconds that workers have to go beyond `shutdown_timeout`, and when they are told to go at once.
GRACE, AT_ONCE = 5.0, 1.0


class Supervisor(Service):
    """Serves a configuration with several workers, under twistd.

    `clock` reads monotonic seconds.  Raises what `LoadBalancer` does.
    """

    def __init__(self, config: Config, reactor: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.reactor = reactor
        #: Fires with None once all workers accept clients and checks have begun, fails if that cannot be.
        self.ready: Deferred[None] = Deferred()
        self._clock = clock
        self._try(config)
        self._checks = Checks(config, reactor, clock, self._found, self._gone)
        self._sessions = tables(config)
        #: Those that begin, and those that have not all ended.
        self._crews: set[Crew] = set()
        self._crew = self._muster(config, self._make_estate(config), self._checks.pools)
        self._reloads = Reloads(self._reload)
        self._deadline: IDelayedCall | None = None

    def addresses(self, listener: str) -> list[Address]:
        """Where `listener` listens, until it is stopped."""
        return [bound.where for bound in chain(*self._crew.estate.rows[:1]) if bound.listener.name == listener]

    def startService(self) -> None:
        super().startService()
        self.reactor.callWhenRunning(self._begin)

    def reload(self, config: Config) -> Deferred[None]:
        """Let workers serve `config` in the place of the present one; fires when they do.

        Fails as making a supervisor does, with ValueError for what only a restart can change, with WorkerEnded, or with
        CancelledError because the service stops: then nothing has changed.  With ReloadBroke as `LoadBalancer.reload` does.
        """
        return self._reloads.add(config)

    def stopService(self) -> Deferred[None]:
        """Accept no more, let what runs finish for `shutdown_timeout`; fires when no worker is left."""
        super().stopService()
        self._reloads.end()
        self._checks.stop()
        self.close()
        self._deadline = self.reactor.callLater(self.config.shutdown_timeout + GRACE, self._kill)
        for crew in list(self._crews):
            crew.end("stop")
        return DeferredList([crew.gone for crew in self._crews]).addCallback(self._stopped)

    def abort(self) -> None:
        """Close whatever still runs."""
        self._tell_all("abort")
        if self._deadline is not None and self._deadline.active():
            self._deadline.reset(AT_ONCE)

    def close(self) -> None:
        """Give the sockets back."""
        self._crew.estate.close()

    def reopen_log(self) -> None:
        """Go on in a new access log of the same path: the old one was moved away."""
        for log in {crew.estate.log for crew in self._crews}:
            log.reopen()
        self._tell_all("reopen")

    # What workers learn and have to know.

    def learned(self, child: Child, items: list[Item]) -> None:
        """One has learned something of sessions."""
        hear(self._sessions, items)
        for crew in self._crews:
            crew.offer("learn", items, besides=child)

    def known(self, config: Config) -> tuple[tuple[Item, ...], tuple[Finding, ...]]:
        """What is known of sessions, and of the servers of pools that have checks in `config`."""
        checked = {name for name, spec in config.pools.items() if spec.health_check}
        return tuple(told(self._sessions)), tuple(each for each in self._checks.known() if each.pool in checked)

    def _found(self, news: Finding) -> None:
        self._tell_all("found", *news)

    def _gone(self, pool: str, server: str) -> None:
        self._tell_all("gone", pool, server)

    # The start.

    def _try(self, config: Config) -> None:
        """Find what is wrong, by making one of those that the workers are going to have."""
        LoadBalancer(replace(config, access_log=None), self.reactor, self._clock, Inherited([], None))

    def _make_estate(self, config: Config, before: Estate | None = None) -> Estate:
        """What the workers inherit, with the sockets and the log of the one `before` as far as these are asked for."""
        estate = Estate(config)
        try:
            if before is not None and config.access_log == self.config.access_log:
                estate.log = before.log
            else:
                estate.log = open_access_log(config.access_log, self.reactor, self._clock)
            present = () if before is None else before.rows
            estate.rows = bind_rows(config.listeners.values(), config.workers, present)
        except Exception:
            estate.close(before)
            raise
        return estate

    def _muster(self, config: Config, estate: Estate, pools: Pools[Monitor]) -> Crew:
        crew = Crew(config, estate, self, pools.found, self.reactor, self._clock)
        self._crews.add(crew)
        crew.gone.addCallback(lambda _: self._crews.discard(crew))
        return crew

    def _begin(self) -> None:
        if self.running:
            self._crew.begin()
            begun = gatherResults([self._crew.ready, self._checks.start()], consumeErrors=True)
            begun.addCallback(self._serves).addErrback(self._cannot_serve)

    def _serves(self, _: object) -> None:
        announce(self.config, self._crew.estate.rows[0], capacity(self.config, descriptor_limit()))
        self._reloads.begin()
        self.ready.callback(None)

    def _cannot_serve(self, failure: Failure) -> None:
        self.ready.errback(failure.value.subFailure if isinstance(failure.value, FirstError) else failure)

    # A reload.

    async def _reload(self, config: Config) -> None:
        check_reloadable(self.config, config)
        self._try(config)
        await self._have_let_go()
        with ExitStack() as undo:
            checks = self._checks.prepare(config)
            undo.callback(checks.stop)
            crew = self._muster(config, self._make_estate(config, self._crew.estate), checks)
            undo.callback(self._give_up, crew)
            undo.callback(lambda: crew.end("retire" if self.running else "stop"))
            await checks.look_up()
            self._sessions = tables(config) | self._sessions
            undo.callback(self._keep_sessions)
            crew.begin()
            await crew.ready
            undo.pop_all()
        try:
            self._relieve(config, crew, checks)
        except Exception as error:
            raise ReloadBroke from error

    async def _have_let_go(self) -> None:
        """Wait for those who retire: what they were told to give up may be asked for again."""
        await DeferredList([crew.done() for crew in self._crews - {self._crew}])
        if not self.running:
            raise CancelledError

    def _relieve(self, config: Config, crew: Crew, checks: Pools[Monitor]) -> None:
        """Let those who have served till now retire."""
        (before, self.config), (retired, self._crew) = (self.config, config), (self._crew, crew)
        self._keep_sessions()
        self._checks.go_on(checks)
        fresh = without(crew.estate.rows[0], retired.estate.rows[0])
        gone = without(retired.estate.rows[0], crew.estate.rows[0])
        retired.end("retire")
        self._drop(gone, self._crews - {crew})
        retired.estate.close(crew.estate)
        old, new = (capacity(each, descriptor_limit()) for each in (before, config))
        announce_reload(before, config, fresh, new if new != old else None)

    def _give_up(self, crew: Crew) -> None:
        """Close what only workers that are not going to serve would have had."""
        present = self._crew.estate
        if self.running:
            self._drop(without(chain(*crew.estate.rows), chain(*present.rows)), [crew])
        crew.estate.close(present)
        restore(chain(*present.rows))

    def _drop(self, gone: Iterable[Bound], crews: Iterable[Crew]) -> None:
        """Let those who retire answer datagrams no more where nobody serves any more."""
        if datagrams := {str(bound.address) for bound in gone if isinstance(bound.listener, UdpListener)}:
            for crew in crews:
                crew.tell("drop", sorted(datagrams))

    def _keep_sessions(self) -> None:
        """Those of the present configuration."""
        self._sessions = tables(self.config, self._sessions)

    # The end.

    def _tell_all(self, word: str, *more: object) -> None:
        for crew in self._crews:
            crew.tell(word, *more)

    def _kill(self) -> None:
        for crew in list(self._crews):
            crew.kill()

    def _stopped(self, _: object) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
