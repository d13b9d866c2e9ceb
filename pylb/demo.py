"""What is there to balance when somebody only wants to look?

One small server on each address of the pools, in the same process: HTTP pages that say who answers, and TCP and UDP echoes
that put the server's name before what they send back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, TextIO

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from pylb.model import HttpListener, InetAddress, Listener, ServerSpec, UdpListener
from pylb.service import LoadBalancer

__all__ = ["Demo"]


class Page(Resource):
    """Says which server answers and what it was asked for."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return f"{self._name} answers {request.method.decode()} {request.uri.decode()}\n".encode()


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Sends back what it gets, after the name of the server."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self._name + b": " + data)

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Twisted's; it follows loseConnection."""


class DatagramEcho(DatagramProtocol):
    """Sends back each datagram, after the name of the server."""

    noisy = False

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(self._name + b": " + datagram, addr)


class Demo(Service):
    """The servers of a load balancer's pools, and a few words about what to try."""

    def __init__(self, balancer: LoadBalancer, out: TextIO | None = None) -> None:
        self._balancer = balancer
        # twistd has put its log in the place of sys.stdout.
        self._out = out or sys.__stdout__
        self._ports: list[IListeningPort] = []

    def startService(self) -> None:
        super().startService()
        for listener, server in _servers(self._balancer):
            self._start(listener, server)
        self._balancer.ready.addCallback(self._greet)

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        return DeferredList([maybeDeferred(port.stopListening) for port in self._ports])

    def _start(self, listener: Listener, server: ServerSpec) -> None:
        address = server.address
        assert isinstance(address, InetAddress)
        name = f"{'backup' if server.backup else 'server'} {address}"
        reactor = self._balancer.reactor
        try:
            if isinstance(listener, UdpListener):
                port = reactor.listenUDP(address.port, DatagramEcho(name), address.host)
            else:
                port = reactor.listenTCP(address.port, _factory(listener, name), interface=address.host)
        except CannotListenError as error:
            raise SystemExit(f"the demo's server cannot have {address}: {error.socketError}") from None
        self._ports.append(port)

    def _greet(self, _: None) -> None:
        lines = ["", "pylb serves:"]
        attempts = ["try:"]
        for name, listener in self._balancer.config.listeners.items():
            for address in self._balancer.addresses(name):
                where, attempt = _invite(listener, address)
                lines.append(f"  {where}  ({name})")
                attempts.append(f"  {attempt}")
        print("\n".join([*lines, *attempts, "Ctrl-C ends all of it.", ""]), file=self._out, flush=True)


def _servers(balancer: LoadBalancer) -> Iterator[tuple[Listener, ServerSpec]]:
    """Each server once, with a listener that uses it."""
    seen: set[tuple[bool, str]] = set()
    for listener in balancer.config.listeners.values():
        pools = [route.pool for route in listener.routes] if isinstance(listener, HttpListener) else [listener.pool]
        for server in (server for pool in pools for server in balancer.config.pools[pool].servers):
            key = (isinstance(listener, UdpListener), str(server.address))
            if key not in seen:
                seen.add(key)
                yield listener, server


def _factory(listener: Listener, name: str) -> Factory:
    if isinstance(listener, HttpListener):
        return Site(Page(name))
    factory = Factory.forProtocol(lambda: Echo(name))
    factory.noisy = False
    return factory


def _invite(listener: Listener, address: Any) -> tuple[str, str]:
    """Where a listener is, and a line to try it with."""
    where = f"{address.host} {address.port}"
    if isinstance(listener, HttpListener):
        url = f"http://{address.host}:{address.port}/"
        return url, f"curl {url}"
    if isinstance(listener, UdpListener):
        return f"udp {where}", f"echo hello | nc -u -w 1 {where}"
    return f"tcp {where}", f"echo hello | nc -N {where}"
