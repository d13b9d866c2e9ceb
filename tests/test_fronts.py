"""pylb.fronts: what each listener gets; how it serves is told by tests/test_service.py."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import make_pool
from pylb.capacity import capacity
from pylb.fronts import Fronts
from pylb.model import (
    Config,
    HttpListener,
    InetAddress,
    Keepalive,
    Listener,
    PoolSpec,
    Route,
    ServerSpec,
    TcpListener,
    UdpListener,
    UpstreamTLS,
)
from pylb.proxy.accesslog import NullLog
from pylb.proxy.connections import Connections
from pylb.proxy.http.factory import HttpFactory
from pylb.proxy.tcp import TcpFactory
from pylb.proxy.udp import UdpProxy


class FrontsTests(SynchronousTestCase):
    def fronts(self, *listeners: Listener, **asked: object) -> Fronts:
        servers = (ServerSpec(address=InetAddress("10.0.0.1", 80)),)
        specs = {name: PoolSpec(name=name, servers=servers, **asked) for name in ("p", "q")}
        config = Config(pools=specs, listeners={listener.name: listener for listener in listeners})
        clock = Clock()
        pools = {name: make_pool(spec, clock.seconds) for name, spec in specs.items()}
        room = capacity(config, 1000)
        return Fronts(config, pools, room, Connections(), NullLog(), clock, clock, clock.seconds)

    def test_each_protocol(self) -> None:
        """Streams have a factory, datagrams a proxy with as many sessions as there is room for."""
        listen = (InetAddress("127.0.0.1", 0),)
        fronts = self.fronts(
            TcpListener(name="t", listen=listen, pool="p"),
            HttpListener(name="h", listen=listen, routes=(Route(pool="p", path="/"), Route(pool="q", path="/q"))),
            UdpListener(name="u", listen=listen, pool="q", max_sessions=7),
        )
        kinds = {name: type(front) for name, front in {**fronts.factories, **fronts.proxies}.items()}
        self.assertEqual(kinds, {"t": TcpFactory, "h": HttpFactory, "u": UdpProxy})
        self.assertEqual((fronts.proxies["u"].max_sessions, fronts.proxies["u"].pool.name), (7, "q"))

    def test_limits(self) -> None:
        """What a listener allows those who look for a server."""
        asked = {"connect_timeout": 1.0, "next_upstream_tries": 2, "next_upstream_timeout": 3.0}
        for retries, reasons in ((True, {"error", "timeout"}), (False, set())):
            listener = TcpListener(name="t", listen=(), pool="p", next_upstream=retries, tcp_nodelay=False, **asked)
            limits = self.fronts(listener).factories["t"].upstream.limits
            self.assertEqual((limits.connect_timeout, limits.tries, limits.timeout), (1.0, 2, 3.0))
            self.assertEqual((limits.next_upstream, limits.tcp_nodelay), (reasons, False))

    def test_what_is_shared(self) -> None:
        """Listeners that use one pool have one TLS towards its servers."""
        two = [TcpListener(name=name, listen=(), pool="p") for name in "ab"]
        fronts = self.fronts(*two, tls=UpstreamTLS(verify=False), keepalive=Keepalive(connections=3))
        one, other = (fronts.factories[name].upstream for name in "ab")
        self.assertIsNotNone(one.tls)
        self.assertIs(one.tls, other.tls)
        self.assertIs(one.pool, other.pool)
