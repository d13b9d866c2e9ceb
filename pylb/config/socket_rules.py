"""Do the addresses of listeners get on with one another, and with those of servers?"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pylb.config import hosts
from pylb.config.mistakes import Mistake
from pylb.config.parts import Part, pools_of
from pylb.model import Address, InetAddress
from pylb.words import quoted

__all__ = ["loops", "same_address"]


class _Listen(NamedTuple):
    listener: Part
    place: int
    address: Address


def same_address(listeners: Iterable[Part]) -> Iterator[Mistake]:
    """Two sockets on one address, or on one port where one of them has all addresses: the kernel refuses the second.

    IPv6 sockets are V6ONLY, so `[::]` and `0.0.0.0` get on; so do TCP and UDP.
    """
    sockets: defaultdict[object, list[_Listen]] = defaultdict(list)
    for listener in listeners:
        for mine in _listens(listener) if listener.keys.get("protocol") in ("http", "tcp", "udp") else ():
            rivals = sockets[_rivalry(mine)]
            if taken := next((other for other in rivals if _collide(other.address, mine.address)), None):
                yield listener.mistake(_taken(mine, taken), "listen", mine.place)
            rivals.append(mine)


def loops(listeners: Iterable[Part], pools: Mapping[str, Part]) -> Iterator[Mistake]:
    """A server that is the listener itself would be asked by itself, again and again, until no descriptor is left.

    Listeners that lead to others are fine.
    """
    for listener in listeners:
        for name in dict.fromkeys(pools_of(listener)):
            for mine in _listens(listener) if name in pools else ():
                yield from _asks_itself(mine, pools[name])


def _asks_itself(listen: _Listen, pool: Part) -> Iterator[Mistake]:
    for place, server in pool.items("servers"):
        written = server.get("address") if isinstance(server, dict) else server
        try:
            address = hosts.server_place(written, pool.document.folder)
        except ValueError:
            continue
        if _reaches(address, listen.address):
            below = ("servers", place, "address") if isinstance(server, dict) else ("servers", place)
            where = listen.listener.document.where((*listen.listener.path, "listen", listen.place))
            text = f"this is the listener {quoted(listen.listener.name)} itself, at {where}: it would ask itself without end"
            yield pool.mistake(text, *below)


def _reaches(server: Address, listen: Address) -> bool:
    """Whether who connects to `server` certainly comes to `listen`."""
    if server == listen or not (isinstance(server, InetAddress) and isinstance(listen, InetAddress)):
        return server == listen
    alike = (":" in server.host, server.port) == (":" in listen.host, listen.port)
    return alike and _takes_all(listen) and server.is_literal and ipaddress.ip_address(server.host).is_loopback


def _listens(listener: Part) -> Iterator[_Listen]:
    for place, written in listener.items("listen"):
        try:
            yield _Listen(listener, place, hosts.listen_address(written, listener.document.folder))
        except ValueError:
            continue


def _rivalry(listen: _Listen) -> object:
    """What two sockets must share to be able to collide at all."""
    address = listen.address
    if not isinstance(address, InetAddress):
        return address
    datagrams = listen.listener.keys.get("protocol") == "udp"
    return datagrams, ":" in address.host, address.port


def _collide(one: Address, other: Address) -> bool:
    return one == other or _takes_all(one) or _takes_all(other)


def _takes_all(address: Address) -> bool:
    return isinstance(address, InetAddress) and ipaddress.ip_address(address.host).is_unspecified


def _taken(mine: _Listen, taken: _Listen) -> str:
    where = taken.listener.document.where((*taken.listener.path, "listen", taken.place))
    return f"{mine.address} is taken by {quoted(taken.listener.name)}, {taken.address} at {where}"
