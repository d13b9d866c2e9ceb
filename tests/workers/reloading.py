"""A supervisor that is to serve another configuration, with workers that are not processes."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred

from pylb.model import (
    Config,
    InetAddress,
    PoolSpec,
    ServerSpec,
    StickyLearn,
    TcpListener,
)
from pylb.workers.sessions import Item
from pylb.workers.supervisor import Supervisor
from tests.functional.rig import free_port
from tests.workers.fakes import Mustered

LEARN = StickyLearn(create=("$remote_addr",), lookup=("$remote_addr",))
SERVER = ServerSpec(address=InetAddress("127.0.0.1", 9))
ITEM: Item = ("p", "aa" * 16, "127.0.0.1:9", 1.0, True)


def pool(name: str = "p", **more: Any) -> PoolSpec:
    return PoolSpec(**{"name": name, "servers": (SERVER,), **more})


class Reloaded(Mustered):
    def setUp(self) -> None:
        super().setUp()
        self.where = InetAddress("127.0.0.1", free_port())

    def config(self, *pools: PoolSpec, listen: Any = None, listener: Any = None, **more: Any) -> Config:
        asked = TcpListener(**{"name": "a", "listen": listen or (self.where,), "pool": "p", **(listener or {})})
        pools = pools or (pool(),)
        return Config(pools={each.name: each for each in pools}, **{"workers": 2, "listeners": {"a": asked}, **more})

    def begun(self, *pools: PoolSpec, **more: Any) -> Supervisor:
        self.made = Supervisor(self.config(*pools, **more), self.reactor, self.reactor.seconds)
        self.addCleanup(self.made.close)
        self.addCleanup(self.made._checks.stop)
        self.made.startService()
        self.come()
        return self.made

    def serving(self, *pools: PoolSpec, **more: Any) -> Supervisor:
        self.successResultOf(self.begun(*pools, **more).ready)
        return self.made

    def come(self) -> None:
        """All that do not serve yet do."""
        for child in list(self.started):
            if not child.serves:
                child.come()

    def reload(self, *pools: PoolSpec, **more: Any) -> Deferred[None]:
        return self.made.reload(self.config(*pools, **more))

    def reloaded(self, *pools: PoolSpec, **more: Any) -> None:
        done = self.reload(*pools, **more)
        self.come()
        self.successResultOf(done)

    def leave(self, children: list[Any]) -> None:
        """These have ended; nothing reminds of them."""
        for child in children:
            child.go()
            self.started.remove(child)

    def told(self) -> list[list[str]]:
        """The words that each was told that was ever started."""
        return [[word for word, *_ in child.told] for child in self.started]

    def sockets(self) -> list[list[socket.socket]]:
        return [[bound.socket for bound in row] for row in self.made._crew.estate.rows]

    def learned(self) -> list[Item]:
        return list(self.made.known(self.made.config)[0])
