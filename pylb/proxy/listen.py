"""Who listens where?

Every listening socket is made and bound here, before anything else starts and while the process may still bind low ports,
and handed to Twisted afterwards: until then clients wait in the kernel's queue.

- An IPv6 socket is IPv6 only, so `0.0.0.0:80` and `[::]:80` stand side by side.
- A Unix socket that nobody serves any more is replaced; one that is served, or any other file, is an error.
- Several workers have a socket each for an address, among which the kernel shares the clients out (SO_REUSEPORT); a Unix
  socket they have in common.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeAlias

from twisted.internet.interfaces import IProtocolFactory, IReactorFDSet

from pylb.model import Address, HttpListener, InetAddress, Listener, TcpListener, UdpListener, UnixAddress
from pylb.proxy.accept import StreamPort, UnixPort, name_of

__all__ = ["BindError", "Bound", "bind", "bind_rows", "close", "listen_stream", "restore", "without"]


#: A file system, and a file there.
File: TypeAlias = tuple[int, int]


class BindError(Exception):
    """A listener cannot have its address; the text names the listener, where it was asked for, and what to do."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound, and for streams listens, on behalf of a listener."""

    listener: Listener
    address: Address
    socket: socket.socket
    #: Whether the file of a Unix socket goes with it, and which one that is.
    owns_file: bool = True
    file: File | None = None

    @property
    def where(self) -> Address:
        """The address, with the port that the kernel chose where 0 was asked for."""
        if isinstance(self.address, UnixAddress):
            return self.address
        host, port = self.socket.getsockname()[:2]
        return InetAddress(host, port)

    def close(self) -> None:
        """Close the socket; a Unix socket's file goes, too, if it is ours and the rights that are left allow it."""
        if isinstance(self.address, UnixAddress) and self.owns_file and self.has_file:
            with suppress(OSError):
                os.unlink(self.address.path)
        self.socket.close()

    @property
    def has_file(self) -> bool:
        """Whether the file of a Unix socket is there, and is not another one; False for all other sockets."""
        return isinstance(self.address, UnixAddress) and self.file in (None, _file(self.address.path))


def bind(listeners: Iterable[Listener], present: Iterable[Bound] = ()) -> list[Bound]:
    """Bind every address of every listener, all or none; sockets that are `present` serve those who ask for them now.

    Raises BindError, one line for each address that failed: those that are present go on as they are then.
    """
    kept = _Kept(present := list(present))
    bound: list[Bound] = []
    mistakes: list[str] = []
    for listener in listeners:
        for address in listener.listen:
            try:
                bound.append(kept.take(listener, address) or _bind(listener, address))
            except OSError as error:
                mistakes.append(_explain(listener, address, error))
    if not mistakes:
        mistakes.extend(_adapt(kept.taken))
    if mistakes:
        close(without(bound, present))
        restore(present)
        raise BindError("\n".join(mistakes))
    return bound


def without(some: Iterable[Bound], others: Iterable[Bound]) -> list[Bound]:
    """Those of `some` whose sockets none of `others` has."""
    theirs = {bound.socket for bound in others}
    return [bound for bound in some if bound.socket not in theirs]


def restore(sockets: Iterable[Bound]) -> None:
    """Let sockets be again as their listeners ask, when others that they were bound for are not to have them."""
    for _ in _adapt(sockets):
        pass  # It was so before: what cannot be had again is nobody's mistake.


def close(sockets: Iterable[Bound]) -> None:
    """Close all of them."""
    for bound in sockets:
        bound.close()


class _Kept:
    """Sockets that are there, by what they may be asked for as."""

    def __init__(self, present: Iterable[Bound]) -> None:
        self._by_place: dict[object, list[Bound]] = {}
        #: Those that are asked for.
        self.taken: list[Bound] = []
        for bound in present:
            if isinstance(bound.address, UnixAddress) and not bound.has_file:
                continue  # Nobody finds it any more.
            self._by_place.setdefault(_place(bound.listener, bound.address), []).append(bound)

    def take(self, listener: Listener, address: Address) -> Bound | None:
        """The socket for an address of a listener, once."""
        there = self._by_place.get(_place(listener, address))
        if not there:
            return None
        self.taken.append(taken := replace(there.pop(0), listener=listener))
        return taken


def _place(listener: Listener, address: Address) -> object:
    """What only one may have; a port that the kernel chose belongs to its listener."""
    chosen = isinstance(address, InetAddress) and not address.port
    return isinstance(listener, UdpListener), address, listener.name if chosen else ""


def bind_rows(listeners: Iterable[Listener], rows: int, present: Sequence[Sequence[Bound]] = ()) -> list[list[Bound]]:
    """Bind every address `rows` times, so that each worker has a row of sockets of its own; `present` are rows as of `bind`.

    Raises BindError.
    """
    listeners = list(listeners)
    present = present or [[]] * rows
    # Where everybody binds with SO_REUSEPORT, nobody hears that another program has the port.
    close(without(bind(listeners, present[0]), present[0]))
    shared = [replace(listener, reuseport=True) for listener in listeners]
    bounds = [bind(shared, present[0])]
    try:
        for row in range(1, rows):
            bounds.append(_bind_beside(bounds[0], shared, present[row]))
    except BindError:
        close(without(chain(*bounds), chain(*present)))
        restore(chain(*present))
        raise
    return bounds


