"""How do the parts become a load balancer?

`LoadBalancer` is an ordinary Twisted service.  Making one takes everything that can fail (certificates, sockets, the access
log), so that a mistake stops it before anything has started; starting it looks the host names up, makes what
takes long (the rings of large pools) and then accepts; stopping it lets what runs finish for `shutdown_timeout`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pylb import __version__
from pylb.background import Background
from pylb.balance.colleagues import Colleagues
from pylb.balance.pool import Pool, make_pool
from pylb.balance.sticky import LearnedSessions
from pylb.capacity import Capacity, capacity, descriptor_limit, shortfalls
from pylb.check.findings import Finding, Findings
from pylb.check.monitor import Monitor
from pylb.config import from_dict
from pylb.fortunes import Fortunes
from pylb.fronts import Fronts
from pylb.model import Address, Config, UdpListener
from pylb.proxy.accept import StreamPort
from pylb.proxy.accesslog import open_access_log
from pylb.proxy.connections import Connections
from pylb.proxy.datagram import FrontPort
from pylb.proxy.listen import Bound, bind, listen_stream
from pylb.proxy.resolve import Names
from pylb.proxy.streams import streams
from pylb.proxy.udp import UdpProxy, listen_udp

__all__ = ["Inherited", "LoadBalancer", "announce"]

_log = Logger()


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
        self._background = Background(self.reactor)
        self.pools = self._make_pools(inherited)
        #: What the pools that learn sessions have learned, by their names.
        self.sessions = {
            name: pool.sticky for name, pool in self.pools.items() if isinstance(pool.sticky, LearnedSessions)
        }
        #: What health checks find: our own, or the supervisor's.
        self.checks = self._make_checks(inherited)
        self._names = Names(
            self.reactor, self.pools.values(), changed=self.checks.follow, resolver=config.resolver, clock=clock
        )
        self._connections = Connections(self.capacity.connections)
        self._connections.full_changed = self._pause
        #: Those that accept.
        self._ports: dict[Bound, StreamPort] = {}
        #: Those of datagrams, which answer as long as their proxy is there.
        self._datagram_ports: dict[Bound, FrontPort] = {}
        self._announces = inherited is None
        self._access_log = open_access_log(
            config.access_log, self.reactor, clock, fd=inherited.log if inherited else None
        )
        try:
            self._fronts = self._make_fronts()
            self._bound = inherited.sockets if inherited else bind(config.listeners.values())
        except Exception:
            self._access_log.close()
            raise

    @classmethod
    def from_dict(cls, data: Mapping[str, object], reactor: Any = None) -> LoadBalancer:
        """A load balancer from a mapping with the keys of the configuration file; raises also `pylb.config.ConfigError`."""
        return cls(from_dict(data), reactor)

    def addresses(self, listener: str) -> list[Address]:
        """Where `listener` listens, until it is stopped; a port that was given as 0 is the one that the kernel chose."""
        return [bound.where for bound in self._bound if bound.listener.name == listener]

    def startService(self) -> None:
        super().startService()
        prepared = gatherResults([self._names.start(), self._background.start()], consumeErrors=True)
        prepared.addCallback(self._serve).addErrback(self._cannot_serve)

    def stopService(self) -> Deferred[None]:
        """Accept no more, let what runs finish for `shutdown_timeout`; fires when nothing is left."""
        super().stopService()
        self._names.stop()
        self.checks.stop()
        self._background.stop()
        deadline = self.reactor.callLater(self.config.shutdown_timeout, self.abort)
        ports, self._ports = self._ports, {}
        ends = [maybeDeferred(port.stopListening) for port in ports.values()]
        ends.append(self._connections.drain())
        for proxy in self._fronts.proxies.values():
            proxy.stop()
            ends.append(proxy.idle())
        self.close()
        return DeferredList(ends).addCallback(self._stopped, deadline)

    def abort(self) -> None:
        """Close whatever still runs."""
        self._connections.abort()
        for proxy in self._fronts.proxies.values():
            proxy.abort()

    def close(self) -> None:
        """Give the sockets back; for a load balancer that was made and is not going to be started."""
        for bound in self._bound:
            bound.close()
        self._bound.clear()

    def serve(self, sockets: Iterable[Bound]) -> None:
        """Accept clients on these sockets, too, while running.  They stay the caller's to close."""
        if not self.running:
            return
        for bound in sockets:
            if isinstance(bound.listener, UdpListener):
                self._serve_datagrams(bound, self._fronts.proxies[bound.listener.name])
            else:
                factory = self._fronts.factories[bound.listener.name]
                self._ports[bound] = port = listen_stream(self._streams, bound, factory, self._room)
                if self._room() <= 0:
                    port.stopReading()

    def leave(self, sockets: Iterable[Bound]) -> None:
        """Accept no more clients on these sockets; those that came stay, and datagrams are still answered."""
        for bound in sockets:
            if bound in self._ports:
                self._ports.pop(bound).stopListening()
            elif bound in self._datagram_ports:
                self._datagram_ports[bound].stopReading()

    def reopen_log(self) -> None:
        """Go on in a new access log of the same path: the old one was moved away."""
        self._access_log.reopen()

    def _make_pools(self, inherited: Inherited | None) -> dict[str, Pool]:
        fortunes = Fortunes(orders=inherited is None)
        colleagues = inherited.colleagues if inherited else None
        return {
            name: make_pool(spec, self.clock, fortunes, self._background, colleagues)
            for name, spec in self.config.pools.items()
        }

    def _make_checks(self, inherited: Inherited | None) -> Monitor | Findings:
        if inherited:
            return Findings(self.pools, inherited.found)
        return Monitor(self.pools.values(), self.reactor, self._streams, self.clock, self.capacity.checks)

    def _make_fronts(self) -> Fronts:
        return Fronts(
            self.config,
            self.pools,
            self.capacity,
            self._connections,
            self._access_log,
            self.reactor,
            self._streams,
            self.clock,
        )

    def _cannot_serve(self, failure: Failure) -> None:
        self.ready.errback(failure.value.subFailure if isinstance(failure.value, FirstError) else failure)

    def _serve(self, _: object) -> None:
        self.checks.start()
        self.serve(self._bound)
        if self._announces:
            announce(self.config, self._bound, self.capacity)
        self.ready.callback(None)

    def _serve_datagrams(self, bound: Bound, proxy: UdpProxy) -> None:
        if bound in self._datagram_ports:
            self._datagram_ports[bound].startReading()
        else:
            self._datagram_ports[bound] = listen_udp(self._streams, bound.socket, proxy)

    def _room(self) -> int:
        return self._connections.limit - len(self._connections)

    def _pause(self, full: bool) -> None:
        """Clients beyond the limit wait in the kernel's queue."""
        for port in self._ports.values():
            port.stopReading() if full else port.startReading()

    def _stopped(self, _: object, deadline: IDelayedCall) -> None:
        if deadline.active():
            deadline.cancel()
        self._fronts.close()
        self._access_log.close()


def announce(config: Config, sockets: Iterable[Bound], room: Capacity) -> None:
    """Say in the log who serves where, and how many clients each worker has room for."""
    _log.info("pylb {version} serves", version=__version__)
    for bound in sockets:
        _log.info(
            "listener {name}: {protocol} on {where}",
            name=bound.listener.name,
            protocol=bound.listener.protocol,
            where=bound.where,
        )
    _log.info(
        "room for {connections} connections and {sessions} UDP sessions, with {descriptors} descriptors{each}",
        connections=room.connections,
        sessions=sum(room.sessions.values()),
        descriptors=room.descriptors,
        each=f", in each of {config.workers} workers" if config.workers > 1 else "",
    )
    for shortfall in shortfalls(config, room):
        _log.warn("too few descriptors (LimitNOFILE, ulimit -n): {shortfall}", shortfall=shortfall)


def _installed_reactor() -> Any:
    from twisted.internet import reactor

    return reactor
