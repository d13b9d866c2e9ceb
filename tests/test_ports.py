"""pylb.ports, with ports that note what they are told; real ones are in tests/test_service*.py."""

from __future__ import annotations

from errno import EMFILE
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pylb import ports
from pylb.model import InetAddress, Listener, TcpListener, UdpListener
from pylb.ports import Ports
from pylb.proxy.connections import Connections
from pylb.proxy.listen import Bound

ANY = InetAddress("127.0.0.1", 0)


class Port:
    """Reads from the beginning, until it is told otherwise; `closed` is what `stopListening` returns."""

    def __init__(self, served: object) -> None:
        self.served = served
        self.reading = True
        self.stopped = 0
        self.closed: Deferred[None] | None = None

    def hand_over(self, name: str, served: object) -> None:
        self.name, self.served = name, served

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> Deferred[None] | None:
        self.stopped += 1
        return self.closed


class Sock:
    """A socket; `spares` are its duplicates, `error` is what the system says to the next one."""

    def __init__(self) -> None:
        self.spares: list[Sock] = []
        self.closed = False
        self.error = 0

    def dup(self) -> Sock:
        if self.error:
            raise OSError(self.error, "no more descriptors")
        self.spares.append(spare := Sock())
        return spare

    def close(self) -> None:
        self.closed = True


class Proxy:
    def __init__(self) -> None:
        self.left: list[Port] = []

    def leave(self, port: Port) -> None:
        self.left.append(port)


class Client:
    def drain(self) -> None: ...

    def abort(self) -> None: ...