def _bind_beside(first: list[Bound], listeners: list[Listener], present: Iterable[Bound]) -> list[Bound]:
    """A row of sockets at the addresses of the first one, which keeps the files of its Unix sockets."""
    unix = [replace(bound, owns_file=False) for bound in first if isinstance(bound.address, UnixAddress)]
    inet = [tuple(where for where in each.listen if isinstance(where, InetAddress)) for each in listeners]
    return unix + bind((replace(each, listen=where) for each, where in zip(listeners, inet, strict=True)), present)


def listen_stream(
    reactor: IReactorFDSet,
    bound: Bound,
    own: socket.socket,
    factory: IProtocolFactory,
    room: Callable[[], int] = lambda: sys.maxsize,
) -> StreamPort:
    """Accept connections on `own`, a duplicate of a bound stream socket, which the port closes in the end.

    `room` says how many more clients there may be; it is asked only while the port reads.
    """
    port = _port(reactor, bound, factory)
    port.name = name_of(bound.listener.name)
    port.room = room
    port._preexistingSocket = own
    port.startListening()
    return port


def _port(reactor: IReactorFDSet, bound: Bound, factory: IProtocolFactory) -> StreamPort:
    if not isinstance(bound.address, UnixAddress):
        return StreamPort(0, factory, interface=bound.address.host, reactor=reactor)
    return UnixPort(os.fsencode(bound.address.path), factory, reactor=reactor)


def _bind(listener: Listener, address: Address) -> Bound:
    file = address.path if isinstance(address, UnixAddress) else ""
    return Bound(listener, address, _socket(listener, address), file=_file(file))


def _file(path: str) -> File | None:
    """Which file is at a path, if there is one."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _socket(listener: Listener, address: Address) -> socket.socket:
    if isinstance(address, UnixAddress):
        return _unix_socket(address.path, listener.mode, listener.backlog)
    kind = socket.SOCK_DGRAM if isinstance(listener, UdpListener) else socket.SOCK_STREAM
    # The host is a literal: nothing is looked up.
    family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=kind)[0]
    return _inet_socket(family, kind, where, listener)


def _inet_socket(family: int, kind: int, where: tuple[object, ...], listener: Listener) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.reuseport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
        if not isinstance(listener, UdpListener):
            _accept_as(sock, listener)
    except OSError:
        sock.close()
        raise
    return sock


def _accept_as(sock: socket.socket, listener: TcpListener | HttpListener) -> None:
    """Let clients come over TCP; those that are accepted have the same options, and need not be given them one by one."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, listener.tcp_nodelay)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, listener.so_keepalive)
    sock.listen(listener.backlog)


def _unix_socket(path: str, mode: int | None, backlog: int) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.bind(path)
        try:
            _open_up(sock, path, mode, backlog)
        except OSError:
            os.unlink(path)
            raise
    except OSError:
        sock.close()
        raise
    return sock


def _open_up(sock: socket.socket, path: str, mode: int | None, backlog: int) -> None:
    """Let clients come to a Unix socket that is bound."""
    if mode is not None and stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)
    sock.listen(backlog)


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody serves; raise OSError if something else is there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "a file that is not a socket is there")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # whoever serves it may have a full queue
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _adapt(kept: Iterable[Bound]) -> Iterator[str]:
    """Let sockets that were there be as their listeners ask now; says what cannot be."""
    for bound in kept:
        listener = bound.listener
        try:
            if isinstance(bound.address, UnixAddress):
                _open_up(bound.socket, bound.address.path, listener.mode, listener.backlog)
            elif not isinstance(listener, UdpListener):
                _accept_as(bound.socket, listener)
        except OSError as error:
            yield _explain(listener, bound.address, error)


def _explain(listener: Listener, address: Address, error: OSError) -> str:
    advice = {
        errno.EADDRINUSE: "; another program (or another pylb) uses it: stop that one or choose another port",
        errno.EADDRNOTAVAIL: "; no interface of this machine has that address",
        errno.EACCES: _rights(address),
        errno.EPERM: _rights(address),
        errno.ENOENT: "; the folder of the socket does not exist",
    }.get(error.errno or 0, "")
    kind = listener.protocol if isinstance(listener, UdpListener) else "tcp"
    where = address if isinstance(address, UnixAddress) else f"{kind} {address}"
    place = f"{listener.origin}: " if listener.origin else ""
    return f"{place}listeners.{listener.name}: cannot listen on {where}: {error.strerror or error}{advice}"


def _rights(address: Address) -> str:
    if isinstance(address, InetAddress) and address.port < 1024:
        return "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    return "; check the rights of the folder and the file"
