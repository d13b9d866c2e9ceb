"""Who listens where?

Every listening socket is made and bound here, before anything else starts and while the process may still bind low ports,
and handed to Twisted afterwards: until then clients wait in the kernel's queue.

- An IPv6 socket is IPv6 only, so `0.0.0.0:80` and `[::]:80` stand side by side.
- The queue of connections that wait to be accepted is 511 long, nginx's length.
- A Unix socket that nobody serves any more is replaced; one that is served, or any other file, is an error.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from twisted.internet import unix
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorSocket

from pylb.model import Address, InetAddress, Listener, UdpListener, UnixAddress

__all__ = ["BACKLOG", "BindError", "Bound", "bind", "listen_stream"]

BACKLOG = 511


class BindError(Exception):
    """A listener cannot have its address; the text names the listener, where it was asked for, and what to do."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound, and for streams listens, on behalf of a listener."""

    listener: Listener
    address: Address
    socket: socket.socket

    def close(self) -> None:
        """Close the socket; a Unix socket's file goes, too."""
        self.socket.close()
        if isinstance(self.address, UnixAddress) and os.path.exists(self.address.path):
            os.unlink(self.address.path)


def bind(listeners: Iterable[Listener]) -> list[Bound]:
    """Bind every address of every listener, all or none.  Raises BindError, one line for each address that failed."""
    bound: list[Bound] = []
    mistakes: list[str] = []
    for listener in listeners:
        for address in listener.listen:
            try:
                bound.extend(Bound(listener, address, sock) for sock in _sockets(listener, address))
            except OSError as error:
                mistakes.append(_explain(listener, address, error))
    if mistakes:
        for each in bound:
            each.close()
        raise BindError("\n".join(mistakes))
    return bound


def listen_stream(reactor: IReactorSocket, bound: Bound, factory: IProtocolFactory) -> IListeningPort:
    """Have Twisted accept connections on a bound stream socket.  The socket stays the caller's to close."""
    if isinstance(bound.address, UnixAddress):
        return _listen_unix(reactor, bound.address.path, bound.socket, factory)
    return reactor.adoptStreamPort(bound.socket.fileno(), bound.socket.family, factory)


def _listen_unix(reactor: IReactorSocket, path: str, sock: socket.socket, factory: IProtocolFactory) -> IListeningPort:
    # adoptStreamPort would open the socket to everybody and shorten its queue.
    port = unix.Port(path.encode(), factory, BACKLOG, stat.S_IMODE(os.stat(path).st_mode), reactor)
    port._preexistingSocket = sock.dup()
    port.startListening()
    return port


def _sockets(listener: Listener, address: Address) -> Iterator[socket.socket]:
    if isinstance(address, UnixAddress):
        yield _unix_socket(address.path, listener.mode)
        return
    kind = socket.SOCK_DGRAM if isinstance(listener, UdpListener) else socket.SOCK_STREAM
    found = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    for family, _, _, _, where in found:
        yield _inet_socket(family, kind, where, listener.reuseport)


def _inet_socket(family: int, kind: int, where: tuple[object, ...], reuseport: bool) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unix_socket(path: str, mode: int | None) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.bind(path)
        if mode is not None:
            os.chmod(path, mode)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody serves; raise OSError if something else is there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "a file that is not a socket is there")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
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
