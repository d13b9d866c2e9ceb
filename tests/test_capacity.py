"""pylb.capacity."""

from __future__ import annotations

import resource
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from pylb.capacity import (
    MAX_PIPES,
    MAX_SESSIONS,
    OF_A_NAME,
    UNLIMITED,
    Capacity,
    capacity,
    descriptor_limit,
    raise_descriptor_limit,
    shortfalls,
)
from pylb.model import (
    Config,
    ExecCheck,
    HttpCheck,
    HttpListener,
    InetAddress,
    Keepalive,
    PoolSpec,
    Route,
    ServerSpec,
    TcpCheck,
    TcpListener,
    UdpListener,
)


def config(*udp, max_connections=0):
    """A configuration with a TCP listener, and a UDP listener for each `max_sessions` in `udp`."""
    listeners = [TcpListener(name="mysql", listen=(), pool="p")]
    for number, max_sessions in enumerate(udp):
        listeners.append(UdpListener(name=f"udp{number}", listen=(), pool="p", max_sessions=max_sessions))
    return Config(pools={}, listeners={each.name: each for each in listeners}, max_connections=max_connections)


class CapacityTests(SynchronousTestCase):
    def test_streams_alone(self):
        """Two descriptors a connection, 64 kept aside, and one in 32 for pipes."""
        self.assertEqual(capacity(config(), 1064), Capacity(1064, 484, {}, {}, 16))

    def test_datagrams_come_off_first(self):
        """One listener gets a quarter of the descriptors, several share it; a session is one."""
        self.assertEqual(capacity(config(None), 1064), Capacity(1064, 351, {"udp0": 266}, {}, 16))
        self.assertEqual(capacity(config(None, None), 1064), Capacity(1064, 351, {"udp0": 133, "udp1": 133}, {}, 16))

    def test_as_asked(self):
        self.assertEqual(
            capacity(config(100, None, max_connections=10), 1064),
            Capacity(1064, 10, {"udp0": 100, "udp1": 133}, {}, 16),
        )

    def test_no_more_than_possible(self):
        self.assertEqual(capacity(config(max_connections=1000), 1064).connections, 484)

    def test_sessions_have_a_ceiling(self):
        self.assertEqual(capacity(config(None), UNLIMITED).sessions, {"udp0": MAX_SESSIONS})

    def test_pipes_have_a_ceiling(self):
        self.assertEqual(capacity(config(), UNLIMITED).pipes, MAX_PIPES)

    def test_never_nothing(self):
        """However few the descriptors are."""
        self.assertEqual(capacity(config(None, 5000), 3), Capacity(3, 1, {"udp0": 1, "udp1": 1}, {}, 0))

    def test_datagrams_get_half_at_most(self):
        """Whatever is asked for: something is left for streams."""
        self.assertEqual(capacity(config(5000), 1064), Capacity(1064, 218, {"udp0": 532}, {}, 16))
        self.assertEqual(capacity(config(5000, 100), 1064), Capacity(1064, 301, {"udp0": 266, "udp1": 100}, {}, 16))

    def test_listening_sockets(self):
        """Two descriptors each: pylb's own and Twisted's."""
        listen = (InetAddress("127.0.0.1", 1), InetAddress("::1", 1))
        listener = TcpListener(name="a", listen=listen, pool="p")
        self.assertEqual(capacity(Config(pools={}, listeners={"a": listener}), 1064).connections, 482)

    def test_idle_connections(self):
        """The pools of HTTP keep what they are to, within a quarter of the descriptors; other pools keep none."""
        pools = {name: PoolSpec(name=name, servers=(), keepalive=Keepalive(connections=100)) for name in "abc"}
        routes = (Route(path="/", pool="a"), Route(path="/b", pool="b"), Route(path="/a", pool="a"))
        web = Config(pools=pools, listeners={"web": HttpListener(name="web", listen=(), routes=routes)})
        self.assertEqual(capacity(web, 1064), Capacity(1064, 384, {}, {"a": 100, "b": 100}, 16))
        room = capacity(web, 264)
        self.assertEqual(room, Capacity(264, 63, {}, {"a": 33, "b": 33}, 4))
        self.assertEqual(
            list(shortfalls(web, room)),
            [f"pools.{name}.keepalive.connections is 100, 33 are possible" for name in "ab"],
        )

    def checked(self, *checks, hosts=("10.0.0.1", "10.0.0.2")):
        """What a pool of such servers with such checks leaves: connections, and checks at once."""
        servers = tuple(ServerSpec(address=InetAddress(host, 80)) for host in hosts)
        pool = PoolSpec(name="p", servers=servers, health_check=checks)
        room = capacity(replace(config(), pools={"p": pool}), 1064)
        return room.connections, room.checks

    def test_checks(self):
        """Each check of each server has a socket, and one that it keeps; a program has its pipes."""
        self.assertEqual(self.checked(TcpCheck(), HttpCheck()), (484 - 4, 4))
        self.assertEqual(self.checked(ExecCheck(command=("true",))), (484 - 6, 2))

    def test_checks_get_an_eighth_at_most(self):
        """The others wait for their turn."""
        hosts = [f"10.0.0.{number}" for number in range(200)]
        self.assertEqual(self.checked(TcpCheck(), hosts=hosts), (484 - 66, 66))
        self.assertEqual(self.checked(ExecCheck(command=("true",)), hosts=hosts), (484 - 66, 22))

    def test_checks_of_workers(self):
        """Of several workers none makes checks: their connections have the descriptors."""
        pool = PoolSpec(
            name="p", servers=(ServerSpec(address=InetAddress("10.0.0.1", 80)),), health_check=(TcpCheck(),)
        )
        room = capacity(replace(config(), pools={"p": pool}, workers=2), 1064)
        self.assertEqual((room.connections, room.checks), (484, 1))

    def test_checks_of_names(self):
        """A name may come to stand for several servers."""
        self.assertEqual(self.checked(TcpCheck(), hosts=["app.example.com", "10.0.0.1"])[1], OF_A_NAME + 1)

    def test_shortfalls(self):
        """What was asked for and cannot be had is told; what was not asked for is not."""
        asked = config(5000, None, 7, max_connections=400)
        self.assertEqual(
            list(shortfalls(asked, capacity(asked, 1064))),
            ["max_connections is 400, 348 are possible", "listeners.udp0.max_sessions is 5000, 177 are possible"],
        )
        self.assertEqual(list(shortfalls(asked, capacity(asked, UNLIMITED))), [])

    def test_workers(self):
        """Each has the listening sockets of all."""
        listener = TcpListener(name="a", listen=(InetAddress("127.0.0.1", 80),) * 2, pool="p")
        rooms = [
            capacity(Config(pools={}, listeners={"a": listener}, workers=workers), 1064).connections
            for workers in (1, 4)
        ]
        self.assertEqual(rooms[0] - rooms[1], 6)


class DescriptorTests(SynchronousTestCase):
    def setUp(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.hard = limits[1]

    def test_raised(self):
        """The soft limit becomes the hard one."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, self.hard))
        self.assertEqual(descriptor_limit(), 256)
        raise_descriptor_limit()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (self.hard, self.hard))

    def test_forbidden(self):
        """Where it may not be raised, the limit stays as it is."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, self.hard))

        def forbid(which, limits):
            raise ValueError("not allowed to raise maximum limit")

        with self.patch(resource, "setrlimit", forbid):
            raise_descriptor_limit()
        self.assertEqual(descriptor_limit(), 256)

    def test_unlimited(self):
        self.patch(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.assertEqual(descriptor_limit(), UNLIMITED)
