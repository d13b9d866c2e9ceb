"""pylb in the test's process, over real sockets, in a time that passes by the turns of the reactor.

On a busy machine a turn takes longer, and nothing else changes: who answers does so within a few turns, and is never late.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import Clock
from zope.interface import alsoProvides

from pylb import service
from pylb.balance.health import Change
from pylb.balance.members import Members
from pylb.balance.server import Server
from pylb.config import from_dict
from pylb.model import Certificate as CertificateSpec
from pylb.model import ListenerTLS
from pylb.proxy.tls import ServerTLS
from pylb.service import LoadBalancer
from tests.backends import until
from tests.functional.rig import Rig, all_at_once, free_port

__all__ = ["LENGTH", "Answer", "Client", "Hedged", "News", "OnTwisted", "OverTLS", "Request", "Turning", "TurningRig"]

#: A number, and what is sent, in pieces.
Request: TypeAlias = "tuple[int, tuple[bytes, ...]]"

#: Of the access log.
LOG = "$request_uri $status tries=$upstream_status connects=$upstream_connect_time"
#: In a head.
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)")
#: The least that a turn lasts, in seconds, so that those in which nothing happens do not outrun the kernel.
TURN = 0.001


class Turning(Clock):
    """The reactor with another time, of which `step` seconds pass at each turn."""

    def __init__(self, step: float, polls: bool) -> None:
        """If it `polls` pylb's streams serve over it, else Twisted's transports."""
        super().__init__()
        self.step = step
        self._next: IDelayedCall | None = None
        if polls:
            alsoProvides(self, IReactorFDSet)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def start(self) -> None:
        self._next = reactor.callLater(TURN, self._turn)

    def stop(self) -> None:
        self._next.cancel()

    def _turn(self) -> None:
        self.start()
        self.advance(self.step)


class News:
    """A PoolObserver that keeps what becomes of each server, and what becomes of the pool, which should be nothing."""

    def __init__(self) -> None:
        self.changes: defaultdict[str, list[Change]] = defaultdict(list)
        self.of_pool: list[str] = []

    def server_changed(self, pool: Members, server: Server, change: Change, reason: str) -> None:
        self.changes[server.name].append(change)

    def pool_changed(self, pool: Members, usable: bool, reason: str) -> None:
        self.of_pool.append(reason)

    def panic_changed(self, pool: Members, panics: bool, reason: str) -> None:
        self.of_pool.append(reason)


class Answer(NamedTuple):
    """What a client got; `status` 0: the connection ended before the answer was whole."""

    status: int
    body: bytes


class Client(Protocol):
    """Asks one request after the other."""

    def __init__(self) -> None:
        #: Whether another request may be asked.
        self.usable = True
        self.lost = False
        #: What has come beyond the answers.
        self.heard = b""
        self._waiting: Deferred[Answer] | None = None

    async def ask(self, pieces: Iterable[bytes]) -> Answer:
        """The answer to a request that is sent in pieces, one a turn."""
        waiting = self._waiting = Deferred()
        for piece in pieces:
            self.transport.write(piece)
            await turn()
        return await waiting

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        head, end, body = self.heard.partition(b"\r\n\r\n")
        size = int(LENGTH.search(head)[1]) if end else 0
        if self._waiting is not None and end and len(body) >= size:
            self.heard = body[size:]
            self.usable = not self.heard and b"\r\nConnection: close" not in head
            self._tell(Answer(int(head.split()[1]), body[:size]))

    def connectionLost(self, reason: object = None) -> None:
        self.usable, self.lost = False, True
        if self._waiting is not None:
            self.heard = b""
            self._tell(Answer(0, b""))

    def _tell(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        waiting.callback(answer)


def turn() -> Deferred[None]:
    """Let the reactor go round once."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done


