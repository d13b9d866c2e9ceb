"""How do the parts become a load balancer?

`LoadBalancer` is an ordinary Twisted service.  Making one takes everything that can fail (certificates, sockets, the access
log), so that a mistake stops it before anything has started; starting it looks the host names up, makes what
takes long (the rings of large pools) and then accepts; stopping it lets what runs finish for `shutdown_timeout`.

A reload does the same beside what runs: everything that can fail, then the look-ups.  Only then, and in one go, is the new
configuration served.  Whatever it has in common with the old one goes on: pools and what is known of their servers, sockets,
and all clients that are connected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pylb.announce import announce, announce_reload
from pylb.background import Background
from pylb.balance.colleagues import Colleagues
from pylb.balance.pool import Pool, make_pool
from pylb.balance.sticky import LearnedSessions
from pylb.capacity import Capacity, capacity, descriptor_limit
from pylb.check.findings import Finding, Findings
from pylb.check.monitor import Monitor
from pylb.config import from_dict
from pylb.fortunes import Fortunes
from pylb.fronts import Encryption, Fronts, Plan
from pylb.model import Address, Config, PoolSpec
from pylb.pools import Pools
from pylb.ports import Ports
from pylb.proxy.accesslog import AccessLog, NullLog, open_access_log
from pylb.proxy.connections import Connections
from pylb.proxy.dns.follow import Found
from pylb.proxy.listen import Bound, bind, close, restore, without
from pylb.proxy.resolve import NOTHING, Name
from pylb.proxy.streams import streams
from pylb.reloads import ReloadBroke, Reloads, check_reloadable

__all__ = ["Inherited", "LoadBalancer"]

Checks: TypeAlias = Monitor | Findings


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a worker was given by its supervisor, which has announced it."""

    sockets: list[Bound]
    #: The descriptor of the access log, unless that is standard output.
    log: int | None
    #: The other workers.
    colleagues: Colleagues | None = None
    #: What the supervisor's health checks have found so far.
    found: tuple[Finding, ...] = ()
    #: What it has found names to stand for.
    names: Mapping[Name, Found] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Following:
    """What a reload has made, to take the place of what there is."""

    config: Config
    room: Capacity
    encryption: Encryption
    pools: Pools[Any]
    access_log: AccessLog | NullLog
    sockets: list[Bound]


