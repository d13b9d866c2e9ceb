"""What must a pool have, or not have, for the protocols of those that use it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pylb.config.mistakes import Mistake
from pylb.config.parts import Part, is_unix, protocols
from pylb.model import MOMENTS
from pylb.variables import check_key, check_variable
from pylb.words import quoted

__all__ = ["about_use"]

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


def about_use(listeners: list[Part], pools: list[Part]) -> Iterator[Mistake]:
    """Mistakes between pools and the listeners that use them."""
    users = protocols(listeners)
    yield from _about_udp(listeners, {pool.name: pool for pool in pools})
    yield from _about_keys(pools, users)
    yield from _about_metrics(listeners, pools, users)
    for pool in pools:
        yield from _about_failures(pool, sorted(users[pool.name]))
        yield from _about_sessions(pool, sorted(users[pool.name]))


def _about_udp(listeners: Iterable[Part], pools: dict[str, Part]) -> Iterator[Mistake]:
    for listener in listeners:
        pool = pools.get(str(listener.keys.get("pool")))
        if pool is None or listener.keys.get("protocol") != "udp":
            continue
        if any(is_unix(server) for _, server in pool.items("servers")):
            text = f"the pool {quoted(pool.name)} has a Unix socket, which is a stream and takes no datagrams"
            yield listener.mistake(text, "pool")
        if "tls" in pool.keys:
            yield listener.mistake(f'the pool {quoted(pool.name)} has "tls", which is for streams', "pool")


def _about_keys(pools: Iterable[Part], users: Mapping[str, set[str]]) -> Iterator[Mistake]:
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
    listeners: Iterable[Part], pools: Iterable[Part], users: Mapping[str, set[str]]
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


def _about_failures(pool: Part, protocols: list[str]) -> Iterator[Mistake]:
    """What is not for every protocol must not be set where one that lacks it uses the pool."""
    for protocol in protocols:
        for key in _LACKS.get(protocol, {}).keys() & pool.keys.keys():
            text = f"{protocol} {_LACKS[protocol][key]}, and a listener of {protocol} uses this pool"
            yield pool.mistake(text, key, at_key=True)


def _about_sessions(pool: Part, protocols: list[str]) -> Iterator[Mistake]:
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
            for place, text in Part(pool.document, key, (), written).items(key):
                answered = key == "create"
                mistake = check_variable(str(text), protocol, answered=answered)
                if mistake and not check_variable(str(text), answered=answered):
                    yield pool.mistake(f"{mistake}, and a listener of {protocol} uses this pool", "sticky", key, place)


def _below(pool: Part, part: str, key: str) -> object:
    mapping = pool.keys.get(part)
    return mapping.get(key) if isinstance(mapping, dict) else None
