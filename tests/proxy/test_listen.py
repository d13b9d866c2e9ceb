"""pylb.proxy.listen: real sockets, on ports that the kernel chooses."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import sys
from itertools import chain
from select import select

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pylb.model import HttpListener, InetAddress, TcpListener, UdpListener, UnixAddress
from pylb.proxy.listen import BindError, Bound, bind, bind_rows, listen_stream
from tests.backends import socket_path
from tests.functional.rig import free_port


def tcp(*addresses, name="web", **more):
    return TcpListener(name=name, listen=addresses, pool="p", **more)


def udp(*addresses, name="time", **more):
    return UdpListener(name=name, listen=addresses, pool="p", **more)


class BindTests(SynchronousTestCase):
    def bind(self, *listeners) -> list[Bound]:
        bound = bind(listeners)
        for each in bound:
            self.addCleanup(each.close)
        return bound

    def error(self, *listeners) -> str:
        return str(self.assertRaises(BindError, bind, listeners))

    def taken(self, kind=socket.SOCK_STREAM) -> int:
        sock = socket.socket(socket.AF_INET, kind)
        self.addCleanup(sock.close)
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        return sock.getsockname()[1]

    def test_where(self):
        """A port given as 0 is told as the one that the kernel chose."""
        v4, v6 = self.bind(tcp(InetAddress("127.0.0.1", 0), InetAddress("::1", 0)))
        self.assertEqual(v4.where, InetAddress("127.0.0.1", v4.socket.getsockname()[1]))
        self.assertEqual(v6.where, InetAddress("::1", v6.socket.getsockname()[1]))
        self.assertNotIn(0, (v4.where.port, v6.where.port))

    def test_both_families_on_one_port(self):
        """All of IPv4 and all of IPv6 stand side by side on one port, for streams and for datagrams."""
        (first,) = self.bind(tcp(InetAddress("0.0.0.0", 0)))
        port = first.where.port
        self.bind(tcp(InetAddress("::", port)))
        self.bind(udp(InetAddress("0.0.0.0", port), InetAddress("::", port)))

    def test_in_use(self):
        """The text names the line, the listener and its address, and says what to do."""
        port = self.taken()
        self.assertEqual(
            self.error(tcp(InetAddress("127.0.0.1", port), origin="etc/lb.yaml:12:3")),
            f"etc/lb.yaml:12:3: listeners.web: cannot listen on tcp 127.0.0.1:{port}: Address already in use; "
            "another program (or another pylb) uses it: stop that one or choose another port",
        )

    def test_datagrams_in_use(self):
        port = self.taken(socket.SOCK_DGRAM)
        text = f"listeners.time: cannot listen on udp 127.0.0.1:{port}: Address already in use"
        self.assertIn(text, self.error(udp(InetAddress("127.0.0.1", port))))

    def test_all_or_none(self):
        """Every address that cannot be had is named, and nothing is left open."""
        first, second = self.taken(), self.taken()
        path = socket_path(self)
        error = self.error(
            tcp(UnixAddress(str(path))),
            tcp(InetAddress("127.0.0.1", first), name="a"),
            tcp(InetAddress("127.0.0.1", second), name="b"),
        )
        self.assertEqual([line.split(":")[0] for line in error.splitlines()], ["listeners.a", "listeners.b"])
        self.assertFalse(path.exists())

    def test_rights(self):
        """A port below 1024 without the right to it."""

        class Strict(socket.socket):
            def bind(self, address):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        self.patch(socket, "socket", Strict)
        self.assertEqual(
            self.error(tcp(InetAddress("127.0.0.1", 80))),
            "listeners.web: cannot listen on tcp 127.0.0.1:80: Permission denied; "
            "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        )

    def test_foreign_address(self):
        self.assertIn("no interface of this machine has that address", self.error(tcp(InetAddress("192.0.2.1", 8080))))

    def test_restart(self):
        """A port whose last connections are not quite forgotten can be bound again; one of datagrams needs no such thing."""
        (stream,) = self.bind(tcp(InetAddress("127.0.0.1", 0)))
        (datagram,) = self.bind(udp(InetAddress("127.0.0.1", 0)))
        reuse = [bound.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) for bound in (stream, datagram)]
        self.assertEqual(reuse, [1, 0])

    def test_backlog(self):
        """The kernel's queue is as long as the listener says."""
        for asked, expected in (({}, 511), ({"backlog": 7}, 7)):
            (bound,) = self.bind(tcp(InetAddress("127.0.0.1", 0), **asked))
            # struct tcp_info: for a socket that listens, tcpi_sacked is the length of its queue.
            length = int.from_bytes(
                bound.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)[28:], sys.byteorder
            )
            self.assertEqual(length, expected)

    if not sys.platform.startswith("linux"):
        test_backlog.skip = "only Linux tells"

    def test_inherited_options(self):
        """Clients' sockets have the options that the listener asks for from the one that listens."""
        for listener, expected in (
            (tcp(InetAddress("127.0.0.1", 0)), (True, False)),
            (tcp(InetAddress("::1", 0), tcp_nodelay=False, so_keepalive=True), (False, True)),
            (
                HttpListener(name="site", listen=(InetAddress("127.0.0.1", 0),), routes=(), so_keepalive=True),
                (True, True),
            ),
        ):
            (bound,) = self.bind(listener)
            sock = bound.socket
            nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            keepalive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            self.assertEqual((bool(nodelay), bool(keepalive)), expected)

    def test_reuseport(self):
        """Several processes may share a port if the listener says so, and not otherwise."""
        for make in (tcp, udp):
            (bound,) = self.bind(make(InetAddress("127.0.0.1", 0), reuseport=True))
            self.bind(make(bound.where, reuseport=True))
            self.assertIn("Address already in use", self.error(make(bound.where)))


