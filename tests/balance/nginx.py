"""nginx's own round robin and failure accounting, written down as plainly as possible: the oracle of the random tests.

After ngx_http_upstream_round_robin.c, except where pylb differs by design:

- a failure does not lower the weight (nginx's `effective_weight`);
- every try looks at the primaries first, a retry too (nginx stays with the backups for the rest of the request).

Where news overlap (a verdict that comes after a later lease was given) pylb means something else; do not ask here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf

from pylb.balance.server import Server
from tests.balance.fakes import host


class Peer:
    """One server as nginx keeps it."""

    def __init__(self, server: Server, single: bool) -> None:
        self.name = host(server)
        self.weight = server.spec.weight
        self.down = server.spec.down
        self.max_conns = server.spec.max_conns
        self.max_fails = 0 if single else server.spec.max_fails
        self.fail_timeout = server.spec.fail_timeout
        self.current = self.conns = self.fails = 0
        self.accessed = self.checked = -inf

    def eligible(self, now: float) -> bool:
        if self.down:
            return False
        if self.max_fails and self.fails >= self.max_fails and now - self.checked <= self.fail_timeout:
            return False
        return not (self.max_conns and self.conns >= self.max_conns)


class Nginx:
    """An upstream block."""

    def __init__(self, servers: Sequence[Server]) -> None:
        peers = [(server.spec.backup, Peer(server, len(servers) == 1)) for server in servers]
        self.primaries = [peer for backup, peer in peers if not backup]
        self.backups = [peer for backup, peer in peers if backup]

    def get(self, tried: Collection[str], now: float) -> Peer | None:
        """The peer of the next try of a request that was at `tried` before; None is "no live upstreams"."""
        return self._walk(self.primaries, tried, now) or self._walk(self.backups, tried, now)

    def _walk(self, peers: list[Peer], tried: Collection[str], now: float) -> Peer | None:
        best, total = None, 0
        for peer in peers:
            if peer.name in tried or not peer.eligible(now):
                continue
            peer.current += peer.weight
            total += peer.weight
            if best is None or peer.current > best.current:
                best = peer
        if best is None:
            return None
        best.current -= total
        if now - best.checked > best.fail_timeout:
            best.checked = now
        best.conns += 1
        return best

    def verdict(self, peer: Peer, failed: bool, now: float) -> None:
        """The first half of nginx's `free`."""
        if failed:
            peer.fails += 1
            peer.accessed = peer.checked = now
        elif peer.accessed < peer.checked:
            peer.fails = 0

    def free(self, peer: Peer) -> None:
        """The second half: the connection is gone."""
        peer.conns -= 1
