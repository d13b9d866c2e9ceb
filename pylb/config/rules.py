"""What must the parts of a configuration agree on?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from pylb.config.document import Document
from pylb.config.mistakes import Mistake
from pylb.config.parts import Part, parts_of
from pylb.config.pool_rules import about_pool
from pylb.config.socket_rules import loops, same_address
from pylb.config.use_rules import about_use
from pylb.words import did_you_mean, quoted

__all__ = ["disagreements"]


def disagreements(documents: list[Document], complete: bool) -> Iterator[Mistake]:
    """Mistakes between parts.  If some file could not be read (not `complete`), nothing is called missing."""
    pools = list(parts_of(documents, "pools"))
    listeners = list(parts_of(documents, "listeners"))
    yield from _defined_twice(pools)
    yield from _defined_twice(listeners)
    yield from chain.from_iterable(map(about_pool, pools))
    yield from chain.from_iterable(map(_about_http, listeners))
    yield from about_use(listeners, pools)
    yield from same_address(listeners)
    yield from loops(listeners, {pool.name: pool for pool in pools})
    if complete:
        yield from _unknown_pools(listeners, {pool.name for pool in pools})
        if not any(document.tree.get("listeners") for document in documents):
            yield documents[0].mistake(("listeners",), "no listeners, nothing would be served")


def _defined_twice(parts: Iterable[Part]) -> Iterator[Mistake]:
    """Within one file a second key of one name is found on reading."""
    first: dict[str, Part] = {}
    for part in parts:
        before = first.setdefault(part.name, part)
        if before is not part:
            yield part.mistake(
                f"defined twice, first at {before.document.where(before.path, at_key=True)}", at_key=True
            )


def _about_http(listener: Part) -> Iterator[Mistake]:
    if listener.keys.get("protocol") != "http":
        return
    written = [key for key in ("pool", "routes") if key in listener.keys]
    if not written:
        yield listener.mistake('"routes" is missing (or "pool", for all requests)')
    if len(written) == 2:
        yield listener.mistake('"pool" is short for one route; write "pool" or "routes", not both', "pool", at_key=True)
    yield from _about_routes(listener)


def _about_routes(listener: Part) -> Iterator[Mistake]:
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


def _unknown_pools(listeners: Iterable[Part], known: set[str]) -> Iterator[Mistake]:
    for listener in listeners:
        routes = [(("routes", place, "pool"), route) for place, route in listener.items("routes")]
        for below, holder in [(("pool",), listener.keys), *routes]:
            name = holder.get("pool") if isinstance(holder, dict) else None
            if isinstance(name, str) and name and name not in known:
                yield listener.mistake(f"unknown pool {quoted(name)}{did_you_mean(name, sorted(known))}", *below)