class LoadBalancer(Service):
    """Serves a configuration, under twistd or as the child of any service of yours.

    `reactor` None is the installed one; `clock` reads monotonic seconds.  It is one process: a configuration with several
    workers is for those that have `inherited`.  Raises OSError, ValueError, `OpenSSL.SSL.Error` or
    `pylb.proxy.listen.BindError` when it cannot have what the configuration asks for; nothing is left open then.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any = None,
        clock: Callable[[], float] = time.monotonic,
        inherited: Inherited | None = None,
    ) -> None:
        if config.workers != 1 and inherited is None:
            raise ValueError(f"workers is {config.workers}: only twistd pylb starts several, here it must be 1")
        self.config = config
        self.reactor = _installed_reactor() if reactor is None else reactor
        self.capacity = capacity(config, descriptor_limit())
        self._streams = streams(self.reactor, self.capacity.pipes)
        self.clock = clock
        #: Fires with None once clients are accepted, fails if they cannot be.
        self.ready: Deferred[None] = Deferred()
        self._inherited = inherited
        self._background = Background(self.reactor)
        self._fortunes = Fortunes(orders=inherited is None)
        self._pools = self._make_pools(config, self.capacity)
        self._connections = Connections(self.capacity.connections)
        self._access_log = open_access_log(
            config.access_log, self.reactor, clock, fd=inherited.log if inherited else None
        )
        self._reloads = Reloads(self._reload)
        #: Whether the last reload gave addresses up, whose ports close in the next turn.
        self._has_let_go = False
        try:
            plan = self._plan(Encryption(config, clock))
            self._fronts = Fronts(plan, self._connections, self.reactor, self._streams, clock)
            self._bound = list(inherited.sockets) if inherited else bind(config.listeners.values())
        except Exception:
            self._access_log.close()
            raise
        self._ports = Ports(self._fronts, self._connections, self._streams)

    @classmethod
    def from_dict(cls, data: Mapping[str, object], reactor: Any = None) -> LoadBalancer:
        """A load balancer from a mapping with the keys of the configuration file; raises also `pylb.config.ConfigError`."""
        return cls(from_dict(data), reactor)

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools by their names."""
        return self._pools.by_name

    @property
    def sessions(self) -> dict[str, LearnedSessions]:
        """What the pools that learn sessions have learned, by their names."""
        return {name: pool.sticky for name, pool in self.pools.items() if isinstance(pool.sticky, LearnedSessions)}

    @property
    def checks(self) -> Checks:
        """What health checks find: our own, or the supervisor's."""
        return self._pools.checks

    def addresses(self, listener: str) -> list[Address]:
        """Where `listener` listens, until it is stopped; a port that was given as 0 is the one that the kernel chose."""
        return [bound.where for bound in self._bound if bound.listener.name == listener]

    def startService(self) -> None:
        super().startService()
        prepared = gatherResults([self._pools.look_up(), self._background.start()], consumeErrors=True)
        prepared.addCallback(self._serve).addErrback(self._cannot_serve)

    def reload(self, config: Config) -> Deferred[None]:
        """Serve `config` in the place of the present one; fires when that is so.

        Fails as making a load balancer does, with ValueError for what only a restart can change, or with CancelledError
        because the service stops: then nothing has changed.  With ReloadBroke because a method of somebody's own could
        be made once, and then not again: then only a restart helps.  One that is not started begins when it is.
        """
        return self._reloads.add(config)

    def stopService(self) -> Deferred[None]:
        """Accept no more, let what runs finish for `shutdown_timeout`; fires when nothing is left."""
        super().stopService()
        deadline = self.reactor.callLater(self.config.shutdown_timeout, self.abort)
        self._connections.drain()
        return self.retire().addCallback(_cancel, deadline)

    def retire(self) -> Deferred[None]:
        """Accept no more, and let clients finish, however long it takes; fires when nothing is left."""
        self._reloads.end()
        self._pools.stop()
        self._background.stop()
        ends = [*self._ports.stop(), self._connections.retire(), *self._fronts.stop()]
        self.close()
        return DeferredList(ends).addCallback(self._retired)

    def abort(self) -> None:
        """Close whatever still runs."""
        self._connections.abort()
        self._fronts.abort()

    def close(self) -> None:
        """Give the sockets back; for a load balancer that was made and is not going to be started."""
        close(self._bound)
        self._bound.clear()

    def serve(self, sockets: Iterable[Bound]) -> None:
        """Accept clients on these sockets, too, while running.  They stay the caller's to close."""
        if self.running:
            self._ports.serve(sockets)

    def leave(self, sockets: Iterable[Bound]) -> None:
        """Accept no more clients on these sockets; those that came stay, and datagrams are still answered."""
        self._ports.leave(sockets)

    def drop(self, sockets: Iterable[Bound]) -> None:
        """Accept no more clients on these sockets, and answer no more datagrams."""
        self._ports.drop(sockets)

    def reopen_log(self) -> None:
        """Go on in a new access log of the same path: the old one was moved away."""
        self._access_log.reopen()

    # What is made of a configuration.

    def _make_pools(self, config: Config, room: Capacity, before: Pools[Any] | None = None) -> Pools[Any]:
        return Pools(
            config.pools.values(),
            config.resolver,
            self._make_pool,
            partial(self._make_checks, room.checks),
            self.reactor,
            self.clock,
            before,
            self._inherited.names if self._inherited else NOTHING,
        )

    def _make_pool(self, spec: PoolSpec) -> Pool:
        colleagues = self._inherited.colleagues if self._inherited else None
        return make_pool(spec, self.clock, self._fortunes, self._background, colleagues)

    def _make_checks(self, most: int, pools: Mapping[str, Pool]) -> Checks:
        if self._inherited:
            return Findings(pools, self._inherited.found)
        return Monitor(pools.values(), self.reactor, self._streams, self.clock, most)

    def _plan(self, encryption: Encryption) -> Plan:
        return Plan(self.config, self.pools, self.capacity, encryption, self._access_log)

    # The start.

    def _cannot_serve(self, failure: Failure) -> None:
        self.ready.errback(failure.value.subFailure if isinstance(failure.value, FirstError) else failure)

    def _serve(self, _: object) -> None:
        self._pools.begin()
        self.serve(self._bound)
        if not self._inherited:
            announce(self.config, self._bound, self.capacity)
        self._reloads.begin()
        self.ready.callback(None)

    # A reload.

    async def _reload(self, config: Config) -> None:
        check_reloadable(self.config, config)
        if self._has_let_go:
            await deferLater(self.reactor, 0)
        with ExitStack() as undo:
            following = self._prepare(config, undo)
            await following.pools.look_up()
            await self._background.idle()
            undo.pop_all()
        try:
            self._become(following)
        except Exception as error:
            raise ReloadBroke from error

    def _prepare(self, config: Config, undo: ExitStack) -> _Following:
        """Whatever can fail."""
        room = capacity(config, descriptor_limit())
        encryption = Encryption(config, self.clock)
        pools = self._make_pools(config, room, self._pools)
        undo.callback(pools.stop)
        access_log = self._access_log
        if config.access_log != self.config.access_log:
            access_log = open_access_log(config.access_log, self.reactor, self.clock)
            undo.callback(access_log.close)
        sockets = bind(config.listeners.values(), self._bound)
        undo.callback(restore, self._bound)
        undo.callback(lambda: close(without(sockets, self._bound)))
        undo.callback(self._ports.forget)
        self._ports.prepare(sockets)
        return _Following(config, room, encryption, pools, access_log, sockets)

    def _become(self, following: _Following) -> None:
        """Nobody notices who is not concerned.  Nothing fails here, but for methods of somebody's own."""
        before, room, log = self.config, self.capacity, self._access_log
        following.pools.begin()
        self.config, self.capacity, self._pools = following.config, following.room, following.pools
        self._access_log = following.access_log
        self._connections.limit = self.capacity.connections
        self._fronts.use(self._plan(following.encryption))
        if log is not self._access_log:
            log.close()
            self._access_log.reopen()  # It may have been moved away meanwhile.
        fresh = self._exchange_sockets(following.sockets)
        announce_reload(before, self.config, fresh, self.capacity if self.capacity != room else None)

    def _exchange_sockets(self, sockets: list[Bound]) -> list[Bound]:
        """Let clients in on these, and on no others; those that are new."""
        gone, fresh = without(self._bound, sockets), without(sockets, self._bound)
        self._bound, self._has_let_go = sockets, bool(gone)
        self._ports.drop(gone)
        close(gone)
        self._ports.serve(sockets)
        self._ports.forget()
        return fresh

    def _retired(self, _: object) -> None:
        self._fronts.close()
        self._access_log.close()


def _cancel(_: object, call: IDelayedCall) -> None:
    if call.active():
        call.cancel()


def _installed_reactor() -> Any:
    from twisted.internet import reactor

    return reactor
