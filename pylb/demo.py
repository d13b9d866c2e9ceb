"""What is there to balance when somebody only wants to look?

One small server on each address of the pools, in the same process: HTTP pages that say who answers, and TCP and UDP echoes
that put the server's name before what they send back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TextIO

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory, ITransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from pylb.model import Address, Config, HttpListener, InetAddress, Listener, ServerSpec, UdpListener, UnixAddress
from pylb.proxy.front_port import MAX_DATAGRAM
from pylb.proxy.listen import Bound, bind, listen_stream
from pylb.service import LoadBalancer
from pylb.workers.supervisor import Supervisor

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

    transport: ITransport

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
    transport: IUDPTransport

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(self._name + b": " + datagram, addr)


class Demo(Service):
    """The servers of a load balancer's pools, and a few words about what to try.

    Raises `pylb.proxy.listen.BindError` when a server cannot have its address.
    """

    def __init__(self, balancer: LoadBalancer | Supervisor, out: TextIO | None = None) -> None:
        self._balancer = balancer
        # twistd has put its log in the place of sys.stdout.
        self._out = out or sys.__stdout__
        self._bound = bind(_servers(balancer.config))
        self._ports: list[Any] = []
        balancer.ready.addCallback(self._greet)

    def startService(self) -> None:
        super().startService()
        self._ports = [self._listen(bound) for bound in self._bound]

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        stopped = DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        for bound in self._bound:
            bound.close()
        return stopped

    def _listen(self, bound: Bound) -> Any:
        reactor = self._balancer.reactor
        server = bound.listener
        if isinstance(server, UdpListener):
            sock = bound.socket
            return reactor.adoptDatagramPort(sock.fileno(), sock.family, DatagramEcho(server.name), MAX_DATAGRAM)
        return listen_stream(reactor, bound, bound.socket.dup(), _factory(server))

    def _greet(self, _: None) -> None:
        lines = ["", "pylb serves:"]
        attempts = ["try:"]
        for name, listener in self._balancer.config.listeners.items():
            for address in self._balancer.addresses(name):
                where, attempt = _invite(listener, address)
                lines.append(f"  {where}  ({name})")
                attempts.append(f"  {attempt}")
        print("\n".join([*lines, *attempts, "Ctrl-C ends all of it.", ""]), file=self._out, flush=True)


def _servers(config: Config) -> Iterable[Listener]:
    """Each server of the pools, once for streams and once for datagrams, as something that listens where it should be."""
    servers: dict[tuple[bool, Address], Listener] = {}
    for listener in config.listeners.values():
        pools = [route.pool for route in listener.routes] if isinstance(listener, HttpListener) else [listener.pool]
        for spec in (spec for pool in pools for spec in config.pools[pool].servers):
            servers.setdefault((isinstance(listener, UdpListener), spec.address), _server(listener, spec))
    return servers.values()


def _server(listener: Listener, spec: ServerSpec) -> Listener:
    name = f"{'backup' if spec.backup else 'server'} {spec.address}"
    return replace(listener, name=name, listen=(spec.address,), reuseport=False, origin="")


def _factory(server: Listener) -> IProtocolFactory:
    if isinstance(server, HttpListener):
        factory: Any = Site(Page(server.name))
    else:
        factory = Factory.forProtocol(lambda: Echo(server.name))
    factory.noisy = False
    return factory


def _invite(listener: Listener, address: Address) -> tuple[str, str]:
    """Where a listener is, and a line to try it with."""
    if isinstance(address, UnixAddress):
        http, nc = f"curl --unix-socket {address.path} http://localhost/", f"nc -w 1 -U {address.path}"
    else:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
        http, nc = f"curl http://{InetAddress(host, address.port)}/", f"nc -w 1 {host} {address.port}"
    if isinstance(listener, HttpListener):
        return http.split()[-1], http
    if isinstance(listener, UdpListener):
        return f"udp {address}", f"echo hello | {nc.replace('nc', 'nc -u')}"
    return f"tcp {address}", f"echo hello | {nc}"
