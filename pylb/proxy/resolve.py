"""Which addresses do the host names of the pools stand for?

- Names are looked up by the system's resolver (so /etc/hosts counts) in daemon threads of their own: a look-up that hangs
  blocks neither the reactor, nor its threads, nor the exit.
- Every address of a name becomes a server with the name's parameters.  A name that has not been found is one server that
  is down, and is asked for again every `RETRY` seconds.
- Servers that stay keep their state.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorThreads, IReactorTime
from twisted.logger import Logger

from pylb.balance.pool import Pool
from pylb.balance.server import Server
from pylb.model import Address, InetAddress, ServerSpec

__all__ = ["Names", "getaddrinfo"]

#: Seconds until a name that was not found is asked for again.
RETRY = 10.0
#: Seconds after which pylb serves although a name has not answered.
PATIENCE = 5.0
#: Look-ups under way at once.
THREADS = 16

_log = Logger()


def getaddrinfo(host: str) -> list[str]:
    """The addresses of a host, in the system's order.  Blocks; raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class Names:
    """Keeps the servers of pools in step with what their names stand for."""

    def __init__(
        self, reactor: IReactorTime, pools: Iterable[Pool], lookup: Callable[[str], Sequence[str]] = getaddrinfo
    ) -> None:
        self._reactor = reactor
        self._pools = list(pools)
        self._lookup = lookup
        self._found: dict[str, Sequence[str]] = {}
        #: What was said last of names that are not found.
        self._problems: dict[str, str] = {}
        self._asked: set[str] = set()
        self._ready: Deferred[None] | None = None
        self._patience: IDelayedCall | None = None
        self._retries: dict[str, IDelayedCall] = {}
        self._stopped = False

    def start(self) -> Deferred[None]:
        """Look up every name; fires when all have answered, or after `PATIENCE` seconds."""
        names = {host for pool in self._pools for spec in pool.spec.servers if (host := _name(spec))}
        if not names:
            return succeed(None)
        ready = self._ready = Deferred[None]()
        self._patience = self._reactor.callLater(PATIENCE, self._lose_patience)
        self._ask(names)
        return ready

    def stop(self) -> None:
        """Ask nothing more and forget answers that are still to come; what `start` returned will not fire."""
        self._stopped = True
        for call in (self._patience, *self._retries.values()):
            if call is not None and call.active():
                call.cancel()

    def _ask(self, names: Iterable[str]) -> None:
        queue: SimpleQueue[str] = SimpleQueue()
        for name in sorted(names):
            self._asked.add(name)
            self._retries.pop(name, None)
            queue.put(name)
        for _ in range(min(THREADS, queue.qsize())):
            threading.Thread(target=self._work, args=(queue,), name="pylb-names", daemon=True).start()

    def _work(self, queue: SimpleQueue[str]) -> None:
        """In a thread: ask until the queue is empty."""
        while not self._stopped:
            try:
                name = queue.get_nowait()
            except Empty:
                return
            try:
                found, problem = self._lookup(name), ""
            except (OSError, UnicodeError) as error:
                found, problem = (), getattr(error, "strerror", None) or str(error)
            IReactorThreads(self._reactor).callFromThread(self._answered, name, found, problem)

    def _answered(self, name: str, found: Sequence[str], problem: str) -> None:
        if self._stopped:
            return
        self._asked.discard(name)
        if found:
            self._use(name, found)
        else:
            self._retry(name, problem)
        if self._ready is not None and not self._asked:
            self._serve(self._ready)

    def _use(self, name: str, found: Sequence[str]) -> None:
        _log.info("{name} is {addresses}", name=name, addresses=", ".join(found))
        self._found[name] = found
        for pool in self._pools:
            if any(_name(spec) == name for spec in pool.spec.servers):
                self._fill(pool)

    def _retry(self, name: str, problem: str) -> None:
        if self._problems.get(name) != problem:
            self._problems[name] = problem
            _log.warn(
                "{name} was not found: {problem}; asking again every {retry:g} s",
                name=name,
                problem=problem,
                retry=RETRY,
            )
        self._retries[name] = self._reactor.callLater(RETRY, self._ask, [name])

    def _lose_patience(self) -> None:
        names = ", ".join(sorted(self._asked))
        _log.warn("no answer yet for {names}: serving without", names=names)
        assert self._ready is not None
        self._serve(self._ready)

    def _serve(self, ready: Deferred[None]) -> None:
        """Whatever has been found by now is what pylb starts with."""
        self._ready = None
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        ready.callback(None)

    def _fill(self, pool: Pool) -> None:
        present: dict[tuple[ServerSpec, Address], list[Server]] = {}
        for server in pool.servers:
            present.setdefault((server.spec, server.address), []).append(server)
        wanted = [new for spec in pool.spec.servers for new in self._servers(spec)]
        # A line that stands twice in the file is two servers.
        kept = [present.get((server.spec, server.address)) for server in wanted]
        pool.replace(old.pop(0) if old else new for new, old in zip(wanted, kept, strict=True))

    def _servers(self, spec: ServerSpec) -> list[Server]:
        name = _name(spec)
        if name is None:
            return [Server(spec)]
        addresses = self._found.get(name, ())
        port = spec.address.port if isinstance(spec.address, InetAddress) else 0
        return [Server(spec, InetAddress(host, port)) for host in addresses] or [Server(spec, missing=True)]


def _name(spec: ServerSpec) -> str | None:
    """The host name of a server, if it has one that must be looked up."""
    address = spec.address
    return address.host if isinstance(address, InetAddress) and not address.is_literal else None