class TurningRig(Rig):
    """One listener, `web`, and one pool, `p`."""

    timeout = 110
    #: Whether pylb's streams serve.
    POLLS = True
    #: Seconds a turn; whoever answers does so within a few.
    STEP = 0.001
    CLIENTS = 36
    #: What the configuration says of the pool.
    POOL: Mapping[str, object] = MappingProxyType({})

    def setUp(self) -> None:
        super().setUp()
        self.time = Turning(self.STEP, self.POLLS)
        self.time.start()
        self.addCleanup(self.time.stop)
        self.news = News()
        self.patch(service, "Fortunes", lambda orders: self.news)
        self.log = self.folder / "access.log"

    async def begin(self, servers: Iterable[object], listener: dict[str, Any], **pool: object) -> None:
        """Serve; `servers`, `pool` and `listener` are as in the configuration."""
        config = {
            "access_log": {"path": str(self.log), "format": LOG},
            "pools": {"p": {"servers": list(servers), **self.POOL, **pool}},
            "listeners": {"web": {"protocol": "http", "listen": f"127.0.0.1:{free_port()}", "pool": "p", **listener}},
        }
        self.balancer = LoadBalancer(from_dict(config), self.time, self.time.seconds)
        self.pool = self.balancer.pools["p"]
        self.addCleanup(self.end)
        self.balancer.startService()
        await self.balancer.ready
        self.port = self.balancer.addresses("web")[0].port

    async def end(self) -> None:
        """Stop; nothing is left."""
        if not self.balancer.running:
            return
        stopped = self.balancer.stopService()
        self.balancer.abort()
        await stopped
        self.assertEqual([server.active for server in self.pool.servers], [0] * len(self.pool.servers))
        self.assertEqual(self.news.of_pool, [])
        await until(lambda: not self.time.getDelayedCalls())

    async def ask(self, requests: Iterable[Request]) -> dict[int, Answer]:
        """The answers to numbered requests, which many clients ask side by side; nothing else may come to them."""
        answers: dict[int, Answer] = {}
        clients: list[Client] = []
        queue = iter(requests)
        await all_at_once(self._ask_on(queue, answers, clients) for _ in range(self.CLIENTS))
        for client in clients:
            client.transport.loseConnection()
        await until(lambda: all(client.lost for client in clients))
        self.assertEqual([client.heard for client in clients if client.heard], [])
        return answers

    async def _ask_on(self, queue: Iterator[Request], answers: dict[int, Answer], clients: list[Client]) -> None:
        """Over one connection after the other."""
        client: Client | None = None
        for number, pieces in queue:
            if client is None or not client.usable:
                client = await connectProtocol(self.way(), Client())
                clients.append(client)
            answers[number] = await client.ask(pieces)

    def server_tls(self) -> ServerTLS | None:
        """What servers are to speak."""
        return None

    def way(self) -> IStreamClientEndpoint:
        """How clients reach pylb."""
        return TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)


class OnTwisted:
    """Twisted's own transports serve."""

    POLLS = False


class Hedged:
    """A second server is asked after a few turns."""

    POOL = MappingProxyType({"hedge": "5ms"})


class OverTLS:
    """TLS towards clients and servers."""

    def setUp(self) -> None:
        super().setUp()
        authority = trustme.CA()
        self.trusted = trustRootFromCertificates([Certificate.loadPEM(authority.cert_pem.bytes())])
        leaf = authority.issue_cert("localhost")
        self.pair = {name: str(self.folder / name) for name in ("cert", "key")}
        leaf.cert_chain_pems[0].write_to_path(self.pair["cert"])
        leaf.private_key_pem.write_to_path(self.pair["key"])
        authority.cert_pem.write_to_path(self.folder / "ca")

    async def begin(self, servers: Iterable[object], listener: dict[str, Any], **pool: object) -> None:
        verified = {"server_name": "localhost", "ca": str(self.folder / "ca")}
        await super().begin(servers, {**listener, "tls": {"certificates": [self.pair]}}, tls=verified, **pool)

    def server_tls(self) -> ServerTLS:
        return ServerTLS(ListenerTLS(certificates=(CertificateSpec(**self.pair),)))

    def way(self) -> IStreamClientEndpoint:
        return wrapClientTLS(optionsForClientTLS("localhost", self.trusted), super().way())