class RowTests(SynchronousTestCase):
    def rows(self, *listeners, rows=3) -> list[list[Bound]]:
        made = bind_rows(listeners, rows)
        for bound in chain(*made):
            self.addCleanup(bound.close)
        return made

    def test_shared_out(self):
        """Each worker has a socket of its own, and the kernel shares the clients out among them."""
        for listener in (tcp, udp):
            where = InetAddress("127.0.0.1", free_port())
            rows = self.rows(listener(where))
            self.assertEqual([[bound.where for bound in row] for row in rows], [[where]] * 3)
            clients = [socket.socket(type=rows[0][0].socket.type) for _ in range(60)]
            for client in clients:
                self.addCleanup(client.close)
                client.connect((where.host, where.port))
                client.send(b"x")
            self.assertTrue(all(select([row[0].socket], [], [], 0)[0] for row in rows))

    def test_in_use(self):
        """Another program is noticed, also one that would share; unless the listener is one that shares with anybody."""
        for kind, listener in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
            with socket.socket(type=kind) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                other.bind(("127.0.0.1", 0))
                if kind == socket.SOCK_STREAM:
                    other.listen()
                where = InetAddress("127.0.0.1", other.getsockname()[1])
                with self.assertRaises(BindError):
                    bind_rows([listener(where)], 2)
                self.rows(listener(where, reuseport=True))

    def test_unix(self):
        """One socket for all, whose file goes with the first."""
        path = socket_path(self)
        [[first], [second]] = self.rows(tcp(UnixAddress(str(path))), rows=2)
        self.assertIs(first.socket, second.socket)
        second.close()
        self.assertTrue(path.is_socket())
        first.close()
        self.assertFalse(path.exists())

    def test_all_or_none(self):
        """When descriptors run out nothing is left open."""
        path = socket_path(self)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        listeners = [tcp(UnixAddress(str(path))), tcp(InetAddress("127.0.0.1", free_port()), name="b")]
        open_now = len(os.listdir("/proc/self/fd"))
        limit = max(map(int, os.listdir("/proc/self/fd"))) + 4
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
        with self.assertRaises(BindError):
            bind_rows(listeners, limit)
        self.assertEqual(len(os.listdir("/proc/self/fd")), open_now)
        self.assertFalse(path.exists())


