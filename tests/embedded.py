"""A program of somebody's own with a load balancer in it; test_service runs it under several reactors.

Its argument is the name of the reactor.  It prints what three clients heard, and then that all is over.
"""

from __future__ import annotations

import sys

from twisted.application.reactors import installReactor
from twisted.application.service import Application, IServiceCollection
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

reactor = installReactor(sys.argv[1])

from twisted.internet.defer import Deferred, ensureDeferred  # noqa: E402
from twisted.web.client import Agent  # noqa: E402
from twisted.web.server import Site  # noqa: E402
from twisted.web.static import Data  # noqa: E402

from pylb.service import LoadBalancer  # noqa: E402
from tests.functional.rig import free_port  # noqa: E402


class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class DatagramEcho(DatagramProtocol):
    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)


class Asker(Protocol):
    def __init__(self):
        self.heard = Deferred()

    def dataReceived(self, data):
        self.heard.callback(data.decode())
        self.transport.loseConnection()


class DatagramAsker(DatagramProtocol):
    def __init__(self):
        self.heard = Deferred()

    def datagramReceived(self, datagram, addr):
        self.heard.callback(datagram.decode())


class Page(Data):
    isLeaf = True


def configuration():
    backends = {
        "tcp": reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1"),
        "udp": reactor.listenUDP(0, DatagramEcho(), interface="127.0.0.1"),
        "http": reactor.listenTCP(0, Site(Page(b"page", "text/plain")), interface="127.0.0.1"),
    }
    return {
        "pools": {name: {"servers": [f"127.0.0.1:{port.getHost().port}"]} for name, port in backends.items()},
        "listeners": {
            name: {"protocol": name, "listen": f"127.0.0.1:{free_port()}", "pool": name} for name in backends
        },
    }


async def ask(balancer):
    await balancer.ready
    where = balancer.addresses("tcp")[0]
    asker = await connectProtocol(TCP4ClientEndpoint(reactor, where.host, where.port), Asker())
    asker.transport.write(b"hello")
    print(f"tcp:{await asker.heard}")
    where = balancer.addresses("udp")[0]
    asker = DatagramAsker()
    reactor.listenUDP(0, asker, interface="127.0.0.1")
    asker.transport.write(b"hello", (where.host, where.port))
    print(f"udp:{await asker.heard}")
    where = balancer.addresses("http")[0]
    answer = await Agent(reactor).request(b"GET", f"http://{where}/".encode())
    print(f"http:{answer.code}")


async def main(services):
    try:
        await ask(balancer)
        await services.stopService()
        print("stopped")
    finally:
        reactor.stop()


application = Application("somebody's own")
services = IServiceCollection(application)
balancer = LoadBalancer.from_dict(configuration(), reactor)
balancer.setServiceParent(services)
reactor.callWhenRunning(services.startService)
reactor.callWhenRunning(lambda: ensureDeferred(main(services)).addErrback(lambda failure: failure.printTraceback()))
reactor.run()
