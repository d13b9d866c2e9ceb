"""What must the parts of a configuration agree on?

The rules read the trees, not the filled-in forms: a part that the schema found fault with still takes part in every rule
whose values in it can be read, so that all mistakes come out at once.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from pylb.config import scalars
from pylb.config.document import Document
from pylb.config.mistakes import Mistake, Path
from pylb.model import MOMENTS, Address, InetAddress
from pylb.variables import check_key, check_variable
from pylb.words import did_you_mean, quoted

__all__ = ["disagreements"]

#: The most that the weights of a consistent hash come to: 8 million points, 64 MB, and some 6 s to make.
_LARGEST_RING = 50_000


#: The methods that cannot let a share grow, and what it is with them that names a server.
_NO_SLOW_START = {"hash": "key", "ip_hash": "address", "maglev": "key", "first": "order"}


#: What a protocol has nothing for.
_LACKS = {
    "tcp": {"fail_on": "has no answers to judge", "hedge": "has no requests that could be sent twice"},
    "udp": {
        "fail_on": "has no answers to judge",
        "hedge": "has no requests that could be sent twice",
        "max_pending": "makes no connections",
        "queue": "has no connections that could wait",
    },
}


class _Part(NamedTuple):
    """A pool or a listener as written; `keys` is empty if it is no mapping."""

    document: Document
    name: str
    path: Path
    keys: dict[str, Any]

    def mistake(self, text: str, *below: str | int, at_key: bool = False) -> Mistake:
        return self.document.mistake((*self.path, *below), text, at_key=at_key)

    def items(self, key: str) -> list[tuple[int, Any]]:
        """The numbered items of a list below `key`; a scalar is a list of one, what cannot be a list is an empty one."""
        value = self.keys.get(key)
        if isinstance(value, list):
            return list(enumerate(value))
        return [(0, value)] if isinstance(value, str | int) else []


class _Listen(NamedTuple):
    listener: _Part
    place: int
    address: Address


def disagreements(documents: list[Document], complete: bool) -> Iterator[Mistake]:
    """Mistakes between parts.  If some file could not be read (not `complete`), nothing is called missing."""
    pools = list(_parts(documents, "pools"))
    listeners = list(_parts(documents, "listeners"))
    yield from _defined_twice(pools)
    yield from _defined_twice(listeners)
    yield from chain.from_iterable(map(_about_pool, pools))
    yield from chain.from_iterable(map(_about_http, listeners))
    yield from _about_udp(listeners, {pool.name: pool for pool in pools})
    users = _protocols(listeners)
    yield from _about_keys(pools, users)
    yield from _about_metrics(listeners, pools, users)
    yield from chain.from_iterable(_about_failures(pool, sorted(users[pool.name])) for pool in pools)
    yield from chain.from_iterable(_about_sessions(pool, sorted(users[pool.name])) for pool in pools)
    yield from _same_address(listeners)
    yield from _loops(listeners, {pool.name: pool for pool in pools})
    if complete:
        yield from _unknown_pools(listeners, {pool.name for pool in pools})
        if not any(document.tree.get("listeners") for document in documents):
            yield documents[0].mistake(("listeners",), "no listeners, nothing would be served")


def _parts(documents: Iterable[Document], kind: str) -> Iterator[_Part]:
    for document in documents:
        parts = document.tree.get(kind)
        for name, keys in parts.items() if isinstance(parts, dict) else ():
            yield _Part(document, name, (kind, name), keys if isinstance(keys, dict) else {})


def _defined_twice(parts: Iterable[_Part]) -> Iterator[Mistake]:
    """Within one file a second key of one name is found on reading."""
    first: dict[str, _Part] = {}
    for part in parts:
        before = first.setdefault(part.name, part)
        if before is not part:
            yield part.mistake(
                f"defined twice, first at {before.document.where(before.path, at_key=True)}", at_key=True
            )


def _about_pool(pool: _Part) -> Iterator[Mistake]:
    servers = [server for _, server in pool.items("servers")]
    if servers and all(isinstance(server, dict) and server.get("backup") is True for server in servers):
        yield pool.mistake("every server is a backup, there is none to be a backup for", "servers")
    yield from _about_slow_start(pool)
    yield from _about_ring(pool)
    yield from _about_outliers(pool)
    yield from _about_retries(pool)
    yield from _about_checks(pool)
    yield from _same_route(pool)
    tls = pool.keys.get("tls")
    unnamed = isinstance(tls, dict) and tls.get("verify") is not False and "server_name" not in tls
    if unnamed and any(map(_is_unix, servers)):
        yield pool.mistake('"server_name" is missing: a Unix socket has no name to verify', "tls")


def _about_outliers(pool: _Part) -> Iterator[Mistake]:
    """One way of counting failures, or the other."""
    if "outlier" not in pool.keys:
        return
    text = '"outlier" takes the place of max_fails, fail_timeout and failure_window: leave this out'
    if "failure_window" in pool.keys:
        yield pool.mistake(text, "failure_window", at_key=True)
    for place, server in pool.items("servers"):
        for key in ("max_fails", "fail_timeout"):
            if isinstance(server, dict) and key in server:
                yield pool.mistake(text, "servers", place, key, at_key=True)


def _about_retries(pool: _Part) -> Iterator[Mistake]:
    """One limit or the other."""
    if "retry_budget" in pool.keys and "max_retries" in pool.keys:
        yield pool.mistake('"retry_budget" takes the place of max_retries: leave one out', "max_retries", at_key=True)


def _about_ring(pool: _Part) -> Iterator[Mistake]:
    """A ring has 160 points for each unit of weight, of some 8 bytes each, and takes time to make."""
    balance = pool.keys.get("balance")
    if not isinstance(balance, dict) or balance.get("method") != "hash" or balance.get("consistent") is not True:
        return
    weights = [server.get("weight", 1) if isinstance(server, dict) else 1 for _, server in pool.items("servers")]
    total = sum(weight for weight in weights if isinstance(weight, int))
    if total > _LARGEST_RING:
        text = (
            f"the weights come to {total:,}, and {_LARGEST_RING:,} is the most for a consistent hash: divide them all"
        )
        yield pool.mistake(text, "servers")


def _about_checks(pool: _Part) -> Iterator[Mistake]:
    """Unix sockets have no ports and take no datagrams."""
    if not any(_is_unix(server) for _, server in pool.items("servers")):
        return
    checks = pool.keys.get("health_check")
    for place, check in enumerate(checks if isinstance(checks, list) else [checks]):
        below = ("health_check", place) if isinstance(checks, list) else ("health_check",)
        if isinstance(check, dict) and "port" in check:
            yield pool.mistake("a server of this pool is a Unix socket, which has no other port", *below, "port")
        elif isinstance(check, dict) and check.get("type") == "udp":
            yield pool.mistake("a server of this pool is a Unix socket, which takes no datagrams", *below, "type")


def _about_slow_start(pool: _Part) -> Iterator[Mistake]:
    balance = pool.keys.get("balance")
    method = balance.get("method") if isinstance(balance, dict) else balance
    by = _NO_SLOW_START.get(method) if isinstance(method, str) else None
    for place, server in pool.items("servers") if by else ():
        if isinstance(server, dict) and _lasts(server.get("slow_start")):
            text = f'no "slow_start" with the method {method}: the {by} alone says which server it is, so no share can grow'
            yield pool.mistake(text, "servers", place, "slow_start")


def _same_route(pool: _Part) -> Iterator[Mistake]:
    """Sessions of a route could not tell two servers apart; the addresses of one name may share theirs."""
    first: dict[str, int] = {}
    for place, server in pool.items("servers"):
        route = server.get("route") if isinstance(server, dict) else None
        if isinstance(route, str) and first.setdefault(route, place) != place:
            before = pool.document.where((*pool.path, "servers", first[route], "route"))
            yield pool.mistake(f"the route {quoted(route)} is taken, at {before}", "servers", place, "route")


def _lasts(written: object) -> bool:
    try:
        return scalars.duration(written) > 0
    except ValueError:
        return False


def _is_unix(server: object) -> bool:
    address = server.get("address") if isinstance(server, dict) else server
    return isinstance(address, str) and address.startswith("unix:")


def _about_http(listener: _Part) -> Iterator[Mistake]:
    if listener.keys.get("protocol") != "http":
        return
    written = [key for key in ("pool", "routes") if key in listener.keys]
    if not written:
        yield listener.mistake('"routes" is missing (or "pool", for all requests)')
    if len(written) == 2:
        yield listener.mistake('"pool" is short for one route; write "pool" or "routes", not both', "pool", at_key=True)
    yield from _about_routes(listener)


def _about_routes(listener: _Part) -> Iterator[Mistake]:
    first: dict[tuple[str, ...], int] = {}
    for place, route in listener.items("routes"):
        if not isinstance(route, dict):
            continue
        kinds = [kind for kind in ("path", "exact", "regex") if kind in route]
        if len(kinds) != 1:
            yield listener.mistake('a route has one of "path", "exact" and "regex"', "routes", place)
            continue
        matches = (str(route.get("host", "")).lower(), kinds[0], str(route[kinds[0]]))
        if first.setdefault(matches, place) != place:
            before = listener.document.where((*listener.path, "routes", first[matches]))
            yield listener.mistake(f"never reached, the route at {before} matches the same", "routes", place)


def _about_udp(listeners: Iterable[_Part], pools: dict[str, _Part]) -> Iterator[Mistake]:
    for listener in listeners:
        pool = pools.get(str(listener.keys.get("pool")))
        if pool is None or listener.keys.get("protocol") != "udp":
            continue
        if any(_is_unix(server) for _, server in pool.items("servers")):
            text = f"the pool {quoted(pool.name)} has a Unix socket, which is a stream and takes no datagrams"
            yield listener.mistake(text, "pool")
        if "tls" in pool.keys:
            yield listener.mistake(f'the pool {quoted(pool.name)} has "tls", which is for streams', "pool")


def _protocols(listeners: Iterable[_Part]) -> Mapping[str, set[str]]:
    """For each pool the protocols of the listeners that use it."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for listener in listeners:
        protocol = listener.keys.get("protocol")
        for name in _pools_of(listener):
            if isinstance(protocol, str) and protocol in MOMENTS:
                users[name].add(protocol)
    return users


