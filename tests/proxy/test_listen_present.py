"""pylb.proxy.listen: sockets that are there already, and asked for anew."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import sys
from collections.abc import Iterable
from itertools import chain

from twisted.trial.unittest import SynchronousTestCase

from pylb.model import HttpListener, InetAddress, Listener, TcpListener, UdpListener, UnixAddress
from pylb.proxy.listen import BindError, Bound, bind, bind_rows, close, restore, without
from tests.backends import socket_path
from tests.functional.rig import free_port

ANY = InetAddress("127.0.0.1", 0)


def tcp(*addresses, name="web", **more) -> TcpListener:
    return TcpListener(name=name, listen=addresses, pool="p", **more)


def udp(*addresses, name="time", **more) -> UdpListener:
    return UdpListener(name=name, listen=addresses, pool="p", **more)


def http(*addresses, name="site", **more) -> HttpListener:
    return HttpListener(name=name, listen=addresses, routes=(), **more)


def here() -> InetAddress:
    return InetAddress("127.0.0.1", free_port())


def sockets(bounds: Iterable[Bound]) -> list[socket.socket]:
    return [bound.socket for bound in bounds]


def options(bound: Bound) -> tuple[bool, bool]:
    """TCP_NODELAY and SO_KEEPALIVE."""
    asked = (socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    nodelay, keepalive = (bool(bound.socket.getsockopt(*option)) for option in asked)
    return nodelay, keepalive


def backlog(bound: Bound) -> int:
    """As struct tcp_info of Linux says it."""
    return int.from_bytes(bound.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)[28:], sys.byteorder)


class Binding(SynchronousTestCase):
    def bind(self, *listeners: Listener, present: Iterable[Bound] = ()) -> list[Bound]:
        bounds = bind(listeners, present)
        self.addCleanup(close, bounds)
        return bounds

    def rows(self, *listeners: Listener, rows: int = 3, present=()) -> list[list[Bound]]:
        made = bind_rows(listeners, rows, present)
        self.addCleanup(close, chain(*made))
        return made

    def taken(self) -> InetAddress:
        """An address that somebody else has."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        return InetAddress(*sock.getsockname())

    def descriptors(self) -> list[str]:
        return os.listdir("/proc/self/fd")


class KeptTests(Binding):
    def test_who_asks_now(self) -> None:
        """A socket serves whoever asks for its address now, in the order of now; those that are new are bound."""
        where, path, fresh = here(), UnixAddress(str(socket_path(self))), here()
        inet, unix = present = self.bind(tcp(where, path))
        other, same = http(path, name="other"), tcp(fresh, where)
        bounds = self.bind(other, same, present=present)
        asked = [(bound.listener, bound.address) for bound in bounds]
        self.assertEqual(asked, [(other, path), (same, fresh), (same, where)])
        self.assertEqual([bounds[0].socket, bounds[2].socket], [unix.socket, inet.socket])
        self.assertEqual(bounds[1].where, fresh)

    def test_present_stays_as_it_was(self) -> None:
        """What was bound before says what it said, whoever has the socket now, and may be whatever can be gone through."""
        listener = tcp(here())
        present = self.bind(listener)
        self.bind(tcp(*listener.listen, backlog=7), present=iter(present))
        self.assertEqual([bound.listener for bound in present], [listener])

    def test_kinds(self) -> None:
        """Streams and datagrams of one number are two addresses."""
        where = here()
        present = self.bind(tcp(where), udp(where))
        bounds = self.bind(udp(where), tcp(where), present=present)
        self.assertEqual(sockets(bounds), sockets(present)[::-1])
        (stream,) = self.bind(tcp(alone := here()))
        (datagram,) = self.bind(udp(alone), present=[stream])
        self.assertEqual(datagram.socket.type, socket.SOCK_DGRAM)

    def test_chosen_ports(self) -> None:
        """A port that the kernel chose stays its listener's; whoever else asks for any has another one."""
        one, other = present = self.bind(tcp(ANY, name="one"), tcp(ANY, name="other"))
        bounds = self.bind(tcp(ANY, name="other"), tcp(ANY, name="third"), tcp(ANY, name="one"), present=present)
        self.assertEqual([bounds[0].socket, bounds[2].socket], [other.socket, one.socket])
        self.assertNotIn(bounds[1].where, [one.where, other.where])

    def test_twice(self) -> None:
        """Each socket serves one of those that ask for the same."""
        present = self.bind(tcp(ANY, ANY))
        bounds = self.bind(tcp(ANY, ANY, ANY), present=present)
        self.assertEqual(sockets(bounds)[:2], sockets(present))
        self.assertEqual(len({bound.where for bound in bounds}), 3)

    def test_files(self) -> None:
        """The file of a Unix socket is kept with it, and goes with it."""
        path = socket_path(self)
        present = self.bind(tcp(UnixAddress(str(path))))
        (bound,) = self.bind(tcp(UnixAddress(str(path)), name="other"), present=present)
        self.assertTrue(path.is_socket())
        bound.close()
        self.assertFalse(path.exists())

    def test_without(self) -> None:
        """By their sockets, whoever they are for."""
        present = self.bind(tcp(ANY, name="a"), tcp(ANY, name="b"))
        bounds = self.bind(tcp(ANY, name="b", backlog=7), udp(ANY), present=present)
        self.assertEqual(without(bounds, present), bounds[1:])
        self.assertEqual(without(present, bounds), present[:1])
        self.assertEqual((without(present, []), without([], present)), (present, []))

    def test_close(self) -> None:
        """All, and once more without harm."""
        present = self.bind(tcp(ANY), udp(ANY))
        for _ in range(2):
            close(present)
            self.assertEqual([bound.socket.fileno() for bound in present], [-1, -1])


