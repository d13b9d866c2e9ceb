"""What serves the clients of each listener?

A factory of protocols where they come over streams, a proxy of datagrams where they do not.  All share the pools, the
connections that are counted, and what is kept for a pool: idle connections and TLS towards its servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.interfaces import IProtocolFactory

from pylb.balance.pool import Pool
from pylb.capacity import Capacity
from pylb.model import Config, HttpListener, TcpListener, UdpListener
from pylb.proxy.accesslog import AccessLog, NullLog
from pylb.proxy.connections import Connections
from pylb.proxy.http.factory import HttpFactory
from pylb.proxy.http.forwarded import TrustedProxies
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.tcp import TcpFactory
from pylb.proxy.tls import ClientTLS, ServerTLS
from pylb.proxy.udp import UdpProxy
from pylb.proxy.upstream import Limits, Upstream

__all__ = ["Fronts"]


class Fronts:
    """For each listener of a configuration what serves its clients, by its name.

    `streams` makes connections to servers (see `pylb.proxy.streams.streams`), `clock` reads monotonic seconds.  Raises
    OSError, ValueError or `OpenSSL.SSL.Error` when certificates and keys cannot be used.
    """

    def __init__(
        self,
        config: Config,
        pools: Mapping[str, Pool],
        room: Capacity,
        connections: Connections,
        access_log: AccessLog | NullLog,
        reactor: Any,
        streams: Any,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._pools = pools
        self._room = room
        self._connections = connections
        self._access_log = access_log
        self._reactor = reactor
        self._streams = streams
        self._clock = clock
        self._idle = {name: self._idle_connections(name, most) for name, most in room.idle.items()}
        self._client_tls = {name: ClientTLS(spec.tls, clock) for name, spec in config.pools.items() if spec.tls}
        listeners = config.listeners.values()
        self.proxies = {spec.name: self._udp_proxy(spec) for spec in listeners if isinstance(spec, UdpListener)}
        self.factories = {spec.name: self._factory(spec) for spec in listeners if not isinstance(spec, UdpListener)}

    def close(self) -> None:
        """Close what is kept for clients to come."""
        for idle in self._idle.values():
            idle.close()

    def _idle_connections(self, pool: str, most: int) -> IdleConnections:
        keepalive = replace(self._config.pools[pool].keepalive, connections=most)
        return IdleConnections(keepalive, self._reactor, self._clock)

    def _udp_proxy(self, spec: UdpListener) -> UdpProxy:
        room = self._room.sessions[spec.name]
        return UdpProxy(spec, self._pools[spec.pool], self._streams, self._clock, self._access_log, room)

    def _factory(self, spec: TcpListener | HttpListener) -> IProtocolFactory:
        factory = self._tcp_factory(spec) if isinstance(spec, TcpListener) else self._http_factory(spec)
        return factory if spec.tls is None else ServerTLS(spec.tls).over(factory, self._reactor)

    def _tcp_factory(self, spec: TcpListener) -> TcpFactory:
        upstream = self._upstream(spec, spec.pool, frozenset({"error", "timeout"} if spec.next_upstream else ()))
        return TcpFactory(spec, upstream, self._reactor, self._clock, self._connections, self._access_log)

    def _http_factory(self, spec: HttpListener) -> HttpFactory:
        upstreams = {route.pool: self._upstream(spec, route.pool, spec.next_upstream) for route in spec.routes}
        return HttpFactory(
            spec,
            upstreams,
            self._idle,
            self._reactor,
            self._clock,
            self._connections,
            self._access_log,
            TrustedProxies(self._config.trusted_proxies),
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
        return Upstream(self._streams, self._pools[pool], limits, self._clock, self._client_tls.get(pool))
