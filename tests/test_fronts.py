"""pylb.fronts: what each listener gets; how it serves is told by tests/test_service.py."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import make_pool
from pylb.capacity import capacity
from pylb.fronts import Encryption, Fronts, Plan
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
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.tcp import TcpFactory
from pylb.proxy.udp import UdpProxy


class Fronted(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def plan(self, *listeners: Listener, log: NullLog | None = None, **asked: object) -> Plan:
        """`asked` is of both pools."""
        servers = (ServerSpec(address=InetAddress("10.0.0.1", 80)),)
        specs = {name: PoolSpec(name=name, servers=servers, **asked) for name in ("p", "q")}
        config = Config(pools=specs, listeners={listener.name: listener for listener in listeners})
        pools = {name: make_pool(spec, self.clock.seconds) for name, spec in specs.items()}
        return Plan(config, pools, capacity(config, 1000), Encryption(config, self.clock.seconds), log or NullLog())

    def fronts(self, *listeners: Listener, **asked: object) -> Fronts:
        return Fronts(self.plan(*listeners, **asked), Connections(), self.clock, self.clock, self.clock.seconds)


class FrontsTests(Fronted):
    def test_each_protocol(self) -> None:
        """Streams have a factory, datagrams a proxy with as many sessions as there is room for."""
        listen = (InetAddress("127.0.0.1", 0),)
        fronts = self.fronts(
            TcpListener(name="t", listen=listen, pool="p"),
            HttpListener(name="h", listen=listen, routes=(Route(pool="p", path="/"), Route(pool="q", path="/q"))),
            UdpListener(name="u", listen=listen, pool="q", max_sessions=7),
        )
        kinds = [type(front) for front in (fronts.factory("t"), fronts.factory("h"), fronts.proxy("u"))]
        self.assertEqual(kinds, [TcpFactory, HttpFactory, UdpProxy])
        self.assertEqual((fronts.proxy("u").max_sessions, fronts.proxy("u").pool.name), (7, "q"))

    def test_limits(self) -> None:
        """What a listener allows those who look for a server."""
        asked = {"connect_timeout": 1.0, "next_upstream_tries": 2, "next_upstream_timeout": 3.0}
        for retries, reasons in ((True, {"error", "timeout"}), (False, set())):
            listener = TcpListener(name="t", listen=(), pool="p", next_upstream=retries, tcp_nodelay=False, **asked)
            limits = self.fronts(listener).factory("t").upstream.limits
            self.assertEqual((limits.connect_timeout, limits.tries, limits.timeout), (1.0, 2, 3.0))
            self.assertEqual((limits.next_upstream, limits.tcp_nodelay), (reasons, False))

    def test_what_is_shared(self) -> None:
        """Listeners that use one pool have one TLS towards its servers."""
        two = [TcpListener(name=name, listen=(), pool="p") for name in "ab"]
        fronts = self.fronts(*two, tls=UpstreamTLS(verify=False), keepalive=Keepalive(connections=3))
        one, other = (fronts.factory(name).upstream for name in "ab")
        self.assertIsNotNone(one.tls)
        self.assertIs(one.tls, other.tls)
        self.assertIs(one.pool, other.pool)


class Port:
    """A socket of datagrams that notes whether it is read; it closes when the test says so."""

    def __init__(self) -> None:
        self.reading = True
        self.closing: Deferred[None] | None = None

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> Deferred[None]:
        self.closing = Deferred()
        return self.closing


class Reloaded(Fronted):
    def tcp(self, name: str = "t", **more: object) -> TcpListener:
        return TcpListener(**{"name": name, "listen": (), "pool": "p", **more})

    def http(self, name: str = "h", pool: str = "p", **more: object) -> HttpListener:
        return HttpListener(name=name, listen=(), routes=(Route(pool=pool, path="/"),), **more)

    def udp(self, name: str = "u", **more: object) -> UdpListener:
        return UdpListener(**{"name": name, "listen": (), "pool": "p", **more})


class UseTests(Reloaded):
    """What serves a listener when the configuration is another one."""

    def test_stays(self) -> None:
        """The same name has the same, which serves as is asked now, with the pools of now."""
        fronts = self.fronts(self.tcp(), self.http(), self.udp())
        tcp, http, udp = fronts.factory("t"), fronts.factory("h"), fronts.proxy("u")
        asked = self.tcp(pool="q", timeout=7.0), self.http(pool="q"), self.udp(pool="q", max_sessions=7)
        fronts.use(plan := self.plan(*asked))
        self.assertEqual([fronts.factory("t"), fronts.factory("h"), fronts.proxy("u")], [tcp, http, udp])
        self.assertEqual((tcp.spec, http.spec, udp.spec), asked)
        upstream = http.ask(b"GET / HTTP/1.1\r\nHost: a\r\n").upstream.upstream
        self.assertEqual([tcp.upstream.pool, upstream.pool, udp.pool], [plan.pools["q"]] * 3)
        self.assertEqual(udp.max_sessions, 7)

    def test_other_kind(self) -> None:
        """A name that is another kind of listener now has something new, and what was there serves on as it can."""
        fronts = self.fronts(self.tcp("a"), self.http("b"))
        before = fronts.factory("a"), fronts.factory("b")
        fronts.use(self.plan(self.http("a"), self.udp("b")))
        self.assertEqual([type(fronts.factory("a")), type(fronts.proxy("b"))], [HttpFactory, UdpProxy])
        self.assertEqual((before[0].spec, before[1].spec.keepalive_timeout), (self.tcp("a"), 0.0))

    def test_came_back(self) -> None:
        """A name that was gone has something new: who is connected to the old one has one more answer, others do not."""
        fronts = self.fronts(self.http())
        before = fronts.factory("h")
        fronts.use(self.plan())
        fronts.use(self.plan(self.http()))
        after = fronts.factory("h")
        self.assertIsNot(before, after)
        self.assertEqual(before.spec.keepalive_timeout, 0.0)
        self.assertGreater(after.spec.keepalive_timeout, 0.0)

    def test_access_log(self) -> None:
        """All tell the new one, also those of listeners that are gone, as long as there are any."""
        listeners = self.tcp(), self.http(), self.udp()
        fronts = self.fronts(*listeners)
        told = [fronts.factory("t"), fronts.factory("h"), fronts.proxy("u")]
        told[2].add(Port())
        for listed in (listeners[:1], listeners[:1]):
            log = NullLog()
            fronts.use(self.plan(*listed, log=log))
            self.assertEqual([front.access_log for front in told], [log] * 3)
        gone = weakref.ref(told[1])
        del told
        gc.collect()
        self.assertIsNone(gone())

    def test_encryption(self) -> None:
        """Servers are spoken to as is asked now."""
        fronts = self.fronts(self.tcp())
        self.assertIsNone(fronts.factory("t").upstream.tls)
        fronts.use(plan := self.plan(self.tcp(), tls=UpstreamTLS(verify=False)))
        self.assertIs(fronts.factory("t").upstream.tls, plan.encryption.of_pools["p"])

    def idle(self, fronts: Fronts) -> IdleConnections:
        return fronts.factory("h").ask(b"GET / HTTP/1.1\r\nHost: a\r\n").upstream.idle

    def test_idle(self) -> None:
        """Idle connections to servers stay, as is asked now; not if they were made in another way, or nobody asks."""
        keepalive = Keepalive(connections=3)
        fronts = self.fronts(self.http(), keepalive=keepalive)
        first = self.idle(fronts)
        self.assertEqual(first.spec, keepalive)
        fronts.use(self.plan(self.http(), keepalive=Keepalive(connections=2, timeout=7.0)))
        self.assertIs(self.idle(fronts), first)
        self.assertEqual(first.spec, Keepalive(connections=2, timeout=7.0))
        closed: list[IdleConnections] = []
        self.patch(IdleConnections, "close", lambda idle: closed.append(idle))
        fronts.use(self.plan(self.http(), tls=UpstreamTLS(verify=False)))
        second = self.idle(fronts)
        self.assertIsNot(second, first)
        self.assertEqual(closed, [first])
        fronts.use(self.plan(self.tcp()))
        self.assertEqual(closed, [first, second])
        fronts.close()
        self.assertEqual(closed, [first, second])


class EndTests(Reloaded):
    """How what serves datagrams ends."""

    def busy(self, fronts: Fronts, name: str = "u") -> UdpProxy:
        """A proxy with a port, and a session that its server owes a reply."""
        proxy = fronts.proxy(name)
        proxy.add(port := Port())
        self.ports.append(port)
        proxy._sessions[Session(proxy, self.cut)] = None
        return proxy

    def setUp(self) -> None:
        super().setUp()
        self.ports: list[Port] = []
        #: The listeners whose sessions were cut.
        self.cut: list[str] = []

    def test_gone(self) -> None:
        """A listener that is gone reads no more; its sessions go on until they are over, and its ports then close."""
        fronts = self.fronts(self.udp(), self.udp("v"))
        self.busy(fronts)
        self.busy(fronts, "v")
        fronts.use(self.plan(self.udp("v")))
        self.assertEqual([port.reading for port in self.ports], [False, True])
        self.assertEqual((self.cut, [port.closing for port in self.ports]), ([], [None, None]))

    def test_stop(self) -> None:
        """All, also those of listeners that are gone, and each is waited for."""
        fronts = self.fronts(self.udp(), self.udp("v"), self.tcp())
        for name in "uv":
            self.busy(fronts, name)
        fronts.use(self.plan(self.udp("v")))
        ends = fronts.stop()
        self.assertEqual((len(ends), [port.reading for port in self.ports], self.cut), (2, [False, False], []))
        fronts.abort()
        self.assertEqual(self.cut, ["u", "v"])
        for end, port in zip(ends, self.ports, strict=True):
            self.assertNoResult(end)
            port.closing.callback(None)
            self.successResultOf(end)

    def test_forgotten(self) -> None:
        """One that has ended is not waited for any more."""
        fronts = self.fronts(self.udp())
        self.busy(fronts)
        fronts.use(self.plan())
        fronts.abort()
        self.ports[0].closing.callback(None)
        self.assertEqual(fronts.stop(), [])


class Session:
    """Waits for its server until it is cut."""

    waiting = True
    seen = 0.0

    def __init__(self, proxy: UdpProxy, cut: list[str]) -> None:
        self._proxy = proxy
        self._cut = cut

    def cut(self) -> None:
        self._cut.append(self._proxy.spec.name)
        del self._proxy._sessions[self]
        self._proxy._close()