class AdaptedTests(Binding):
    def test_options(self) -> None:
        """What clients have from a socket is what is asked for now, by TCP or HTTP; datagrams have nothing of that."""
        present = self.bind(tcp(a := here()), udp(b := here()))
        (bound, _) = self.bind(http(a, tcp_nodelay=False, so_keepalive=True), udp(b), present=present)
        self.assertEqual(options(bound), (False, True))
        (bound,) = self.bind(tcp(a), present=[bound])
        self.assertEqual(options(bound), (True, False))

    def test_backlog(self) -> None:
        """The queue is as long as is asked for now, of a Unix socket, too."""
        path = str(socket_path(self))
        present = self.bind(tcp(where := here(), UnixAddress(path)))
        (bound, _) = self.bind(tcp(where, UnixAddress(path), backlog=2), present=present)
        self.assertEqual(backlog(bound), 2)
        waits = []
        for _ in range(4):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            waits.append(client.connect_ex(path))
        self.assertEqual(waits, [0, 0, 0, errno.EAGAIN])

    def test_mode(self) -> None:
        """The rights of the file are those that are asked for now; without a word on it they stay."""
        path = socket_path(self)
        bounds = self.bind(tcp(UnixAddress(str(path)), mode=0o600))
        for asked, expected in ((0o666, 0o666), (None, 0o666), (0o660, 0o660)):
            bounds = self.bind(tcp(UnixAddress(str(path)), mode=asked), present=bounds)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), expected)

    def test_same_mode(self) -> None:
        """Rights that are as they should be are left alone, which may not be ours to change any more."""
        path = socket_path(self)
        present = self.bind(tcp(UnixAddress(str(path)), mode=0o600))
        self.patch(os, "chmod", lambda path, mode: self.fail("not allowed"))
        self.bind(tcp(UnixAddress(str(path)), mode=0o600), present=present)

    def test_restore(self) -> None:
        """What others asked for is taken back, and what cannot be is nobody's mistake."""
        path = socket_path(self)
        listener = tcp(here(), UnixAddress(str(path)), mode=0o600)
        present = self.bind(listener)
        self.bind(tcp(*listener.listen, mode=0o666, tcp_nodelay=False, backlog=7), present=present)
        restore(present)
        self.assertEqual((options(present[0]), backlog(present[0])), ((True, False), 511))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        path.unlink()
        restore(present)


