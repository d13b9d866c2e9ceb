"""What serves the clients of each listener?

A factory of protocols where they come over streams, a proxy of datagrams where they do not.  All share the pools, the
connections that are counted, and what is kept for a pool: idle connections and TLS towards its servers.

What serves a listener goes on serving it when the configuration is another one: its clients stay connected, and have what is
asked for now.  A listener that is not asked for any more loses its clients one by one, as they finish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory

from pylb.balance.pool import Pool
from pylb.capacity import Capacity
from pylb.model import Config, HttpListener, Listener, TcpListener, UdpListener
from pylb.proxy.accesslog import AccessLog, NullLog
from pylb.proxy.connections import Connections
from pylb.proxy.http.factory import HttpFactory
from pylb.proxy.http.forwarded import TrustedProxies
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.tcp import TcpFactory
from pylb.proxy.tls import ClientTLS, ServerTLS
from pylb.proxy.udp import UdpProxy
from pylb.proxy.upstream import Limits, Upstream

__all__ = ["Encryption", "Fronts", "Plan"]

Front: TypeAlias = HttpFactory | TcpFactory | UdpProxy


class Encryption:
    """TLS towards clients, by listener, and towards servers, by pool.

    Raises OSError, ValueError or `OpenSSL.SSL.Error` when certificates and keys cannot be used.
    """

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        self.of_pools = {name: ClientTLS(spec.tls, clock) for name, spec in config.pools.items() if spec.tls}
        self.of_listeners = {
            name: ServerTLS(spec.tls)
            for name, spec in config.listeners.items()
            if not isinstance(spec, UdpListener) and spec.tls is not None
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What clients are served with: all of it is there."""

    config: Config
    pools: Mapping[str, Pool]
    room: Capacity
    encryption: Encryption
    access_log: AccessLog | NullLog


class Fronts:
    """For each listener of a configuration what serves its clients.

    `streams` makes connections to servers (see `pylb.proxy.streams.streams`), `clock` reads monotonic seconds.
    """

    def __init__(
        self, plan: Plan, connections: Connections, reactor: Any, streams: Any, clock: Callable[[], float]
    ) -> None:
        self._connections = connections
        self._reactor = reactor
        self._streams = streams
        self._clock = clock
        self._idle: dict[str, IdleConnections] = {}
        self._fronts: dict[str, Front] = {}
        #: All that may still have something to tell.
        self._telling: WeakSet[Front] = WeakSet()
        #: Those of listeners that are no more, until their last session is over.
        self._leaving: set[UdpProxy] = set()
        self._plan = plan
        self.use(plan)

    def use(self, plan: Plan) -> None:
        """Serve as `plan` says from now on."""
        before, self._plan = self._plan, plan
        self._use_idle(before.config)
        fronts = {name: self._front(spec, self._fronts.get(name)) for name, spec in plan.config.listeners.items()}
        for name, front in self._fronts.items():
            if fronts.get(name) is not front:
                self._retire(front)
        self._fronts = fronts
        self._telling.update(fronts.values())
        for front in self._telling:
            front.access_log = plan.access_log

    def proxy(self, listener: str) -> UdpProxy:
        """What serves a listener of datagrams."""
        proxy = self._fronts[listener]
        assert isinstance(proxy, UdpProxy)
        return proxy

    def factory(self, listener: str) -> IProtocolFactory:
        """What serves a listener of streams."""
        factory: Any = self._fronts[listener]
        tls = self._plan.encryption.of_listeners.get(listener)
        return factory if tls is None else tls.over(factory, self._reactor)

    def stop(self) -> list[Deferred[None]]:
        """Read no more datagrams; each fires when nothing of a listener is left."""
        proxies = list(self._proxies())
        for proxy in proxies:
            proxy.stop()
        return [proxy.idle() for proxy in proxies]

    def abort(self) -> None:
        """End all sessions of datagrams."""
        for proxy in list(self._proxies()):
            proxy.abort()

    def close(self) -> None:
        """Close what is kept for clients to come."""
        for idle in self._idle.values():
            idle.close()

    def _proxies(self) -> Iterator[UdpProxy]:
        yield from self._leaving
        yield from (front for front in self._fronts.values() if isinstance(front, UdpProxy))

    def _use_idle(self, before: Config) -> None:
        """Keep idle connections for each pool of HTTP, but none that were made in another way."""
        pools, present = self._plan.config.pools, self._idle
        self._idle = {}
        for name, most in self._plan.room.idle.items():
            keepalive = replace(pools[name].keepalive, connections=most)
            if name in present and before.pools[name].tls == pools[name].tls:
                self._idle[name] = idle = present.pop(name)
                idle.use(keepalive)
            else:
                self._idle[name] = IdleConnections(keepalive, self._reactor, self._clock)
        for idle in present.values():
            idle.close()

    def _front(self, spec: Listener, before: Front | None) -> Front:
        if isinstance(spec, UdpListener):
            return self._udp_proxy(spec, before)
        return self._tcp_factory(spec, before) if isinstance(spec, TcpListener) else self._http_factory(spec, before)

    def _udp_proxy(self, spec: UdpListener, before: Front | None) -> UdpProxy:
        pool, room = self._plan.pools[spec.pool], self._plan.room.sessions[spec.name]
        if isinstance(before, UdpProxy):
            before.use(spec, pool, room)
            return before
        return UdpProxy(spec, pool, self._streams, self._clock, self._plan.access_log, room)

    def _tcp_factory(self, spec: TcpListener, before: Front | None) -> TcpFactory:
        upstream = self._upstream(spec, spec.pool, frozenset({"error", "timeout"} if spec.next_upstream else ()))
        if isinstance(before, TcpFactory):
            before.use(spec, upstream)
            return before
        return TcpFactory(spec, upstream, self._reactor, self._clock, self._connections, self._plan.access_log)

    def _http_factory(self, spec: HttpListener, before: Front | None) -> HttpFactory:
        upstreams = {route.pool: self._upstream(spec, route.pool, spec.next_upstream) for route in spec.routes}
        trusted = TrustedProxies(self._plan.config.trusted_proxies)
        if isinstance(before, HttpFactory):
            before.use(spec, upstreams, self._idle, trusted)
            return before
        return HttpFactory(
            spec,
            upstreams,
            self._idle,
            self._reactor,
            self._clock,
            self._connections,
            self._plan.access_log,
            trusted,
        )

    def _upstream(self, spec: TcpListener | HttpListener, pool: str, retry: frozenset[str]) -> Upstream:
        limits = Limits(
            connect_timeout=spec.connect_timeout,
            tries=spec.next_upstream_tries,
            timeout=spec.next_upstream_timeout,
            next_upstream=retry,
            tcp_nodelay=spec.tcp_nodelay,
            keepalive=spec.socket_keepalive,
        )
        plan = self._plan
        return Upstream(self._streams, plan.pools[pool], limits, self._clock, plan.encryption.of_pools.get(pool))

    def _retire(self, front: Front) -> None:
        if isinstance(front, HttpFactory):
            front.retire()
        elif isinstance(front, UdpProxy):
            self._leaving.add(front)
            front.idle().addCallback(lambda _: self._leaving.discard(front))
            front.stop()
