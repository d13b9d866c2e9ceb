"""What did the operator ask to listen to, and for what?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pylb.model.address import Address

__all__ = [
    "NEXT_UPSTREAM_HTTP",
    "Certificate",
    "HttpListener",
    "Listener",
    "ListenerTLS",
    "Route",
    "TcpListener",
    "UdpListener",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Paths of a PEM certificate chain and of its private key."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTLS:
    """TLS towards the clients.  The first certificate serves clients that name no known host."""

    certificates: tuple[Certificate, ...]
    min_version: Literal["1.2", "1.3"] = "1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listener:
    name: str
    listen: tuple[Address, ...]
    #: Listen with SO_REUSEPORT.
    reuseport: bool = False
    #: Where the configuration says so, "etc/lb.yaml:12:3"; no part of the listener's value.
    origin: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StreamListener(_Listener):
    #: Permission bits of Unix sockets in `listen`; None leaves them to the umask.
    mode: int | None = None
    #: Clients that may wait to be accepted; no more than the system allows.
    backlog: int = 511
    tls: ListenerTLS | None = None
    connect_timeout: float = 3.0
    #: Idle time of a connection; of HTTP's only once it is upgraded (WebSocket).
    timeout: float = 600.0
    next_upstream_tries: int = 0
    next_upstream_timeout: float = 0.0
    tcp_nodelay: bool = True
    #: SO_KEEPALIVE towards the client / towards the server.
    so_keepalive: bool = False
    socket_keepalive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpListener(_StreamListener):
    """Streams, forwarded byte for byte."""

    protocol: Literal["tcp"] = "tcp"
    pool: str
    half_close: bool = True
    next_upstream: bool = True
    #: Bytes a second that one connection may bring from the client, and from the server.
    upload_rate: int = 0
    download_rate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpListener(_Listener):
    """Datagrams, in sessions of one client address and one local address each."""

    protocol: Literal["udp"] = "udp"
    pool: str
    #: Answers expected for each datagram of a client; None is any number until `timeout`.
    responses: int | None = None
    requests: int = 0
    timeout: float = 30.0
    #: None is the smaller of 65,536 and a quarter of the descriptor limit.
    max_sessions: int | None = None


NEXT_UPSTREAM_HTTP = frozenset(
    {
        "error",
        "timeout",
        "invalid_header",
        "http_500",
        "http_502",
        "http_503",
        "http_504",
        "http_403",
        "http_404",
        "http_429",
        "non_idempotent",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Requests for `host` (None: any) whose path begins with, equals or matches something go to `pool`.

    Exactly one of `path` (longest prefix wins), `exact` and `regex` (searched, in the order written) is set; as in
    nginx exact beats regex and regex beats prefix.  `host` may begin with `*.`.
    """

    pool: str
    host: str | None = None
    path: str | None = None
    exact: str | None = None
    regex: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpListener(_StreamListener):
    """HTTP/1.1 requests, routed one by one."""

    protocol: Literal["http"] = "http"
    routes: tuple[Route, ...]
    send_timeout: float = 60.0
    read_timeout: float = 60.0
    next_upstream: frozenset[str] = frozenset({"error", "timeout"})
    client_max_body_size: int = 10 * 1024 * 1024
    client_header_timeout: float = 10.0
    client_body_timeout: float = 30.0
    keepalive_timeout: float = 60.0


Listener: TypeAlias = TcpListener | UdpListener | HttpListener