def _about_keys(pools: Iterable[_Part], users: Mapping[str, set[str]]) -> Iterator[Mistake]:
    """Keys must be made of what every protocol has that uses the pool."""
    for pool in pools:
        for below in (("balance", "key"), ("queue", "priority")):
            key = _below(pool, *below)
            if not isinstance(key, str) or check_key(key):
                continue
            for protocol in sorted(users[pool.name]):
                if mistake := check_key(key, protocol):
                    yield pool.mistake(mistake, *below)


def _about_metrics(
    listeners: Iterable[_Part], pools: Iterable[_Part], users: Mapping[str, set[str]]
) -> Iterator[Mistake]:
    """The moment must come with every protocol that uses the pool."""
    for pool in pools:
        metric = _below(pool, "balance", "metric")
        for protocol in sorted(users[pool.name]):
            known = MOMENTS[protocol]
            if metric not in known and any(metric in moments for moments in MOMENTS.values()):
                text = f"{protocol} has no moment {quoted(metric)}, and a listener of {protocol} uses this pool"
                yield pool.mistake(f"{text} (it has {' and '.join(known)})", "balance", "metric")
    by_last_byte = {pool.name for pool in pools if _below(pool, "balance", "metric") == "last_byte"}
    for listener in listeners:
        name = listener.keys.get("pool")
        if listener.keys.get("protocol") == "udp" and str(name) in by_last_byte and not listener.keys.get("responses"):
            text = (
                f'the pool {quoted(name)} measures until the last byte, so "responses" must say which reply is the last'
            )
            yield listener.mistake(text, "responses" if "responses" in listener.keys else "pool")


