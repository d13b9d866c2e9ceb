"""Which pool does a request go to?

- Hosts are compared without case, port and final dot: routes of exactly this host first, then of the longest `*.`
  wildcard (any depth below it, not the name itself), then those for any host.
- Within a host an exact path wins, then the first regex that is found in the path, then the longest prefix.  When nothing
  matches, the next less particular hosts are asked.
- The path is the target without its query, byte for byte as it was sent and as it goes on: nothing is decoded, and `//`
  is not `/`.  (Paths with dot segments never come here: the head parser refuses them.)  So routes share out work; they
  are no access control.
- `OPTIONS *`, which has no path, goes where `/` goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pylb.model import Route

__all__ = ["RouteTable", "fold_host"]


class RouteTable:
    """All routes of one listener."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._hosts: dict[bytes, _Paths] = {}
        self._wildcards: list[tuple[bytes, _Paths]] = []
        self._any = _Paths(())
        by_host: dict[bytes, list[Route]] = {}
        for route in routes:
            by_host.setdefault(fold_host((route.host or "").encode("idna")), []).append(route)
        for host, theirs in by_host.items():
            self._add(host, _Paths(theirs))
        self._wildcards.sort(key=lambda entry: -len(entry[0]))

    def _add(self, host: bytes, paths: _Paths) -> None:
        if not host:
            self._any = paths
        elif host.startswith(b"*."):
            self._wildcards.append((host[1:], paths))
        else:
            self._hosts[host] = paths

    def find(self, host: bytes, path: bytes) -> str | None:
        """The pool for a Host value (valid, or empty) and a path or `*`; None is a 404."""
        if path == b"*":
            path = b"/"
        if self._hosts or self._wildcards:
            host = fold_host(host)
            if (paths := self._hosts.get(host)) and (pool := paths.find(path)):
                return pool
            for suffix, paths in self._wildcards:
                if host.endswith(suffix) and (pool := paths.find(path)):
                    return pool
        return self._any.find(path)


class _Paths:
    """The routes of one host."""

    __slots__ = ("_exact", "_prefixes", "_regexes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[bytes, str] = {}
        self._regexes: list[tuple[re.Pattern[bytes], str]] = []
        prefixes: dict[bytes, str] = {}
        for route in routes:
            if route.exact is not None:
                self._exact.setdefault(route.exact.encode(), route.pool)
            elif route.regex is not None:
                self._regexes.append((re.compile(route.regex.encode()), route.pool))
            else:
                prefixes.setdefault((route.path or "/").encode(), route.pool)
        self._prefixes = sorted(prefixes.items(), key=lambda entry: -len(entry[0]))

    def find(self, path: bytes) -> str | None:
        if (pool := self._exact.get(path)) is not None:
            return pool
        for regex, pool in self._regexes:
            if regex.search(path):
                return pool
        for prefix, pool in self._prefixes:
            if path.startswith(prefix):
                return pool
        return None


def fold_host(host: bytes) -> bytes:
    """A host for comparison: lower case, without port and final dot."""
    if not host.endswith(b"]"):
        name, colon, _ = host.rpartition(b":")
        host = name if colon else host
    return host.lower().removesuffix(b".")
