"""What does it cost to choose a server?  Microseconds of one `acquire` with its `release`, for each method and size.

    python bench/pick.py

The best of several runs on this machine, in this process; every server is usable and weights 1, 2 and 3 are mixed.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, perf_counter

from pylb.balance.pool import Pool
from pylb.balance.server import Server
from pylb.model import Balance, InetAddress, PoolSpec, ServerSpec

SIZES = (10, 100, 1_000, 10_000)
WAYS = {
    "round_robin": Balance(),
    "least_conn": Balance(method="least_conn"),
    "random": Balance(method="random"),
    "random two": Balance(method="random", two="least_conn"),
    "hash": Balance(method="hash", key="$remote_addr"),
    "hash consistent": Balance(method="hash", key="$remote_addr", consistent=True),
    "ip_hash": Balance(method="ip_hash"),
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


def make_pool(balance: Balance, count: int) -> Pool:
    return Pool(PoolSpec(name="bench", servers=(), balance=balance), make_servers(count), monotonic)


def best(run: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(times):
        started = perf_counter()
        run()
        seconds.append(perf_counter() - started)
    return min(seconds)


def request_cost(pool: Pool) -> float:
    requests = [Number(number) for number in range(REQUESTS)]

    def run() -> None:
        for request in requests:
            pool.acquire(request).release()

    return best(run, RUNS) / REQUESTS * 1e6


def main() -> None:
    print(f"{'us':16}" + "".join(f"{size:>9,}" for size in SIZES) + "    made at 10,000 in")
    for name, balance in WAYS.items():
        costs = [request_cost(make_pool(balance, size)) for size in SIZES]
        made = best(lambda: make_pool(balance, SIZES[-1]), 2)  # noqa: B023
        print(f"{name:16}" + "".join(f"{cost:9.2f}" for cost in costs) + f"{made * 1000:14,.0f} ms", flush=True)


if __name__ == "__main__":
    main()
