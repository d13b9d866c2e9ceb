"""pylb.service: another configuration in the place of the present one, over real sockets, in the test's own reactor."""

from __future__ import annotations

import errno
import os
import resource
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs, formatEvent

import pylb.pools
from pylb.model import (
    AccessLog,
    Balance,
    Config,
    HttpListener,
    InetAddress,
    PoolSpec,
    Queue,
    Route,
    ServerSpec,
    UnixAddress,
    UpstreamTLS,
)
from pylb.proxy.listen import BindError
from pylb.proxy.resolve import Names
from pylb.reloads import ReloadBroke
from pylb.service import LoadBalancer
from tests.backends import Backend, Peer, dead_address, round_trips, socket_path, until
from tests.functional.rig import free_port
from tests.served import ANY, Echo, Served, tcp, udp

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


def http(pool: str = "p", **more) -> HttpListener:
    return HttpListener(**{"name": "web", "listen": (ANY,), "routes": (Route(pool=pool, path="/"),), **more})


class Reloaded(Served):
    def site(self, name: bytes) -> InetAddress:
        """A server of HTTP that keeps connections and says its name; how many came is in `connections`."""

        def answer(peer: Peer, data: bytes) -> None:
            for _ in range(data.count(b"\r\n\r\n")):
                peer.transport.write(OK % (len(name), name))

        self.server = Backend(answer)
        return self.listening(self.server)

    def silent(self) -> tuple[InetAddress, list[Peer]]:
        """A server that never answers, and who has asked it."""
        waiting: list[Peer] = []
        return self.listening(Backend(lambda peer, data: data and waiting.append(peer))), waiting

    async def asking(self, server: InetAddress, waiting: list[Peer]) -> tuple[LoadBalancer, Peer]:
        """A load balancer whose client waits for the answer of that server."""
        balancer = self.running(self.pool(server), http())
        client = await self.client(balancer, "web")
        client.transport.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: waiting)
        return balancer, client

    def telling(self, name: bytes) -> InetAddress:
        """A server of TCP that says its name to whoever speaks."""
        return self.listening(Backend(lambda peer, data: data and peer.transport.write(name)))

    def datagrams(self, name: bytes) -> InetAddress:
        server = Echo()
        server.datagramReceived = lambda datagram, where: server.transport.write(name, where)
        port = reactor.listenUDP(0, server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return InetAddress("127.0.0.1", port.getHost().port)

    def pool(self, *servers: InetAddress, name: str = "p", **more) -> PoolSpec:
        return PoolSpec(name=name, servers=tuple(ServerSpec(address=where) for where in servers), **more)

    def config(self, *parts, **more) -> Config:
        """A configuration of these pools and listeners."""
        pools = {part.name: part for part in parts if isinstance(part, PoolSpec)}
        listeners = {part.name: part for part in parts if not isinstance(part, PoolSpec)}
        return Config(pools=pools, listeners=listeners, **more)

    def running(self, *parts, **more) -> LoadBalancer:
        balancer = self.start(LoadBalancer(self.config(*parts, **more)))
        self.successResultOf(balancer.ready)
        return balancer

    def reload(self, balancer: LoadBalancer, *parts, **more) -> None:
        self.successResultOf(balancer.reload(self.config(*parts, **more)))

    async def says(self, client: Peer, what: bytes, answer: bytes) -> None:
        client.heard.clear()
        client.transport.write(what)
        await until(lambda: client.heard.endswith(answer) or client.lost)
        self.assertTrue(client.heard.endswith(answer), (client.heard, answer))

    async def comes_and_goes(self, balancer: LoadBalancer) -> None:
        """A client is served, and gone."""
        client = await self.client(balancer)
        await self.says(client, b"?", b"one")
        client.transport.loseConnection()
        await until(lambda: client.lost and not any(pool.active for pool in balancer.pools.values()))
        await round_trips()

    async def asks(self, client: Peer, name: bytes) -> None:
        await self.says(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n" + name)


class ClientTests(Reloaded):
    """Those who are connected stay, and have what is asked for now."""

    async def test_http(self):
        """A kept connection has its next request answered by the new pool."""
        one, two = self.site(b"one"), self.site(b"two")
        listener = http()
        balancer = self.running(self.pool(one), listener)
        client = await self.client(balancer, "web")
        await self.asks(client, b"one")
        self.reload(balancer, self.pool(two), listener)
        await self.asks(client, b"two")
        other = self.pool(one, name="q")
        self.reload(balancer, self.pool(two), other, http("q"))
        await self.asks(client, b"one")

    async def test_http_under_way(self):
        """A request that is under way ends where it began, even if its pool and its listener are no more."""
        slow, waiting = self.silent()
        balancer, client = await self.asking(slow, waiting)
        self.reload(balancer, self.pool(self.site(b"other"), name="q"), http("q", name="web2"))
        waiting[0].transport.write(OK % (4, b"late"))
        await until(lambda: client.heard.endswith(b"late"))
        self.assertEqual(len(waiting), 1)

    async def test_http_listener_gone(self):
        """Who is connected to a listener that is no more has one more answer, and is told that it is the last."""
        where = self.site(b"one")
        balancer = self.running(self.pool(where), http(), tcp())
        client = await self.client(balancer, "web")
        await self.asks(client, b"one")
        self.reload(balancer, self.pool(where), tcp())
        await self.asks(client, b"one")
        self.assertIn(b"Connection: close", client.heard)
        await until(lambda: client.lost)

    async def test_answer_under_way(self):
        """Who was told that the connection stays, by a listener that is no more, does not keep it for ever."""
        slow, waiting = self.silent()
        balancer, client = await self.asking(slow, waiting)
        waiting[0].transport.write((OK % (4, b"late"))[:-2])
        await until(lambda: client.heard.endswith(b"la"))
        self.reload(balancer, self.pool(slow), tcp())
        waiting[0].transport.write(b"te")
        await until(lambda: client.lost)
        self.assertTrue(client.clean)
        self.assertTrue(client.heard.endswith(b"late"))

    async def test_tcp(self):
        """A session stays with its server; who comes later has the new one."""
        one, two = self.telling(b"one"), self.telling(b"two")
        balancer = self.running(self.pool(one), tcp())
        early = await self.client(balancer)
        await self.says(early, b"?", b"one")
        self.reload(balancer, self.pool(two), tcp())
        await self.says(early, b"?", b"one")
        await self.says(await self.client(balancer), b"?", b"two")

    async def test_udp(self):
        """A session stays with its server; who comes later has the new one."""
        one, two = self.datagrams(b"one"), self.datagrams(b"two")
        balancer = self.running(self.pool(one), udp())
        early = self.asker(balancer)
        early.ask(b"?")
        await until(lambda: early.heard == [b"one"])
        self.reload(balancer, self.pool(two), udp(timeout=5.0))
        early.ask(b"?")
        await until(lambda: early.heard == [b"one"] * 2)
        late = self.asker(balancer)
        late.ask(b"?")
        await until(lambda: late.heard == [b"two"])

    async def test_udp_limits(self):
        """Sessions that are too many now end, the oldest first; counts of datagrams concern those that are there, too."""
        balancer = self.running(self.pool(self.datagrams(b"one")), udp())
        askers = [self.asker(balancer) for _ in range(3)]
        for asker in askers:
            asker.ask(b"?")
            await until(lambda asker=asker: asker.heard)
        [server] = balancer.pools["p"].servers
        self.assertEqual(server.active, 3)
        pool = balancer.config.pools["p"]
        self.reload(balancer, pool, udp(max_sessions=2))
        self.assertEqual(server.active, 2)
        self.reload(balancer, pool, udp(responses=1, requests=1))
        askers[2].ask(b"?")
        await until(lambda: len(askers[2].heard) == 2 and server.active == 1)

    async def test_waiting(self):
        """Who waits in a queue has the server that is new; if the queue is no more, there is nobody."""
        full = replace(ServerSpec(address=self.telling(b"one")), max_conns=1)
        pool = PoolSpec(name="p", servers=(full,), queue=Queue(size=2))
        balancer = self.running(pool, tcp())
        first, second = await self.client(balancer), await self.client(balancer)
        await self.says(first, b"?", b"one")
        second.transport.write(b"?")
        await until(lambda: len(balancer.pools["p"].queue) == 1)
        more = replace(pool, servers=(full, ServerSpec(address=self.telling(b"two"))))
        self.reload(balancer, more, tcp())
        await second.hears(b"two")
        self.reload(balancer, pool, tcp())
        third = await self.client(balancer)
        await until(lambda: len(balancer.pools["p"].queue) == 1)
        self.reload(balancer, replace(pool, queue=None), tcp())
        await until(lambda: third.lost)
        self.reload(balancer, pool, tcp())
        fourth = await self.client(balancer)
        await until(lambda: len(balancer.pools["p"].queue) == 1)
        self.reload(balancer, replace(pool, name="q"), tcp(pool="q"))
        await until(lambda: fourth.lost)
        await self.says(first, b"?", b"one")


class ListenerTests(Reloaded):
    async def test_added_and_removed(self):
        """Who was not asked for is let in where he is now, and refused where he was."""
        where = self.telling(b"one")
        balancer = self.running(self.pool(where), tcp(name="old"), udp(name="dns"))
        [old], [dns] = balancer.addresses("old"), balancer.addresses("dns")
        self.reload(balancer, self.pool(where), tcp(name="new"))
        self.assertEqual((balancer.addresses("old"), balancer.addresses("dns")), ([], []))
        await self.says(await self.client(balancer, "new"), b"?", b"one")
        for factory, place in ((tcp, old), (udp, dns)):
            again = LoadBalancer(self.config(self.pool(where), factory(listen=(place,))))
            again.close()

    async def test_addresses_stay(self):
        """An address that is asked for again is never let go; one that is not asked for any more is, its clients stay."""
        where = self.telling(b"one")
        path = UnixAddress(str(socket_path(self)))
        balancer = self.running(self.pool(where), tcp(listen=(ANY, path)), udp())
        kept = [balancer.addresses("tcp")[0], *balancer.addresses("udp")]
        clients = [await self.client(balancer), await self.client(balancer, index=1)]
        for client in clients:
            await self.says(client, b"?", b"one")
        self.reload(balancer, self.pool(where), tcp(backlog=7), udp())
        self.assertEqual([*balancer.addresses("tcp"), *balancer.addresses("udp")], kept)
        self.assertFalse(os.path.exists(path.path))
        for client in [*clients, await self.client(balancer)]:
            await self.says(client, b"?", b"one")

    async def test_back_again(self):
        """An address that was let go can be asked for at once."""
        where = self.telling(b"one")
        places = [InetAddress("127.0.0.1", free_port()) for _ in range(2)]
        balancer = self.running(self.pool(where), tcp(listen=places[:1]))
        reloads = [
            balancer.reload(self.config(self.pool(where), tcp(listen=(places[number % 2],)))) for number in range(1, 5)
        ]
        for each in reloads:
            await each
        self.assertEqual(balancer.addresses("tcp"), places[:1])
        await self.says(await self.client(balancer), b"?", b"one")

    async def test_no_descriptors(self):
        """Without any for the addresses that are new it is refused, whole, and can be done later."""
        where = self.telling(b"one")
        balancer = self.running(self.pool(where), tcp())
        config = self.config(self.pool(where), tcp(), tcp(name="more", listen=(ANY,) * 8), udp(listen=(ANY,) * 8))
        free = len(os.listdir("/dev/fd"))  # one of them was for looking
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        refused = set()
        for more in range(1, 80, 3):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
            try:
                await balancer.reload(config)
            except (BindError, OSError) as error:
                self.assertIn("Too many open files", str(error))
                self.assertEqual(len(balancer._bound), 1)
                refused.add(type(error))
            else:
                break
        self.assertEqual((refused, len(balancer._bound)), ({BindError, OSError}, 17))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await self.says(await self.client(balancer, "more", index=7), b"?", b"one")

    async def test_other_name(self):
        """A socket goes to the listener that asks for its address now, of whatever protocol."""
        place = socket_path(self)
        one, two = self.telling(b"one"), self.site(b"two")
        path = UnixAddress(str(place))
        balancer = self.running(self.pool(one), tcp(listen=(path,)))
        inode = place.stat().st_ino
        early = await self.client(balancer)
        await self.says(early, b"?", b"one")
        self.reload(balancer, self.pool(two), http(listen=(path,), mode=0o600))
        self.assertEqual((place.stat().st_ino, place.stat().st_mode & 0o777), (inode, 0o600))
        await self.asks(await self.client(balancer, "web"), b"two")
        await self.says(early, b"?", b"one")

    async def test_other_name_of_datagrams(self):
        """The sessions of the old listener are over, those of the new one are elsewhere."""
        one, two = self.datagrams(b"one"), self.datagrams(b"two")
        where = InetAddress("127.0.0.1", free_port())
        balancer = self.running(self.pool(one), udp(listen=(where,)))
        asker = self.asker(balancer)
        asker.ask(b"?")
        await until(lambda: asker.heard == [b"one"])
        self.reload(balancer, self.pool(two), udp(name="other", listen=(where,)))
        asker.ask(b"?")
        await until(lambda: asker.heard == [b"one", b"two"])

    async def test_address_of_datagrams_gone(self):
        """Its sessions are over, and it can be asked for again, also if it had stayed over a reload."""
        where = InetAddress("127.0.0.1", free_port())
        pool = self.pool(self.datagrams(b"one"))
        balancer = self.running(pool, udp(listen=(where, ANY)))
        asker = self.asker(balancer)
        for number in range(1, 4):
            asker.ask(b"?")
            await until(lambda number=number: len(asker.heard) == number)
            self.reload(balancer, pool, udp(listen=(where, ANY)))
            self.reload(balancer, pool, udp(listen=(ANY,)))
            self.assertEqual(balancer.pools["p"].active, 0)
            await balancer.reload(self.config(pool, udp(listen=(where, ANY))))

    async def test_addresses_of_datagrams_exchanged(self):
        """Whoever asks is answered by the pool of the listener that has the address now."""
        here, there = InetAddress("127.0.0.1", free_port()), InetAddress("127.0.0.1", free_port())
        one, two = self.pool(self.datagrams(b"one")), self.pool(self.datagrams(b"two"), name="q")
        balancer = self.running(one, two, udp(listen=(here,)), udp(name="other", pool="q", listen=(there,)))
        for _ in range(2):
            for first, second in ((there, here), (here, there)):
                self.reload(balancer, one, two, udp(listen=(first,)), udp(name="other", pool="q", listen=(second,)))
                askers = [self.asker(balancer) for _ in range(20)]
                for asker in askers:
                    asker.ask(b"?")
                await until(lambda askers=askers: all(asker.heard for asker in askers))
                self.assertEqual([asker.heard for asker in askers], [[b"one"]] * 20)

    async def test_limit(self):
        """A lower limit lets nobody in until enough have left, a higher one at once."""
        pool = self.pool(self.telling(b"one"))
        balancer = self.running(pool, tcp())
        clients = [await self.client(balancer) for _ in range(2)]
        for client in clients:
            await self.says(client, b"?", b"one")
        self.reload(balancer, pool, tcp(), max_connections=1)
        late = await self.client(balancer)
        late.transport.write(b"?")
        clients.pop().transport.loseConnection()
        await round_trips()
        self.assertEqual(late.heard, b"")
        clients.pop().transport.loseConnection()
        await late.hears(b"one")
        last = await self.client(balancer)
        last.transport.write(b"?")
        await round_trips()
        self.assertEqual(last.heard, b"")
        self.reload(balancer, pool, tcp(), max_connections=2)
        await last.hears(b"one")

    async def test_unix_file_gone(self):
        """Whose file was deleted is made anew, and the file of somebody else is left alone."""
        where = self.telling(b"one")
        path = socket_path(self)
        listener = tcp(listen=(UnixAddress(str(path)),), mode=0o600)
        balancer = self.running(self.pool(where), listener)
        path.unlink()
        self.reload(balancer, self.pool(where), listener)
        await self.says(await self.client(balancer), b"?", b"one")
        path.unlink()
        path.write_text("mine")
        with self.assertRaisesRegex(BindError, "a file that is not a socket is there"):
            await balancer.reload(self.config(self.pool(where), listener))
        await balancer.reload(self.config(self.pool(where), tcp()))
        self.assertEqual(path.read_text(), "mine")


class PoolTests(Reloaded):
    async def test_what_is_known_stays(self):
        """An ejected server stays out, with another weight, in a pool whose balancing is another."""
        dead, alive = dead_address(self), self.telling(b"one")
        spec = self.pool(dead, alive)
        balancer = self.running(spec, tcp())
        await self.says(await self.client(balancer), b"?", b"one")
        server = balancer.pools["p"].servers[0]
        self.assertEqual((server.status, server.failures), ("unavail", 1))
        specs = (replace(spec.servers[0], weight=5), spec.servers[1])
        self.reload(balancer, replace(spec, servers=specs, balance=Balance(method="least_conn")), tcp())
        self.assertIs(balancer.pools["p"].servers[0], server)
        self.assertEqual((server.status, server.failures, server.spec.weight), ("unavail", 1, 5))

    async def test_names(self):
        """A name that is new is looked up first; meanwhile the old configuration serves."""
        answered = threading.Event()
        self.addCleanup(answered.set)

        def lookup(name: str) -> list[str]:
            answered.wait()
            return ["127.0.0.1"]

        self.patch(pylb.pools, "Names", partial(Names, lookup=lookup))
        here, other = self.telling(b"here"), self.telling(b"other")
        balancer = self.running(self.pool(here), tcp())
        named = self.pool(InetAddress("server.test", other.port))
        reloaded = balancer.reload(self.config(named, tcp()))
        await self.says(await self.client(balancer), b"?", b"here")
        self.assertNoResult(reloaded)
        answered.set()
        await reloaded
        await self.says(await self.client(balancer), b"?", b"other")
        self.reload(balancer, named, tcp(connect_timeout=1.0))
        await self.says(await self.client(balancer), b"?", b"other")

    async def test_idle_connections(self):
        """They are kept for the same servers, and closed when they would be made in another way now."""
        spec, listener = self.pool(self.site(b"one")), http()
        balancer = self.running(spec, listener)
        client = await self.client(balancer, "web")
        for _ in range(2):
            await self.asks(client, b"one")
            self.reload(balancer, replace(spec, keepalive=replace(spec.keepalive, requests=10)), listener)
        [kept] = self.server.peers
        self.reload(balancer, replace(spec, tls=UpstreamTLS(verify=False)), listener)
        await until(lambda: kept.lost)

    async def test_rings(self):
        """A large ring of a new pool is there before its first client; one that changes is made beside the old one."""
        where = self.telling(b"one")
        balancer = self.running(self.pool(where), tcp())
        hashed = self.pool(where, self.telling(b"one"), name="q", balance=Balance(method="maglev", key="$remote_addr"))
        await balancer.reload(self.config(hashed, tcp(pool="q")))
        for _ in range(3):
            await self.says(await self.client(balancer), b"?", b"one")
        self.assertEqual(sorted(server.picked for server in balancer.pools["q"].servers), [0, 3])


class LogTests(Reloaded):
    async def test_other_log(self):
        """Lines go to the new file from then on, also those of clients that were there before, and of listeners gone."""
        folder = Path(self.mktemp())
        folder.mkdir()
        where = self.telling(b"one")
        first, second = (AccessLog(path=str(folder / name), format="$listener") for name in ("first", "second"))
        balancer = self.running(self.pool(where), tcp(), tcp(name="gone"), access_log=first)
        clients = [await self.client(balancer, name) for name in ("tcp", "gone")]
        for client in clients:
            await self.says(client, b"?", b"one")
        self.reload(balancer, self.pool(where), tcp(), access_log=second)
        for client in clients:
            client.transport.loseConnection()
        await until(lambda: not balancer.pools["p"].active)
        await balancer.stopService()
        texts = [(folder / name).read_text() for name in ("first", "second")]
        self.assertEqual((texts[0], sorted(texts[1].split())), ("", ["gone", "tcp"]))

    async def test_moved_away(self):
        """A log that is moved away while a reload waits for a name is left behind by the new one, too."""
        answered = threading.Event()
        self.addCleanup(answered.set)
        self.patch(pylb.pools, "Names", partial(Names, lookup=lambda name: answered.wait() and ["127.0.0.1"]))
        where, path = self.telling(b"one"), Path(self.mktemp())
        first, second = (AccessLog(path=str(path), format=f"{word} $listener") for word in ("first", "second"))
        balancer = self.running(self.pool(where), tcp(), access_log=first)
        named = self.pool(InetAddress("server.test", where.port))
        reloaded = balancer.reload(self.config(named, tcp(), access_log=second))
        away = path.rename(path.with_suffix(".1"))
        balancer.reopen_log()
        answered.set()
        await reloaded
        await self.comes_and_goes(balancer)
        await balancer.stopService()
        self.assertEqual((away.read_text(), path.read_text()), ("", "second tcp\n"))

    async def test_what_is_said(self):
        """What has changed, what is new to listen on, and nothing that is as it was."""
        pool = self.pool(self.telling(b"one"))
        balancer = self.running(pool, tcp())
        with capturedLogs() as logs:
            self.reload(balancer, pool, tcp())
            self.reload(balancer, replace(pool, max_retries=3), tcp(), udp(max_sessions=1), shutdown_timeout=1.0)
        said = [formatEvent(log) for log in logs if log["log_namespace"].startswith("pylb")]
        [where] = balancer.addresses("udp")
        self.assertEqual(
            said[:3],
            [
                "reloaded: the same keys and values; certificates are read again",
                "reloaded: pools.p changed, listeners.udp added, shutdown_timeout changed",
                f"listener udp: udp on {where}",
            ],
        )
        self.assertRegex(said[3], "^room for .* and 1 UDP sessions")
        self.assertEqual(len(said), 4)


class MistakeTests(Reloaded):
    """Whatever is wrong with the new configuration, the old one goes on as it is."""

    async def refused(self, balancer: LoadBalancer, kind: type[Exception], config: Config) -> str:
        before = balancer.config, dict(balancer.pools), balancer.addresses("tcp")
        descriptors = len(os.listdir("/dev/fd"))
        error = self.failureResultOf(balancer.reload(config), kind).value
        self.assertEqual(before, (balancer.config, dict(balancer.pools), balancer.addresses("tcp")))
        await until(lambda: len(os.listdir("/dev/fd")) == descriptors)
        await self.comes_and_goes(balancer)
        return str(error)

    async def test_mistakes(self):
        pool = self.pool(self.telling(b"one"))
        balancer = self.running(pool, tcp())
        taken = self.listening(Factory.forProtocol(Peer))
        some = replace(pool, name="q")
        for kind, config, what in (
            (BindError, self.config(some, tcp(listen=(ANY, taken), pool="q"), udp(pool="q")), f"tcp {taken}"),
            (ValueError, self.config(pool, tcp(), workers=2), "workers: a reload cannot make it 2"),
            (OSError, self.config(pool, tcp(), access_log=AccessLog(path="/nowhere/a")), "/nowhere/a"),
            (Exception, self.config(replace(pool, tls=UpstreamTLS(ca="/nowhere/ca")), tcp()), ""),
        ):
            self.assertIn(what, await self.refused(balancer, kind, config))

    async def test_method_made_once(self):
        """A method of somebody's own that cannot be made a second time leaves nothing as it was, and that is said."""

        class Mine:
            broken = False

            def __init__(self, servers):
                if Mine.broken:
                    raise ValueError("not again")

            def add(self, server): ...

            remove = choose = add

        pool = self.pool(self.telling(b"one"))
        balancer = self.running(pool, tcp())

        def breaks() -> Deferred[None]:
            Mine.broken = True
            return succeed(None)

        # What is waited for last before nothing may fail any more.
        self.patch(balancer._background, "idle", breaks)
        own = self.pool(dead_address(self), balance=Balance(method="m:Mine", own=Mine))
        self.failureResultOf(balancer.reload(self.config(own, tcp())), ReloadBroke)

    async def test_socket_stays_as_it_was(self):
        """What a reload that fails in the end has asked of a socket that stays is taken back."""
        path = socket_path(self)
        listener = tcp(listen=(UnixAddress(str(path)),), mode=0o600)
        pool = self.pool(self.telling(b"one"))
        balancer = self.running(pool, listener)

        def fail(sockets: object) -> None:
            self.assertEqual(path.stat().st_mode & 0o777, 0o666)
            raise OSError(errno.EMFILE, "no more")

        self.patch(balancer._ports, "prepare", fail)
        self.failureResultOf(balancer.reload(self.config(pool, replace(listener, mode=0o666))), OSError)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    async def test_stopped_meanwhile(self):
        """A service that stops waits for no reload, nor for one that waits for another."""
        pool = self.pool(self.telling(b"one"))
        balancer = self.running(pool, tcp())
        config = self.config(self.pool(InetAddress("localhost", 9)), tcp(), udp())
        # Those that wait could be done with at once.
        reloads = [balancer.reload(config), *(balancer.reload(self.config(pool, tcp(), udp())) for _ in range(8))]
        await balancer.stopService()
        for reload in reloads:
            self.failureResultOf(reload, CancelledError)
        await round_trips()

    async def test_too_late(self):
        """A service that lets its last clients finish listens no more, whatever it is asked."""
        pool = self.pool(self.telling(b"one"))
        balancer = self.running(pool, tcp())
        await self.says(await self.client(balancer), b"?", b"one")
        stopped = balancer.stopService()
        self.failureResultOf(balancer.reload(self.config(pool, tcp(), udp())), CancelledError)
        self.assertEqual(balancer.addresses("tcp"), [])
        self.assertNoResult(stopped)
        balancer.abort()
        await stopped

    async def test_one_after_the_other(self):
        """A reload waits for the start, and for the one before."""
        pool = self.pool(InetAddress("localhost", self.telling(b"one").port))
        balancer = LoadBalancer(self.config(pool, tcp()))
        first = balancer.reload(self.config(self.pool(InetAddress("localhost", self.telling(b"two").port)), tcp()))
        second = balancer.reload(self.config(self.pool(self.telling(b"three")), tcp()))
        self.start(balancer)
        self.assertNoResult(balancer.ready)
        await first
        await second
        await self.says(await self.client(balancer), b"?", b"three")


class LeakTests(Reloaded):
    async def test_nothing_is_left(self):
        """However often: descriptors and delayed calls are as before."""
        configs = [
            self.config(self.pool(self.telling(b"one")), tcp(), udp(), access_log=AccessLog(path=self.mktemp())),
            self.config(self.pool(self.telling(b"one"), name="q"), tcp(pool="q"), http("q"), udp(pool="q", name="u2")),
        ]
        balancer = self.running(*configs[0].pools.values(), *configs[0].listeners.values())
        counts = []
        for number in range(20):
            await balancer.reload(configs[number % 2])
            await self.comes_and_goes(balancer)
            counts.append((len(os.listdir("/dev/fd")), len(reactor.getDelayedCalls())))
        self.assertEqual(counts[18:], counts[8:10], counts)