def _about_failures(pool: _Part, protocols: list[str]) -> Iterator[Mistake]:
    """What is not for every protocol must not be set where one that lacks it uses the pool."""
    for protocol in protocols:
        for key in _LACKS.get(protocol, {}).keys() & pool.keys.keys():
            text = f"{protocol} {_LACKS[protocol][key]}, and a listener of {protocol} uses this pool"
            yield pool.mistake(text, key, at_key=True)


def _about_sessions(pool: _Part, protocols: list[str]) -> Iterator[Mistake]:
    """Every protocol that uses the pool must have what tells its sessions."""
    sticky = pool.keys.get("sticky")
    written = sticky if isinstance(sticky, dict) else {}
    if written.get("header") is True and protocols and "http" not in protocols:
        text = "only HTTP answers have a head, and no listener of http uses this pool"
        yield pool.mistake(text, "sticky", "header", at_key=True)
    for protocol in protocols:
        if written.get("type") == "cookie" and protocol != "http":
            yield pool.mistake(
                f"{protocol} has no cookies, and a listener of {protocol} uses this pool", "sticky", "type"
            )
        for key in ("variables", "create", "lookup"):
            for place, text in _Part(pool.document, key, (), written).items(key):
                answered = key == "create"
                mistake = check_variable(str(text), protocol, answered=answered)
                if mistake and not check_variable(str(text), answered=answered):
                    yield pool.mistake(f"{mistake}, and a listener of {protocol} uses this pool", "sticky", key, place)


