"""Which server does a session belong to?

- A server's id is its `route`, or else the MD5 in hex of its address as it is printed, `10.0.0.1:80` or
  `unix:/run/app.sock` (ngx_http_upstream_rr_peer_init_sid).
- A client brings its server's id along, in a cookie or in any other variable; or, with a secret, a cookie that nobody can
  make or read without it.  Whatever is no id of a server is a new session.
- Servers of one id, such as the addresses of one name, are all offered.
- Sessions that stay are not charged in the turns of round robin, as nginx does for up to one request in a row.
- What is learned points to an address.  It outlives the server's absence from the pool, but does not bind meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple, Protocol

from pylb.balance.request import Request, compile_key
from pylb.balance.server import Server
from pylb.model import PoolSpec, StickyCookie, StickyLearn

__all__ = ["CookieSessions", "Learned", "LearnedSessions", "RoutedSessions", "Sticky", "make_sticky", "server_id"]

#: How often within its timeout a session that is used is told of.
_RENEWALS = 4
_UNKNOWN = "", -inf, -inf


class Sticky(Protocol):
    """What a pool asks of a way to remember."""

    def use(self, servers: Sequence[Server]) -> None:
        """These are the pool's servers from now on."""

    def bound(self, request: Request, now: float) -> Collection[Server]:
        """The servers of the pool that the session of `request` may go to, the first that can serve; none if it is new."""

    def bind(self, request: Request, server: Server, now: float) -> bool:
        """The session of `request` has been served by `server`; whether that is news."""

    def forget(self, request: Request, server: Server) -> None:
        """The session of `request` belongs to `server` no more, if it does."""


def make_sticky(spec: PoolSpec, before: Sticky | None = None) -> Sticky | None:
    """The way that the operator of a pool asked for; what was learned `before` is not forgotten."""
    sticky = spec.sticky
    if sticky is None:
        return None
    if isinstance(sticky, StickyCookie):
        return CookieSessions(sticky, spec.name)
    if isinstance(sticky, StickyLearn):
        return LearnedSessions(sticky, before if isinstance(before, LearnedSessions) else None)
    return RoutedSessions(_first_of(sticky.variables))


def server_id(server: Server) -> bytes:
    """What names a server in a session."""
    if server.spec.route is not None:
        return server.spec.route.encode()
    return hashlib.md5(server.name.encode(), usedforsecurity=False).hexdigest().encode()


class RoutedSessions:
    """What `read` finds in a request names the server."""

    def __init__(self, read: Callable[[Request], bytes]) -> None:
        self._read = read
        self._servers: dict[bytes, list[Server]] = {}

    def name(self, server: Server) -> bytes:
        """What a client brings that belongs to `server`."""
        return server_id(server)

    def use(self, servers: Sequence[Server]) -> None:
        self._servers = {}
        for server in servers:
            self._servers.setdefault(self.name(server), []).append(server)

    def bound(self, request: Request, now: float) -> Collection[Server]:
        return self._servers.get(self._read(request), ())

    def bind(self, request: Request, server: Server, now: float) -> bool:
        return False

    def forget(self, request: Request, server: Server) -> None:
        """The client will do so."""


class CookieSessions(RoutedSessions):
    """A cookie names the server, signed if there is a secret: then by HMAC-SHA256 of the pool's name and the id."""

    def __init__(self, spec: StickyCookie, pool: str) -> None:
        # Not as a template: the name of a cookie may have a "-" in it, that of a variable not.
        super().__init__(lambda request: request.variable(f"cookie_{spec.name}"))
        self.spec = spec
        self._pool = pool.encode()
        self._names: dict[Server, bytes] = {}

    def use(self, servers: Sequence[Server]) -> None:
        self._names = {}
        super().use(servers)

    def name(self, server: Server) -> bytes:
        name = self._names.get(server)
        if name is None:
            name = self._names[server] = self._signed(server_id(server))
        return name

    def _signed(self, name: bytes) -> bytes:
        if self.spec.secret is None:
            return name
        signature = hmac.digest(self.spec.secret.encode(), self._pool + b"\0" + name, "sha256")
        return urlsafe_b64encode(signature).rstrip(b"=")


