"""How many clients are connected, and which are to be told when pylb stops?"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.connections import Connections, peer_of, set_options


class Client:
    """A connection that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def drain(self) -> None:
        self.told.append("drain")

    def abort(self) -> None:
        self.told.append("abort")


class ConnectionsTests(SynchronousTestCase):
    def full(self, limit: int, live: int) -> tuple[Connections, list[Client], list[bool]]:
        """Connections under a limit, of which some live already, and what is heard of the limit from now on."""
        connections = Connections(limit)
        clients = [Client() for _ in range(live)]
        for client in clients:
            connections.add(client)
        heard: list[bool] = []
        connections.full_changed = heard.append
        return connections, clients, heard

    def test_counted(self) -> None:
        """Every connection counts until it is removed, once."""
        connections, (first, *_), _ = self.full(0, 3)
        connections.remove(first)
        connections.remove(first)
        self.assertEqual(len(connections), 2)

    def test_limit(self) -> None:
        """At the limit it is full, below again it is not; both are told once."""
        connections, _, heard = self.full(2, 1)
        last = Client()
        connections.add(last)
        self.assertEqual(heard, [True])
        connections.remove(last)
        self.assertEqual(heard, [True, False])

    def test_beyond_the_limit(self) -> None:
        """Whoever was accepted in the same moment stays; there is room only below the limit."""
        connections, clients, heard = self.full(2, 4)
        for client in clients:
            connections.remove(client)
        self.assertEqual(heard, [False])

    def test_no_limit(self) -> None:
        """A limit of 0 is none."""
        connections, (client,), heard = self.full(0, 1)
        connections.remove(client)
        connections.add(client)
        self.assertEqual(heard, [])

    def test_drain(self) -> None:
        """Draining tells every connection and is over when the last one is gone."""
        connections, clients, _ = self.full(0, 2)
        done = connections.drain()
        self.assertEqual([client.told for client in clients], [["drain"], ["drain"]])
        connections.remove(clients[0])
        self.assertNoResult(done)
        connections.remove(clients[1])
        self.successResultOf(done)

    def test_drain_when_empty(self) -> None:
        """With nobody connected there is nothing to wait for."""
        self.successResultOf(Connections().drain())

    def test_newcomers_are_drained(self) -> None:
        """Whoever comes while pylb stops is told, too, and waited for."""
        connections, (old,), _ = self.full(0, 1)
        done = connections.drain()
        new = Client()
        connections.add(new)
        connections.remove(old)
        self.assertEqual(new.told, ["drain"])
        self.assertNoResult(done)
        connections.remove(new)
        self.successResultOf(done)

    def test_drained_twice(self) -> None:
        """Asking twice is the same drain."""
        connections, (client,), _ = self.full(0, 1)
        first, second = connections.drain(), connections.drain()
        connections.remove(client)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_retire(self) -> None:
        """Nobody is told, but whoever asks hears that there is no time for more; it is over when the last one is gone."""
        connections, (client,), _ = self.full(0, 1)
        done = connections.retire()
        self.assertEqual((client.told, connections.draining), ([], True))
        self.assertNoResult(done)
        connections.remove(client)
        self.successResultOf(done)
        self.successResultOf(connections.retire())

    def test_drained_while_it_retires(self) -> None:
        """Then they are told, and both are over with the last one."""
        connections, (client,), _ = self.full(0, 1)
        done = [connections.retire(), connections.drain(), connections.retire()]
        self.assertEqual(client.told, ["drain"])
        connections.remove(client)
        for each in done:
            self.successResultOf(each)

    def test_abort(self) -> None:
        """Aborting closes every connection at once."""
        connections, clients, _ = self.full(0, 2)
        connections.abort()
        self.assertEqual([client.told for client in clients], [["abort"], ["abort"]])


class Options(StringTransport):
    """A transport of some address that notes the socket options it is given."""

    def __init__(self, peer) -> None:
        super().__init__(peerAddress=peer)
        self.given: list[tuple[str, bool]] = []

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.given.append(("nodelay", enabled))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.given.append(("keepalive", enabled))


class TransportTests(SynchronousTestCase):
    def test_peer(self) -> None:
        """A peer has an address and a port, if it has."""
        peers = [IPv4Address("TCP", "192.0.2.1", 5), IPv6Address("TCP", "::1", 6), UNIXAddress(b"/run/x")]
        self.assertEqual(
            [peer_of(StringTransport(peerAddress=peer)) for peer in peers],
            [("192.0.2.1", 5), ("::1", 6), ("unix:", None)],
        )

    def test_options(self) -> None:
        """Only what is asked for is set, and only over TCP."""
        inet, six, unix = IPv4Address("TCP", "192.0.2.1", 5), IPv6Address("TCP", "::1", 6), UNIXAddress(b"/run/x")
        for peer, asked, given in [
            (inet, {"nodelay": True, "keepalive": True}, [("nodelay", True), ("keepalive", True)]),
            (inet, {"nodelay": False, "keepalive": False}, []),
            (six, {"nodelay": True, "keepalive": False}, [("nodelay", True)]),
            (unix, {"nodelay": True, "keepalive": True}, []),
        ]:
            transport = Options(peer)
            set_options(transport, **asked)
            self.assertEqual(transport.given, given)

    def test_inherited_options(self) -> None:
        """What has them already is not given them."""
        transport = Options(IPv4Address("TCP", "192.0.2.1", 5))
        transport.inherits = True
        set_options(transport, nodelay=True, keepalive=True)
        self.assertEqual(transport.given, [])

    def test_options_of_no_socket(self) -> None:
        """A transport that has no such options is left alone."""
        set_options(StringTransport(), nodelay=True, keepalive=True)