def _below(pool: _Part, part: str, key: str) -> object:
    mapping = pool.keys.get(part)
    return mapping.get(key) if isinstance(mapping, dict) else None


def _pools_of(listener: _Part) -> Iterator[str]:
    """The names of the pools that a listener uses."""
    routes = [route for _, route in listener.items("routes")]
    for holder in (listener.keys, *routes):
        name = holder.get("pool") if isinstance(holder, dict) else None
        if isinstance(name, str):
            yield name


def _unknown_pools(listeners: Iterable[_Part], known: set[str]) -> Iterator[Mistake]:
    for listener in listeners:
        routes = [(("routes", place, "pool"), route) for place, route in listener.items("routes")]
        for below, holder in [(("pool",), listener.keys), *routes]:
            name = holder.get("pool") if isinstance(holder, dict) else None
            if isinstance(name, str) and name and name not in known:
                yield listener.mistake(f"unknown pool {quoted(name)}{did_you_mean(name, sorted(known))}", *below)


def _same_address(listeners: Iterable[_Part]) -> Iterator[Mistake]:
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


def _loops(listeners: Iterable[_Part], pools: Mapping[str, _Part]) -> Iterator[Mistake]:
    """A server that is the listener itself would be asked by itself, again and again, until no descriptor is left.

    Listeners that lead to others are fine.
    """
    for listener in listeners:
        for name in dict.fromkeys(_pools_of(listener)):
            for mine in _listens(listener) if name in pools else ():
                yield from _asks_itself(mine, pools[name])


def _asks_itself(listen: _Listen, pool: _Part) -> Iterator[Mistake]:
    for place, server in pool.items("servers"):
        written = server.get("address") if isinstance(server, dict) else server
        try:
            address = scalars.server_place(written, pool.document.folder)
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


def _listens(listener: _Part) -> Iterator[_Listen]:
    for place, written in listener.items("listen"):
        try:
            yield _Listen(listener, place, scalars.listen_address(written, listener.document.folder))
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