class Learned(NamedTuple):
    """A session belonged to the server of that name at that moment; or then it did no more."""

    session: bytes
    server: str
    when: float
    bound: bool


class LearnedSessions:
    """A table of which session was served by which server, least recently used first.

    It holds digests of 16 bytes, so what a client sends cannot make it large; and as nginx's it is looked at and changed
    by different variables: one may come from the client, the other from the server's answer.

    Several workers have a table each, and hear of one another what is new, and now and then what is used still.  Whoever
    has used a session last is right.
    """

    def __init__(self, spec: StickyLearn, before: LearnedSessions | None = None) -> None:
        self._timeout = spec.timeout or inf
        self._size = spec.size
        self._create = _first_of(spec.create)
        self._lookup = _first_of(spec.lookup)
        #: The name of the server, when the session was used, and when that was told.
        self._table: OrderedDict[bytes, tuple[str, float, float]] = OrderedDict()
        #: Who wants to hear what is learned here.
        self.tell: Callable[[Learned], None] = lambda learned: None
        self._servers: dict[str, list[Server]] = {}
        if before is not None:
            for learned in before.learned():
                self.hear(learned)
            self.tell = before.tell

    def __len__(self) -> int:
        return len(self._table)

    def use(self, servers: Sequence[Server]) -> None:
        self._servers = {}
        for server in servers:
            self._servers.setdefault(server.name, []).append(server)

    def bound(self, request: Request, now: float) -> Collection[Server]:
        session = self._lookup(request)
        name = self._find(_digest(session), now) if session else None
        return () if name is None else self._servers.get(name, ())

    def bind(self, request: Request, server: Server, now: float) -> bool:
        session = self._create(request)
        key = _digest(session or self._lookup(request))
        name = self._find(key, now)
        if name is None and not session:
            return False  # it is only looked for, and was not found
        news = name != server.name
        told = now if news else self._table[key][2]
        if news or now - told > self._timeout / _RENEWALS:
            told = now
            self.tell(Learned(key, server.name, now, True))
        self._put(key, server.name, now, told)
        return news

    def forget(self, request: Request, server: Server) -> None:
        for session in (self._create(request), self._lookup(request)):
            key = _digest(session)
            name, used, _ = self._table.get(key, _UNKNOWN)
            if name == server.name:
                del self._table[key]
                self.tell(Learned(key, name, used, False))

    def learned(self) -> Iterator[Learned]:
        """All that is known, least recently used first."""
        return (Learned(key, name, used, True) for key, (name, used, _) in self._table.items())

    def hear(self, learned: Learned) -> None:
        """What another worker has learned.  One that does not know who has used a session last is told."""
        key, server, when, bound = learned
        name, used, told = self._table.get(key, _UNKNOWN)
        if not bound:
            if name == server and used <= when:
                del self._table[key]
        elif (when, server) > (used, name):
            self._put(key, server, when, when)
        elif name != server and told < used:
            self._table[key] = name, used, used
            self.tell(Learned(key, name, used, True))

    def _put(self, key: bytes, name: str, used: float, told: float) -> None:
        self._table[key] = name, used, told
        self._table.move_to_end(key)
        if len(self._table) > self._size:
            self._table.popitem(last=False)

    def _find(self, key: bytes, now: float) -> str | None:
        name, used, _ = self._table.get(key, (None, now, now))
        if now - used < self._timeout:
            return name
        del self._table[key]
        return None


def _first_of(variables: Iterable[str]) -> Callable[[Request], bytes]:
    """What reads the first of some variables that is not empty."""
    readers = [compile_key(variable) for variable in variables]

    def read(request: Request) -> bytes:
        for reader in readers:
            if value := reader(request):
                return value
        return b""

    return read


def _digest(session: bytes) -> bytes:
    return hashlib.blake2b(session, digest_size=16).digest()