class MistakeTests(Binding):
    """All or none, and what is there goes on as it is."""

    def setUp(self) -> None:
        self.path = socket_path(self)
        self.listener = tcp(here(), UnixAddress(str(self.path)), mode=0o600)
        self.present = self.bind(self.listener)
        self.changed = tcp(*self.listener.listen, mode=0o666, tcp_nodelay=False, backlog=7)
        self.before = self.descriptors()

    def unchanged(self) -> None:
        self.assertEqual(self.descriptors(), self.before)
        self.assertTrue(all(bound.socket.fileno() > 0 for bound in self.present))
        self.assertEqual((options(self.present[0]), backlog(self.present[0])), ((True, False), 511))
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def refuse(self, path: object, mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def test_cannot_be_bound(self) -> None:
        """New sockets are closed, with their files; each mistake has its line; nobody's rights were changed meanwhile."""
        fresh = socket_path(self)
        taken = [self.taken(), self.taken()]
        self.before = self.descriptors()
        self.patch(os, "chmod", lambda path, mode: self.fail("not now"))
        listeners = [self.changed, tcp(here(), *taken, UnixAddress(str(fresh)), name="b")]
        error = str(self.assertRaises(BindError, bind, listeners, iter(self.present)))
        self.assertEqual([line.split(":")[0] for line in error.splitlines()], ["listeners.b"] * 2)
        self.assertFalse(fresh.exists())
        self.unchanged()

    def test_cannot_be_adapted(self) -> None:
        """What was adapted before is as it was."""
        self.patch(os, "chmod", self.refuse)
        error = str(self.assertRaises(BindError, bind, [self.changed, udp(ANY)], self.present))
        self.assertEqual(
            error,
            f"listeners.web: cannot listen on unix:{self.path}: Operation not permitted; "
            "check the rights of the folder and the file",
        )
        self.unchanged()

    def test_file_gone(self) -> None:
        """A socket whose file somebody has removed is made anew; to close the old one leaves the new file alone."""
        self.path.unlink()
        bound = bind([self.changed], self.present)
        self.addCleanup(close, bound)
        gone = without(self.present, bound)
        self.assertEqual([each.address for each in gone], [UnixAddress(str(self.path))])
        close(gone)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))


class RowTests(Binding):
    def test_kept(self) -> None:
        """Each row keeps its own sockets; the Unix socket stays one for all, whose file goes with the first."""
        path = socket_path(self)
        listener = tcp(where := here(), UnixAddress(str(path)))
        present = self.rows(listener)
        rows = self.rows(udp(where), http(*listener.listen), present=present)
        for row, kept in zip(rows, present, strict=True):
            self.assertEqual(set(sockets(row)) & set(sockets(kept)), set(sockets(kept)))
            self.assertEqual(len(without(row, kept)), 1)
        unix = [bound for row in rows for bound in row if isinstance(bound.address, UnixAddress)]
        self.assertEqual([bound.owns_file for bound in unix], [True, False, False])
        self.assertEqual(len({bound.socket for bound in unix}), 1)

    def test_kept_is_adapted(self) -> None:
        """In all rows."""
        where = here()
        rows = self.rows(tcp(where, tcp_nodelay=False), present=self.rows(tcp(where)))
        self.assertEqual([options(bound) for (bound,) in rows], [(False, False)] * 3)

    def test_new(self) -> None:
        """An address that is new is shared among all rows; another program there is noticed, also one that would share."""
        present = self.rows(tcp(where := here()))
        fresh = here()
        rows = self.rows(tcp(where, fresh), present=present)
        self.assertEqual([[bound.where for bound in row] for row in rows], [[where, fresh]] * 3)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("127.0.0.1", 0))
            other.listen()
            listener = tcp(where, InetAddress(*other.getsockname()))
            self.assertRaises(BindError, bind_rows, [listener], 3, rows)

    def test_all_or_none(self) -> None:
        """When descriptors run out in some row all is as it was, in all rows."""
        path, fresh = socket_path(self), socket_path(self)
        listener = tcp(here(), UnixAddress(str(path)), mode=0o600)
        present = self.rows(listener, rows=20)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        before = self.descriptors()
        free = [number for number in range(1000) if str(number) not in before]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[10], limits[1]))
        changed = tcp(*listener.listen, here(), UnixAddress(str(fresh)), tcp_nodelay=False, mode=0o666)
        self.assertRaises(BindError, bind_rows, [changed], 20, present)
        self.assertEqual(self.descriptors(), before)
        self.assertEqual((path.is_socket(), fresh.exists()), (True, False))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        inet = [bound for row in present for bound in row if bound.address != UnixAddress(str(path))]
        self.assertEqual([options(bound) for bound in inet], [(True, False)] * 20)