class PortsTests(SynchronousTestCase):
    def setUp(self) -> None:
        #: All that were ever made.
        self.made: list[Port] = []
        self.patch(ports, "listen_stream", self.listen_stream)
        self.patch(ports, "listen_udp", self.listen_udp)
        self.served: dict[str, Any] = {}
        self.connections = Connections(2)
        self.ports = Ports(self, self.connections, "streams")

    def factory(self, listener: str) -> object:
        return self.served.setdefault(listener, object())

    def proxy(self, listener: str) -> object:
        return self.served.setdefault(listener, Proxy())

    def listen_stream(self, streams: object, bound: Bound, own: Any, factory: object, room: Any) -> Port:
        self.assertEqual(streams, "streams")
        self.assertIs(own, bound.socket.spares[-1])
        self.made.append(Port(factory))
        self.room = room
        return self.made[-1]

    def listen_udp(self, streams: object, sock: object, proxy: object) -> Port:
        self.assertEqual(streams, "streams")
        self.made.append(Port(proxy))
        return self.made[-1]

    def bound(self, listener: Listener, sock: Any = None) -> Bound:
        return Bound(listener, ANY, sock or Sock())

    def tcp(self, name: str = "t", sock: Any = None) -> Bound:
        return self.bound(TcpListener(name=name, listen=(), pool="p"), sock)

    def udp(self, name: str = "u", sock: Any = None) -> Bound:
        return self.bound(UdpListener(name=name, listen=(), pool="p"), sock)

    def states(self) -> list[tuple[bool, int]]:
        """Which of those that were ever made read, and how often they were stopped."""
        return [(port.reading, port.stopped) for port in self.made]

    def full(self) -> list[Client]:
        clients = [Client(), Client()]
        for client in clients:
            self.connections.add(client)
        return clients

    def test_serve(self) -> None:
        """Each has what serves its listener."""
        self.ports.serve([self.tcp(), self.udp(), self.tcp("other")])
        self.assertEqual([port.served for port in self.made], [self.served[name] for name in ("t", "u", "other")])
        self.assertEqual(self.states(), [(True, 0)] * 3)

    def test_prepared(self) -> None:
        """What was prepared is served without another descriptor, and only once; what nobody needed is closed."""
        bounds = present, stream, datagrams = self.tcp(), self.tcp(), self.udp()
        self.ports.serve([present])
        self.ports.prepare(bounds)
        for bound in bounds:
            bound.socket.error = EMFILE
        self.ports.serve([present, stream])
        self.assertEqual([len(bound.socket.spares) for bound in bounds], [1, 1, 1])
        self.ports.forget()
        self.assertEqual([bound.socket.spares[0].closed for bound in bounds], [False, False, True])
        with self.assertRaises(OSError):
            self.ports.serve([datagrams])

    def test_not_prepared(self) -> None:
        """Without descriptors it is said before anything is served."""
        bounds = self.tcp(), self.tcp()
        bounds[1].socket.error = EMFILE
        with self.assertRaises(OSError):
            self.ports.prepare(bounds)
        self.ports.forget()
        self.assertEqual((self.made, bounds[0].socket.spares[0].closed), ([], True))

    def test_room(self) -> None:
        """As many as the limit allows now."""
        self.ports.serve([self.tcp()])
        self.connections.add(Client())
        self.assertEqual(self.room(), 1)
        self.connections.limit = 5
        self.assertEqual(self.room(), 4)

    def test_full(self) -> None:
        """Clients of streams wait as long as there is no room, those of datagrams do not."""
        self.ports.serve([self.tcp(), self.udp()])
        clients = self.full()
        self.ports.serve([self.tcp("late")])
        self.assertEqual([port.reading for port in self.made], [False, True, False])
        self.connections.remove(clients[0])
        self.assertEqual([port.reading for port in self.made], [True] * 3)

    def test_other_limit(self) -> None:
        """Where there is room now that there was not, or the other way round, it is so when all are served anew."""
        bound = self.tcp()
        self.ports.serve([bound])
        self.full()
        for limit in (3, 2):
            self.connections.limit = limit
            self.ports.serve([bound])
            self.assertEqual([port.reading for port in self.made], [limit == 3])

    def test_serve_again(self) -> None:
        """A socket has one port, for who has it now; that of datagrams stays if its proxy does."""
        first = self.tcp(), self.udp()
        self.ports.serve(first)
        self.ports.serve([self.tcp("other", first[0].socket), self.udp("u", first[1].socket)])
        self.assertEqual(self.states(), [(True, 0), (True, 0)])
        self.assertEqual((self.made[0].served, self.made[0].name), (self.served["other"], "other"))
        self.ports.serve([self.udp("other u", first[1].socket)])
        self.assertIs(self.made[2].served, self.served["other u"])
        self.assertEqual((self.served["u"].left, len(self.made)), ([self.made[1]], 3))

    def test_leave(self) -> None:
        """Streams have no port any more, datagrams are still answered; both come back."""
        bounds = self.tcp(), self.udp()
        self.ports.serve(bounds)
        self.ports.leave(bounds)
        self.assertEqual(self.states(), [(True, 1), (False, 0)])
        self.ports.leave(bounds)
        self.assertEqual(self.states(), [(True, 1), (False, 0)])
        self.ports.serve(bounds)
        self.assertEqual(self.states(), [(True, 1), (True, 0), (True, 0)])

    def test_left_while_full(self) -> None:
        """Room does not bring back what was left."""
        bounds = self.tcp(), self.tcp()
        self.ports.serve(bounds)
        self.ports.leave(bounds[:1])
        clients = self.full()
        self.made[0].stopReading()
        self.connections.remove(clients[0])
        self.assertEqual([port.reading for port in self.made], [False, True])

    def test_drop(self) -> None:
        """Streams have no port any more, that of datagrams is left to its proxy; once, and also after it was left."""
        bounds = self.tcp(), self.udp(), self.tcp()
        self.ports.serve(bounds)
        self.ports.leave(bounds[1:2])
        for _ in range(2):
            self.ports.drop(bounds[:2])
        self.assertEqual([port.stopped for port in self.made], [1, 0, 0])
        self.assertEqual(self.served["u"].left, [self.made[1]])
        self.ports.serve(bounds[1:2])
        self.assertEqual(len(self.made), 4)

    def test_unknown(self) -> None:
        """What was never served is neither left nor dropped."""
        self.ports.leave([self.tcp(), self.udp()])
        self.ports.drop([self.tcp(), self.udp()])
        self.assertEqual((self.made, self.served), ([], {}))

    def test_stop(self) -> None:
        """Each port of streams closes, now or later; those of datagrams are their proxies' to close."""
        self.ports.serve([self.tcp(), self.tcp(), self.udp()])
        self.made[0].closed = Deferred()
        one, two = self.ports.stop()
        self.assertNoResult(one)
        self.successResultOf(two)
        self.made[0].closed.callback(None)
        self.successResultOf(one)
        self.assertEqual([port.stopped for port in self.made], [1, 1, 0])
        self.assertEqual(self.ports.stop(), [])
