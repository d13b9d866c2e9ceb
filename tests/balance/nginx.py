"""nginx's own round robin, least_conn, least_time, hash and failure accounting, as plain as possible: the tests' oracle.

After ngx_http_upstream_round_robin.c, except that every try looks at the primaries first, a retry too; nginx stays with the
backups for the rest of the request.

Where news overlap (a verdict that comes after a later lease was given) pylb means something else; do not ask here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from fractions import Fraction
from math import inf
from zlib import crc32

from pylb.balance.server import Server
from tests.balance.fakes import host


class Peer:
    """One server as nginx keeps it."""

    def __init__(self, server: Server, single: bool) -> None:
        self.name = host(server)
        self.weight = self.effective = server.spec.weight
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

    def gain(self) -> int:
        """Take part in a round; what it gained."""
        gained = self.effective
        self.current += gained
        self.effective = min(self.weight, gained + 1)
        return gained

    def fail(self) -> None:
        if self.max_fails:
            self.effective = max(0, self.effective - self.weight // self.max_fails)


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
            total += peer.gain()
            if best is None or peer.current > best.current:
                best = peer
        if best is None:
            return None
        best.current -= total
        return self._given(best, now)

    def _given(self, best: Peer, now: float) -> Peer:
        if now - best.checked > best.fail_timeout:
            best.checked = now
        best.conns += 1
        return best

    def verdict(self, peer: Peer, failed: bool, now: float) -> None:
        """The first half of nginx's `free`."""
        if failed:
            peer.fails += 1
            peer.fail()
            peer.accessed = peer.checked = now
        elif peer.accessed < peer.checked:
            peer.fails = 0

    def free(self, peer: Peer) -> None:
        """The second half: the connection is gone."""
        peer.conns -= 1


class NginxLeastConn(Nginx):
    """The same with `least_conn`: after ngx_http_upstream_least_conn_module.c."""

    def load(self, peer: Peer, now: float) -> int:
        return peer.conns

    def _walk(self, peers: list[Peer], tried: Collection[str], now: float) -> Peer | None:
        loads = {peer: self.load(peer, now) for peer in peers if peer.name not in tried and peer.eligible(now)}
        best, many = None, False
        for peer, load in loads.items():
            if best is None or load * best.weight < loads[best] * peer.weight:
                best, many = peer, False
            elif load * best.weight == loads[best] * peer.weight:
                many = True
        if best is None:
            return None
        total, least = 0, Fraction(loads[best], best.weight)
        if many:
            for peer in [peer for peer, load in loads.items() if Fraction(load, peer.weight) == least]:
                total += peer.gain()
                if peer.current > best.current:
                    best = peer
        best.current -= total
        return self._given(best, now)


class NginxLeastTime(NginxLeastConn):
    """The same with `least_time`: after ngx_http_upstream_least_time_module.c.

    Times are seconds; with `inflight` the age of those under way counts as it is (nginx follows it with an average).
    """

    def __init__(self, servers: Sequence[Server], inflight: bool = False) -> None:
        super().__init__(servers)
        self.inflight = inflight
        self.average: Counter[Peer] = Counter()
        #: When the requests began that have not been measured yet.
        self.waiting: defaultdict[Peer, list[float]] = defaultdict(list)

    def measured(self, peer: Peer, seconds: float) -> None:
        sample, average = round(seconds * 1000), self.average[peer]
        self.average[peer] = int(0.5 + sample * 0.05 + average * 0.95) if average else sample

    def load(self, peer: Peer, now: float) -> int:
        time = self.average[peer]
        if now - peer.checked > peer.fail_timeout:
            time >>= int(min((now - peer.checked) / (peer.fail_timeout + 1), 64))
        if self.inflight and (began := self.waiting[peer]):
            time = max(time, int(1000 * (now - sum(began) / len(began))))
        return (5000 if time >= 5000 else time + 20 - time % 20) * (1 + peer.conns)


class NginxHash(Nginx):
    """The same with `hash`: after ngx_http_upstream_hash_module.c."""

    def tries(self, key: bytes) -> str:
        """The peers that one request tries until none is left; each is busy only while it is tried."""
        names, value, rehash, misses = "", 0, 0, 0
        slots = [peer for peer in self.primaries for _ in range(peer.weight)]
        while sum(not peer.down for peer in self.primaries) > len(names):
            if misses > 20:
                picked = self.get(names, 0.0)
                assert picked is not None
                names += picked.name
                continue
            value += crc32((str(rehash).encode() if rehash else b"") + key) >> 16 & 0x7FFF
            rehash += 1
            peer = slots[value % len(slots)]
            if peer.name in names or peer.down:
                misses += 1
            else:
                names += peer.name
        return names
