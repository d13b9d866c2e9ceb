"""Servers by one letter, pools on a clock that stands still, and an observer that remembers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock

from pylb.balance.colleagues import Colleagues
from pylb.balance.health import Change
from pylb.balance.pool import Pool
from pylb.balance.server import Server
from pylb.model import Balance, InetAddress, PoolSpec, ServerSpec

LETTERS = "abcdefgh"


def server_spec(host: str, weight: int = 1, **asked: Any) -> ServerSpec:
    return ServerSpec(address=InetAddress(host, 80), weight=weight, **asked)


def make_server(host: str, weight: int = 1, **asked: Any) -> Server:
    return Server(server_spec(host, weight, **asked))


def make_servers(*weights: int) -> list[Server]:
    """Servers a, b, c ... of these weights."""
    return [make_server(letter, weight) for letter, weight in zip(LETTERS, weights, strict=False)]


def ready(method: Any, servers: Iterable[Server]) -> Any:
    """The method, with all of its servers usable."""
    for server in servers:
        method.add(server)
    return method


def host(server: Server) -> str:
    """The letter that the server was made with."""
    return server.name.partition(":")[0]


class Heard:
    """A PoolObserver that keeps what it heard, one line each."""

    def __init__(self) -> None:
        self.news: list[str] = []

    def server_changed(self, pool: Pool, server: Server, change: Change, reason: str) -> None:
        self.news.append(f"{host(server)} {change.value}: {reason}")

    def pool_changed(self, pool: Pool, usable: bool, reason: str) -> None:
        self.news.append(f"{pool.name} {'usable' if usable else 'unusable'}: {reason}")

    def panic_changed(self, pool: Pool, panics: bool, reason: str) -> None:
        self.news.append(f"{pool.name} {'in panic' if panics else 'calm'}: {reason}")

    def method_broke(self, pool: Pool, error: Exception) -> None:
        self.news.append(f"{pool.name} broken: {error!r}")


class Bench:
    """A pool on its own clock, driven by one-letter names."""

    def __init__(
        self,
        *servers: Server,
        balance: str | Balance = "round_robin",
        clock: Clock | None = None,
        colleagues: Colleagues | None = None,
        name: str = "web",
        **asked: Any,
    ) -> None:
        """`asked` is what else the pool's spec says."""
        self.clock = clock or Clock()
        self.heard = Heard()
        # No server: what the specs say is in the servers already.
        spec = PoolSpec(
            name=name,
            servers=(),
            balance=balance if isinstance(balance, Balance) else Balance(method=balance),
            **asked,
        )
        self.pool = Pool(spec, servers, self.clock.seconds, self.heard, colleagues=colleagues)

    def renew(self, *servers: Server, **asked: Any) -> dict[Server, Server]:
        """Other servers, and what is `asked` beside what was; as in earnest another pool has had them till now."""
        draft = Pool(replace(self.pool.spec, **asked), servers, self.clock.seconds)
        return self.pool.renew(draft.spec, draft.servers)

    def again(self, **asked: Any) -> dict[Server, Server]:
        """The same servers, and what is `asked`."""
        return self.renew(*(Server(server.spec) for server in self.pool.servers), **asked)

    @property
    def states(self) -> list[str]:
        """Of all servers, in one word each."""
        return [server.state(self.clock.seconds()) for server in self.pool.servers]

    def server(self, letter: str) -> Server:
        return next(server for server in self.pool.servers if host(server) == letter)

    def serve(self, count: int) -> str:
        """Who serves `count` requests, one after the other, all of them well."""
        return "".join(self._serve_one() for _ in range(count))

    def _serve_one(self) -> str:
        lease = self.pool.acquire()
        lease.succeeded()
        lease.release()
        return host(lease.server)

    def fail(self, letters: Iterable[str]) -> None:
        """Let one request fail at each of `letters`; whoever else is asked on the way serves well."""
        for letter in letters:
            lease = self.pool.acquire()
            while host(lease.server) != letter:
                lease.succeeded()
                lease.release()
                lease = self.pool.acquire()
            lease.failed("refused")
            lease.release()
