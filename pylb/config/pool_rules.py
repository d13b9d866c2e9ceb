"""What must the keys of one pool agree on?"""

from __future__ import annotations

from collections.abc import Iterator

from pylb.config import scalars
from pylb.config.mistakes import Mistake
from pylb.config.parts import Part, is_unix
from pylb.model import Outlier
from pylb.words import quoted

__all__ = ["about_pool"]

#: The most that the weights of a consistent hash come to: 8 million points, 64 MB, and some 6 s to make.
_LARGEST_RING = 50_000
#: The methods that cannot let a share grow, and what it is with them that names a server.
_NO_SLOW_START = {"hash": "key", "ip_hash": "address", "maglev": "key", "first": "order"}


def about_pool(pool: Part) -> Iterator[Mistake]:
    """Mistakes within one pool."""
    servers = [server for _, server in pool.items("servers")]
    if servers and all(isinstance(server, dict) and server.get("backup") is True for server in servers):
        yield pool.mistake("every server is a backup, there is none to be a backup for", "servers")
    yield from _about_slow_start(pool)
    yield from _about_ring(pool)
    yield from _about_outliers(pool)
    yield from _about_ejection_times(pool)
    yield from _about_retries(pool)
    yield from _about_checks(pool)
    yield from _same_route(pool)
    tls = pool.keys.get("tls")
    unnamed = isinstance(tls, dict) and tls.get("verify") is not False and "server_name" not in tls
    if unnamed and any(map(is_unix, servers)):
        yield pool.mistake('"server_name" is missing: a Unix socket has no name to verify', "tls")


def _about_outliers(pool: Part) -> Iterator[Mistake]:
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


def _about_ejection_times(pool: Part) -> Iterator[Mistake]:
    """Pauses grow from the first to the longest."""
    outlier = pool.keys.get("outlier")
    if not isinstance(outlier, dict):
        return
    usual = Outlier()
    first = _seconds(outlier.get("base_ejection_time", usual.base_ejection_time))
    longest = _seconds(outlier.get("max_ejection_time", usual.max_ejection_time))
    if first is not None and longest is not None and longest < first:
        key, unless = (
            ("max_ejection_time", "") if "max_ejection_time" in outlier else ("base_ejection_time", " by default")
        )
        text = (
            f'"max_ejection_time" is {longest:g} s{unless}, less than "base_ejection_time", {first:g} s: make it longer'
        )
        yield pool.mistake(text, "outlier", key)


def _about_retries(pool: Part) -> Iterator[Mistake]:
    """One limit or the other."""
    if "retry_budget" in pool.keys and "max_retries" in pool.keys:
        yield pool.mistake('"retry_budget" takes the place of max_retries: leave one out', "max_retries", at_key=True)


def _about_ring(pool: Part) -> Iterator[Mistake]:
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


def _about_checks(pool: Part) -> Iterator[Mistake]:
    """Unix sockets have no ports and take no datagrams."""
    if not any(is_unix(server) for _, server in pool.items("servers")):
        return
    checks = pool.keys.get("health_check")
    for place, check in enumerate(checks if isinstance(checks, list) else [checks]):
        below = ("health_check", place) if isinstance(checks, list) else ("health_check",)
        if isinstance(check, dict) and "port" in check:
            yield pool.mistake("a server of this pool is a Unix socket, which has no other port", *below, "port")
        elif isinstance(check, dict) and check.get("type") == "udp":
            yield pool.mistake("a server of this pool is a Unix socket, which takes no datagrams", *below, "type")


def _about_slow_start(pool: Part) -> Iterator[Mistake]:
    balance = pool.keys.get("balance")
    method = balance.get("method") if isinstance(balance, dict) else balance
    by = _NO_SLOW_START.get(method) if isinstance(method, str) else None
    for place, server in pool.items("servers") if by else ():
        if isinstance(server, dict) and _lasts(server.get("slow_start")):
            text = f'no "slow_start" with the method {method}: the {by} alone says which server it is, so no share can grow'
            yield pool.mistake(text, "servers", place, "slow_start")


def _same_route(pool: Part) -> Iterator[Mistake]:
    """Sessions of a route could not tell two servers apart; the addresses of one name may share theirs."""
    first: dict[str, int] = {}
    for place, server in pool.items("servers"):
        route = server.get("route") if isinstance(server, dict) else None
        if isinstance(route, str) and first.setdefault(route, place) != place:
            before = pool.document.where((*pool.path, "servers", first[route], "route"))
            yield pool.mistake(f"the route {quoted(route)} is taken, at {before}", "servers", place, "route")


def _lasts(written: object) -> bool:
    return (_seconds(written) or 0.0) > 0


def _seconds(written: object) -> float | None:
    """A duration; None if it is none, which is told elsewhere."""
    try:
        return scalars.duration(written)
    except ValueError:
        return None
