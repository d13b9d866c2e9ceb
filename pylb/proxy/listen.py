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
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

from twisted.internet.interfaces import IProtocolFactory, IReactorFDSet

from pylb.model import Address, InetAddress, Listener, UdpListener, UnixAddress
from pylb.proxy.accept import StreamPort, UnixPort

__all__ = ["BindError", "Bound", "bind", "bind_rows", "listen_stream"]


class BindError(Exception):
    """A listener cannot have its address; the text names the listener, where it was asked for, and what to do."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound, and for streams listens, on behalf of a listener."""

    listener: Listener
    address: Address
    socket: socket.socket
    #: Whether the file of a Unix socket goes with it.
    owns_file: bool = True

    @property
    def where(self) -> Address:
        """The address, with the port that the kernel chose where 0 was asked for."""
        if isinstance(self.address, UnixAddress):
            return self.address
        host, port = self.socket.getsockname()[:2]
        return InetAddress(host, port)

    def close(self) -> None:
        """Close the socket; a Unix socket's file goes, too, if it is ours and the rights that are left allow it."""
        if isinstance(self.address, UnixAddress) and self.owns_file:
            with suppress(OSError):
                os.unlink(self.address.path)
        self.socket.close()


def bind(listeners: Iterable[Listener]) -> list[Bound]:
    """Bind every address of every listener, all or none.  Raises BindError, one line for each address that failed."""
    bound: list[Bound] = []
    mistakes: list[str] = []
    for listener in listeners:
        for address in listener.listen:
            try:
                bound.append(Bound(listener, address, _socket(listener, address)))
            except OSError as error:
                mistakes.append(_explain(listener, address, error))
    if mistakes:
        for each in bound:
            each.close()
        raise BindError("\n".join(mistakes))
    return bound


def bind_rows(listeners: Iterable[Listener], rows: int) -> list[list[Bound]]:
    """Bind every address `rows` times, so that each worker has a row of sockets of its own.  Raises BindError."""
    listeners = list(listeners)
    # Where everybody binds with SO_REUSEPORT, nobody hears that another program has the port.
    for bound in bind(listeners):
        bound.close()
    shared = [replace(listener, reuseport=True) for listener in listeners]
    bounds = [bind(shared)]
    try:
        while len(bounds) < rows:
            bounds.append(_bind_beside(bounds[0], shared))
    except BindError:
        for bound in chain.from_iterable(bounds):
            bound.close()
        raise
    return bounds


def _bind_beside(first: list[Bound], listeners: list[Listener]) -> list[Bound]:
    """A row of sockets at the addresses of the first one, which keeps the files of its Unix sockets."""
    unix = [replace(bound, owns_file=False) for bound in first if isinstance(bound.address, UnixAddress)]
    inet = [tuple(where for where in each.listen if isinstance(where, InetAddress)) for each in listeners]
    return unix + bind(replace(each, listen=where) for each, where in zip(listeners, inet, strict=True))


def listen_stream(
    reactor: IReactorFDSet, bound: Bound, factory: IProtocolFactory, room: Callable[[], int] = lambda: sys.maxsize
) -> StreamPort:
    """Accept connections on a bound stream socket, which stays the caller's to close.

    `room` says how many more clients there may be; it is asked only while the port reads.
    """
    port = _port(reactor, bound, factory)
    port.name = f"listener {bound.listener.name}"
    port.room = room
    port._preexistingSocket = bound.socket.dup()
    port.startListening()
    return port


def _port(reactor: IReactorFDSet, bound: Bound, factory: IProtocolFactory) -> StreamPort:
    if not isinstance(bound.address, UnixAddress):
        return StreamPort(0, factory, interface=bound.address.host, reactor=reactor)
    return UnixPort(os.fsencode(bound.address.path), factory, reactor=reactor)


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
            # Those that are accepted have them, too, and need not be given them one by one.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, listener.tcp_nodelay)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, listener.so_keepalive)
            sock.listen(listener.backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _unix_socket(path: str, mode: int | None, backlog: int) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.bind(path)
        _open_up(sock, path, mode, backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _open_up(sock: socket.socket, path: str, mode: int | None, backlog: int) -> None:
    """Let clients come to a Unix socket that is bound; if that fails, its file goes."""
    try:
        if mode is not None:
            os.chmod(path, mode)
        sock.listen(backlog)
    except OSError:
        os.unlink(path)
        raise


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
