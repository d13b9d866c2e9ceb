"""pylb.proxy.udp: a listener that is to be another one, or has other sockets."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import Pool, make_pool
from pylb.model import InetAddress, PoolSpec, ServerSpec
from pylb.proxy.udp import Front
from tests.proxy.udp_fakes import World


class Reloaded(SynchronousTestCase):
    def world(self, **arguments) -> World:
        return World(self.patch, **arguments)

    def use(self, world: World, pool: Pool | None = None, max_sessions: int = 100, **spec) -> None:
        world.proxy.use(replace(world.proxy.spec, **spec), pool or world.pool, max_sessions)

    def clients(self, world: World) -> list[int]:
        """The clients whose sessions are over, in order."""
        return [record.remote_port for record in world.records]


class UseTests(Reloaded):
    def test_pool(self) -> None:
        """Sessions keep their servers; who comes now has one of the new pool."""
        world = self.world()
        world.ask(1)
        server = ServerSpec(address=InetAddress("10.0.1.1", 53))
        other = make_pool(PoolSpec(name="other", servers=(server,)), world.clock.seconds)
        self.use(world, other)
        world.ask(1)
        world.ask(2)
        self.assertEqual(
            [(sock.address.host, len(sock.sent)) for sock in world.sockets], [("10.0.0.1", 2), ("10.0.1.1", 1)]
        )
        world.proxy.abort()
        self.assertEqual([record.pool for record in world.records], ["dns", "other"])
        self.assertEqual([each.servers[0].active for each in (world.pool, other)], [0, 0])

    def test_numbers(self) -> None:
        """Numbers of datagrams end sessions that there are from the next datagram on, or do not any more."""
        world = self.world()
        world.ask(1)
        self.use(world, responses=1)
        world.answer()
        self.assertEqual(self.clients(world), [1])
        world.ask(2)
        self.use(world, responses=None)
        world.answer()
        self.assertEqual((self.clients(world), world.proxy.active), ([1], 1))

    def test_fewer_sessions(self) -> None:
        """The least recently used give way at once, and count as evicted; as many may be there as is asked now."""
        world = self.world()
        for client in (1, 2, 3, 1):
            world.ask(client)
        self.use(world, max_sessions=1)
        self.assertEqual((self.clients(world), world.proxy.evicted, world.leases), ([2, 3], 2, 1))
        world.ask(4)
        self.assertEqual((self.clients(world), world.proxy.active), ([2, 3, 1], 1))
        self.use(world, max_sessions=2)
        world.ask(5)
        self.assertEqual((len(world.records), world.proxy.active), (3, 2))

    def test_shorter_timeout(self) -> None:
        """It counts from the last datagram of each session: those that are over it end now, the others in time."""
        world = self.world(timeout=100.0)
        for client in (1, 2):
            world.ask(client)
            world.clock.advance(6)
        self.use(world, timeout=10.0)
        world.clock.advance(0)
        self.assertEqual(self.clients(world), [1])
        world.clock.advance(3.9)
        self.assertEqual(self.clients(world), [1])
        world.clock.advance(0.1)
        self.assertEqual((self.clients(world), world.proxy.active), ([1, 2], 0))

    def test_longer_timeout(self) -> None:
        """Sessions that there are may last longer, too; one timer serves all."""
        world = self.world(timeout=10.0)
        world.ask()
        self.use(world, timeout=20.0)
        self.assertEqual(len(world.clock.getDelayedCalls()), 1)
        world.clock.advance(19.9)
        self.assertEqual(world.proxy.active, 1)
        world.clock.advance(0.1)
        self.assertEqual(world.proxy.active, 0)

    def test_nobody_there(self) -> None:
        """Without sessions nothing waits for a time."""
        world = self.world()
        self.use(world, timeout=1.0)
        self.assertEqual(world.clock.getDelayedCalls(), [])


class LeaveTests(Reloaded):
    def ask(self, front: Front, client: int) -> None:
        front.datagram_arrived(b"q", (("192.0.2.1", client), None))

    def test_leave(self) -> None:
        """The sessions that came by a port end, and it closes at once; those of other ports do not concern it."""
        world = self.world(responses=1)
        front = world.new_front()
        for client in (1, 2):
            self.ask(front, client)
        world.ask(3)
        world.proxy.leave(front.transport)
        self.assertEqual((self.clients(world), front.transport.closed), ([1, 2], 1))
        self.assertEqual((world.port.reading, world.port.closed, world.proxy.active), (True, 0, 1))
        world.answer()
        self.assertEqual(len(world.port.replies), 1)

    def test_stop_afterwards(self) -> None:
        """What was left is closed once."""
        world = self.world()
        other = world.new_front()
        world.proxy.leave(other.transport)
        world.proxy.stop()
        self.successResultOf(world.proxy.idle())
        self.assertEqual([port.closed for port in (world.port, other.transport)], [1, 1])

    def test_stopped_already(self) -> None:
        """So is a port of a proxy that stops, or has stopped, and whoever waits for that hears of it."""
        world = self.world(responses=1)
        world.ask()
        world.proxy.stop()
        for _ in range(2):
            world.proxy.leave(world.port)
            self.successResultOf(world.proxy.idle())
        self.assertEqual((world.port.closed, self.clients(world)), (1, [1]))
