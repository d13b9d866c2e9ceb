"""What did somebody else's checks find?

Where several processes serve, one checks, and tells the others.  These know it of every server by its pool and its address,
also of those that their names have not brought yet.
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
        for each in known:
            self.hear(each)

    def hear(self, news: Finding) -> None:
        """Another server, or the same one anew."""
        self._known[news.pool, news.server] = news
        self.follow(self._pools[news.pool], news.server)

    def follow(self, pool: Members, only: str | None = None) -> None:
        """Tell `pool` of the servers that it has now."""
        for server in pool.servers:
            if only in (None, server.name) and (news := self._known.get((pool.name, server.name))) is not None:
                pool.switch(server, news.switch)
                pool.reweigh(server, news.share)
                pool.checked(server, news.checked, "")

    def start(self) -> None:
        """Nothing begins here."""

    def stop(self) -> None:
        """Nothing ends here."""