class UnixTests(SynchronousTestCase):
    def setUp(self):
        self.path = socket_path(self)
        self.listener = tcp(UnixAddress(str(self.path)))

    def error(self) -> str:
        return str(self.assertRaises(BindError, bind, [self.listener]))

    def test_mode(self):
        for mode in (0o600, 0o666):
            (bound,) = bind([tcp(UnixAddress(str(self.path)), mode=mode)])
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), mode)
            bound.close()

    def test_backlog(self):
        """The queue of a Unix socket is as long as the listener says, and one more, as the kernel has it."""
        (bound,) = bind([tcp(UnixAddress(str(self.path)), backlog=2)])
        self.addCleanup(bound.close)
        for waits in (True, True, True, False):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            self.assertEqual(client.connect_ex(str(self.path)), 0 if waits else errno.EAGAIN)

    def test_close_removes_the_file(self):
        (bound,) = bind([self.listener])
        self.assertTrue(self.path.is_socket())
        bound.close()
        self.assertFalse(self.path.exists())
        bound.close()

    def test_close_without_rights(self):
        """Whoever may not remove the file any more leaves it: the next start replaces it."""

        def refuse(path):
            raise PermissionError(errno.EACCES, "")

        (bound,) = bind([self.listener])
        with self.patch(os, "unlink", refuse):
            bound.close()
        self.assertEqual(bound.socket.fileno(), -1)

    def test_stale(self):
        """A socket that nobody serves any more is replaced."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))
        (bound,) = bind([self.listener])
        self.addCleanup(bound.close)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))

    def test_served(self):
        """A socket that somebody serves is left alone, also when its queue is full."""
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self.path))
            server.listen(0)
            for _ in range(2):  # the first attempt fills the queue
                self.assertIn(f"cannot listen on unix:{self.path}: Address already in use", self.error())
        self.assertTrue(self.path.is_socket())

    def test_cannot_be_served(self):
        """If a socket is made but cannot be used, its file does not stay behind."""

        class Deaf(socket.socket):
            def listen(self, backlog):
                raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

        def refuse(path, mode):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        for where, name, broken in ((socket, "socket", Deaf), (os, "chmod", refuse)):
            self.listener = tcp(UnixAddress(str(self.path)), mode=0o600)
            with self.patch(where, name, broken):
                self.assertIn(f"cannot listen on unix:{self.path}: ", self.error())
            self.assertFalse(self.path.exists())

    def test_other_file(self):
        self.path.write_text("precious")
        self.assertIn("a file that is not a socket is there", self.error())
        self.assertEqual(self.path.read_text(), "precious")

    def test_no_folder(self):
        self.listener = tcp(UnixAddress(str(self.path / "deeper")))
        self.assertIn("the folder of the socket does not exist", self.error())

    def test_too_long(self):
        self.listener = tcp(UnixAddress("/tmp/" + "x" * 120))
        self.assertIn("AF_UNIX path too long", self.error())


class Greeter(Protocol):
    """Counts the clients of its factory and greets each."""

    def connectionMade(self):
        self.factory.clients += 1
        self.transport.write(b"hello")
        self.transport.loseConnection()


class Listener(Protocol):
    def __init__(self):
        self.heard = b""
        self.closed = Deferred()

    def dataReceived(self, data):
        self.heard += data

    def connectionLost(self, reason):
        self.closed.callback(self.heard)


class StreamTests(TestCase):
    timeout = 20

    def listen(self, address, room=None):
        (bound,) = bind([tcp(address)])
        self.addCleanup(bound.close)
        self.factory = Factory.forProtocol(Greeter)
        self.factory.clients = 0
        port = listen_stream(reactor, bound, bound.socket.dup(), self.factory, *([room] if room else []))
        self.addCleanup(port.stopListening)
        return bound, port

    @inlineCallbacks
    def heard(self, endpoint):
        protocol = yield connectProtocol(endpoint, Listener())
        return (yield protocol.closed)

    @inlineCallbacks
    def test_clients_are_served(self):
        """Over IPv4, IPv6 and Unix sockets."""
        for address in (InetAddress("127.0.0.1", 0), InetAddress("::1", 0), UnixAddress(str(socket_path(self)))):
            bound, _ = self.listen(address)
            where = bound.where
            if isinstance(where, UnixAddress):
                endpoint = UNIXClientEndpoint(reactor, where.path)
            else:
                kind = TCP6ClientEndpoint if ":" in where.host else TCP4ClientEndpoint
                endpoint = kind(reactor, where.host, where.port)
            self.assertEqual((yield self.heard(endpoint)), b"hello")

    @inlineCallbacks
    def test_the_socket_stays_the_callers(self):
        """Clients that come after a port has stopped wait for the next one on the same socket."""
        bound, port = self.listen(InetAddress("127.0.0.1", 0))
        yield port.stopListening()
        greeting = self.heard(TCP4ClientEndpoint(reactor, "127.0.0.1", bound.where.port))
        port = listen_stream(reactor, bound, bound.socket.dup(), self.factory)
        self.addCleanup(port.stopListening)
        self.assertEqual((yield greeting), b"hello")

    @inlineCallbacks
    def test_unix_file_is_the_sockets(self):
        """Its mode stays as it is while the port lives, and the file stays when the port has stopped."""
        path = socket_path(self)
        (bound,) = bind([tcp(UnixAddress(str(path)), mode=0o640)])
        self.addCleanup(bound.close)
        # Privileges are shed by then: the file may be somebody else's.
        self.patch(os, "chmod", lambda path, mode: self.fail("not allowed"))
        port = listen_stream(reactor, bound, bound.socket.dup(), Factory.forProtocol(Greeter))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)
        yield port.stopListening()
        self.assertTrue(path.is_socket())

    @inlineCallbacks
    def test_room(self):
        """However many clients wait, no more are accepted than there is room for."""
        bound, port = self.listen(InetAddress("127.0.0.1", 0), lambda: 3 - self.factory.clients)
        port.stopReading()
        where = TCP4ClientEndpoint(reactor, "127.0.0.1", bound.where.port)
        clients = yield gatherResults([connectProtocol(where, Listener()) for _ in range(5)])
        port.doRead()
        self.assertEqual(self.factory.clients, 3)
        self.factory.clients = 0
        port.startReading()
        yield gatherResults([client.closed for client in clients])
        self.assertEqual(self.factory.clients, 2)
