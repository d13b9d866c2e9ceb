"""What does it cost to choose a server?  Microseconds of one `acquire` with its `release`, for each method and size.

    python bench/pick.py [METHOD ...]

The best of several runs on this machine, in this process; every server is usable, weights 1, 2 and 3 are mixed, and so are
the times that servers need.  Beside that: two workers that share a scoreboard, a request of each in turn; and nginx's
round_robin and least_conn, which walk through all servers, written in Python as plainly as can be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter

# A checkout measures itself, wherever it is and whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pylb.balance.colleagues import Colleagues
from pylb.balance.methods import IWatchesTime
from pylb.balance.methods.least_time import LeastTime
from pylb.balance.methods.random import RandomTwoByTime
from pylb.balance.pool import Pool
from pylb.balance.scoreboard import Scoreboard
from pylb.balance.server import Server
from pylb.model import Balance, InetAddress, PoolSpec, ServerSpec

SIZES = (10, 100, 1_000, 10_000)
KEY = "$remote_addr"
WAYS = {
    "round_robin": Balance(),
    "least_conn": Balance(method="least_conn"),
    "ip_hash": Balance(method="ip_hash"),
    "hash": Balance(method="hash", key=KEY),
    "hash consistent": Balance(method="hash", key=KEY, consistent=True),
    "hash consistent, bounded": Balance(method="hash", key=KEY, consistent=True, bounded_load=1.25),
    "random": Balance(method="random"),
    "random two": Balance(method="random", two="least_conn"),
    "random two least_time": Balance(method="random", two="least_time", metric="header"),
    "least_time": Balance(method="least_time", metric="header"),
    "least_time inflight": Balance(method="least_time", metric="header", inflight=True),
    "peak_ewma": Balance(method="peak_ewma", metric="header"),
    "maglev": Balance(method="maglev", key=KEY),
    "maglev, bounded": Balance(method="maglev", key=KEY, bounded_load=1.25),
    "first": Balance(method="first"),
}
RUNS = 7
REQUESTS = 20_000


def make_servers(count: int) -> list[Server]:
    hosts = (f"10.0.{number >> 8}.{number & 255}" for number in range(count))
    return [Server(ServerSpec(address=InetAddress(host, 80), weight=1 + n % 3)) for n, host in enumerate(hosts)]


class Number:
    """A request: the address of its client says which one it is."""

    __slots__ = ("address",)

    def __init__(self, number: int) -> None:
        self.address = b"10.%d.%d.1" % (number >> 8 & 255, number & 255)

    def variable(self, name: str) -> bytes:
        return self.address


class Peer:
    """A server as nginx keeps it."""

    __slots__ = ("conns", "current", "effective", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = self.effective = weight
        self.current = self.conns = 0


def smooth(peers: list[Peer]) -> Peer:
    """nginx's round robin."""
    best, total = peers[0], 0
    for peer in peers:
        peer.current += peer.effective
        total += peer.effective
        if peer.effective < peer.weight:
            peer.effective += 1
        if peer.current > best.current:
            best = peer
    best.current -= total
    return best


def fewest(peers: list[Peer]) -> Peer:
    """nginx's least_conn."""
    best = peers[0]
    for peer in peers:
        if peer.conns * best.weight < best.conns * peer.weight:
            best = peer
    return smooth([peer for peer in peers if peer.conns * best.weight == best.conns * peer.weight])


LOOPS = {"nginx's loop: round_robin": smooth, "nginx's loop: least_conn": fewest}


def make_pool(balance: Balance, count: int, colleagues: Colleagues | None = None) -> Pool:
    spec = PoolSpec(name="bench", servers=(), balance=balance)
    return Pool(spec, make_servers(count), monotonic, colleagues=colleagues)


def make_pools(balance: Balance, count: int, workers: int) -> list[Pool]:
    """As they are in so many workers."""
    if workers == 1:
        return [make_pool(balance, count)]
    memory = memoryview(bytearray(Scoreboard.size(workers, count)))
    board = Scoreboard.lay_out(memory, workers, count)
    return [make_pool(balance, count, Colleagues(board, row)) for row in range(workers)]


def spread_times(pool: Pool) -> None:
    """Let every server of a method that cares have needed a time of its own, up to two seconds."""
    method, now = pool._tiers[0].method, monotonic()
    if not IWatchesTime.providedBy(method):
        return
    for number, server in enumerate(pool.servers):
        if isinstance(method, LeastTime | RandomTwoByTime):
            method.paces[server].chosen(now)
        method.measured(server, number * 37 % 2000 / 1000, now)


def best_of(runs: int, run: Callable[[], object]) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(runs):
        started = perf_counter()
        run()
        seconds.append(perf_counter() - started)
    return min(seconds)


def pool_cost(balance: Balance, size: int, workers: int = 1) -> float:
    pools = make_pools(balance, size, workers)
    for pool in pools:
        spread_times(pool)
    requests = [Number(number) for number in range(REQUESTS)]

    def run() -> None:
        for request in requests:
            for pool in pools:
                pool.acquire(request).release()

    return best_of(RUNS, run) / REQUESTS / workers * 1e6


def loop_cost(choose: Callable[[list[Peer]], Peer], size: int) -> float:
    peers = [Peer(1 + number % 3) for number in range(size)]
    requests = max(REQUESTS // size, 10)

    def run() -> None:
        for _ in range(requests):
            peer = choose(peers)
            peer.conns += 1
            peer.conns -= 1

    return best_of(RUNS, run) / requests * 1e6


def row(name: str, costs: list[float], made: float | None = None) -> str:
    cells = "".join(f"{cost:9.2f}" for cost in costs)
    return f"{name:26}{cells}{costs[-1] / costs[0]:9.1f}" + ("" if made is None else f"{made * 1000:12,.0f} ms")


def main(*asked: str) -> None:
    sizes = "".join(f"{size:>9,}" for size in SIZES)
    print(f"{'us, among so many servers':26}{sizes}    ratio   made at 10,000 in")
    for name, balance in WAYS.items():
        if not asked or balance.method in asked:
            made = best_of(2, lambda: make_pool(balance, SIZES[-1]))  # noqa: B023
            print(row(name, [pool_cost(balance, size) for size in SIZES], made), flush=True)
    if not asked or "least_conn" in asked:
        print(row("least_conn, two workers", [pool_cost(WAYS["least_conn"], size, workers=2) for size in SIZES]))
    for name, choose in LOOPS.items():
        if not asked or name.split()[-1] in asked:
            print(row(name, [loop_cost(choose, size) for size in SIZES]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
