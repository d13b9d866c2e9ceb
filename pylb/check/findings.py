"""What did somebody else's checks find?

Where several processes serve, one checks, and tells the others.  These know it of every server by its pool and its address,
also of those that their names have not brought yet, as long as the one that checks has it: for one that comes back to it
nothing holds that was found before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pylb.balance.members import Members
from pylb.balance.server import Checked, Server, Switch

__all__ = ["Finding", "Findings", "finding"]


class Finding(NamedTuple):
    """What there is to know of one server."""

    pool: str
    server: str
    checked: Checked
    switch: Switch
    share: float


def finding(pool: Members, server: Server) -> Finding:
    """What is known of it here."""
    return Finding(pool.name, server.name, server.checked, server.switch, server.share)


class Findings:
    """In the place of a `Monitor`: tells the pools what it is told, beginning with `known`."""

    def __init__(self, pools: Mapping[str, Members], known: Iterable[Finding] = ()) -> None:
        self._pools = pools
        self._known: dict[tuple[str, str], Finding] = {}
        #: Of each pool: its servers as they were when they were looked at, and by their names.
        self._servers: dict[str, tuple[list[Server], dict[str, list[Server]]]] = {}
        for each in known:
            self.hear(each)

    def hear(self, news: Finding) -> None:
        """Another server, or the same one anew."""
        pool = self._pools.get(news.pool)
        if pool is None or not pool.spec.health_check:
            return  # It is so in another configuration, which comes or goes.
        self._known[news.pool, news.server] = news
        for server in self._named(pool).get(news.server, ()):
            _tell(pool, server, news)

    def forget(self, pool: str, server: str) -> None:
        """Nobody checks it any more.  While it is here still it is what it was found to be last."""
        self._known.pop((pool, server), None)

    def follow(self, pool: Members) -> None:
        """Tell `pool` of the servers that it has now."""
        for server in pool.servers:
            if (news := self._known.get((pool.name, server.name))) is not None:
                _tell(pool, server, news)

    def start(self, before: Findings | None = None) -> None:
        """Nothing begins here."""

    def exchange(self, pool: Members, other: Members) -> None:
        """Pools go by their names here."""

    def stop(self) -> None:
        """Nothing ends here."""

    def _named(self, pool: Members) -> Mapping[str, Iterable[Server]]:
        """The servers of `pool` by their names."""
        seen, named = self._servers.get(pool.name, (None, {}))
        if seen is not pool.servers:  # A pool that has others has another list.
            named = {}
            for server in pool.servers:
                named.setdefault(server.name, []).append(server)
            self._servers[pool.name] = pool.servers, named
        return named


def _tell(pool: Members, server: Server, news: Finding) -> None:
    pool.switch(server, news.switch)
    pool.reweigh(server, news.share)
    pool.checked(server, news.checked, "")
