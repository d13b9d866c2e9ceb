"""What did the operator ask for?

Frozen values, compared by value, that know nothing of where they came from (a YAML file, a dict, a test) nor of what is
done with them.  Two configurations that ask for the same thing are equal, so a reload can say what changed.

Durations are seconds, sizes are bytes, `0` means "no limit" wherever a limit may be absent.  The defaults here are the
defaults of the configuration file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from pylb.model_check import (
    AgentCheck,
    ExecCheck,
    GrpcCheck,
    HeaderTest,
    HealthCheck,
    HttpCheck,
    HttpMatch,
    OwnCheck,
    TcpCheck,
    UdpCheck,
)

__all__ = [
    "METHODS",
    "AccessLog",
    "Address",
    "AgentCheck",
    "Balance",
    "Certificate",
    "Config",
    "ExecCheck",
    "GrpcCheck",
    "HeaderTest",
    "HealthCheck",
    "HttpCheck",
    "HttpListener",
    "HttpMatch",
    "InetAddress",
    "Keepalive",
    "Listener",
    "ListenerTLS",
    "Outlier",
    "OwnCheck",
    "PoolSpec",
    "Resolver",
    "Route",
    "ServerSpec",
    "Sticky",
    "StickyCookie",
    "StickyLearn",
    "StickyRoute",
    "SuccessRate",
    "TcpCheck",
    "TcpListener",
    "UdpCheck",
    "UdpListener",
    "UnixAddress",
    "UpstreamTLS",
]


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A host (IPv4 literal, IPv6 literal without brackets, or a name) and a port; 0 where the port is not known yet."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address, so that nothing needs to be looked up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix stream socket."""

    path: str
    #: A path needs no look-up.
    is_literal: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = InetAddress | UnixAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """One line of a pool's `servers`; a name with several addresses makes several servers."""

    address: Address
    weight: int = 1
    backup: bool = False
    down: bool = False
    max_fails: int = 1
    fail_timeout: float = 10.0
    max_conns: int = 0
    #: How long its share grows after it has come back or was added.
    slow_start: float = 0.0
    #: Take nobody new, only sessions that belong to it.
    drain: bool = False
    #: What names it in a sticky session; None is the MD5 of its address.
    route: str | None = None
    #: Follow what the name stands for in DNS.
    resolve: bool = False
    #: Ask for the servers of this service (SRV) below the name; the port is theirs then, not `address`'s.
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """Idle connections kept towards a pool's servers (HTTP)."""

    connections: int = 32
    requests: int = 1000
    time: float = 3600.0
    timeout: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTLS:
    """TLS towards the servers.  `ca` None is the system's bundle; `server_name` None is the server's own host."""

    verify: bool = True
    server_name: str | None = None
    ca: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How to choose among the servers that can be used."""

    #: One of `METHODS`; or "module:Class", which then is `own`.
    method: str = "round_robin"
    #: `hash` and `maglev`: text with nginx's variables in it.
    key: str = ""
    #: `hash`: whether few keys move when servers come and go (ketama).
    consistent: bool = False
    #: `hash` with `consistent`, and `maglev`: no server gets more than this times its fair share of what is active.
    bounded_load: float | None = None
    #: `random`: draw two, and take the one that this method would.
    two: Literal["least_conn", "least_time"] | None = None
    #: `least_time` (also as `two`) and `peak_ewma`: which moment of a request ends the time that is measured.
    metric: Literal["connect", "first_byte", "header", "last_byte"] | None = None
    #: `least_time`: count the requests that are under way too.
    inflight: bool = False
    #: A class of somebody's own (see `pylb.balance.methods.IBalancingMethod`).
    own: Callable[..., Any] | None = None


#: The names of the balancing methods.
METHODS = (
    "round_robin",
    "least_conn",
    "least_time",
    "ip_hash",
    "hash",
    "random",
    "maglev",
    "peak_ewma",
    "first",
)


#: The moments that a `metric` can name, of each protocol, in the order in which they come.
MOMENTS = {
    "http": ("header", "last_byte"),
    "tcp": ("connect", "first_byte", "last_byte"),
    "udp": ("first_byte", "last_byte"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyCookie:
    """A cookie says which server a client belongs to (HTTP).  Attributes that are None or False are not sent."""

    name: str
    #: Seconds that the client keeps it; None is until it ends, `inf` is for good.
    expires: float | None = None
    domain: str | None = None
    path: str | None = None
    secure: bool = False
    httponly: bool = False
    samesite: Literal["strict", "lax", "none"] | None = None
    #: Signs the value, so that nobody can read or forge a server's name.
    secret: str | None = field(default=None, repr=False)
    #: Send it with every answer, so that `expires` begins anew; else only when it changes.
    refresh: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyRoute:
    """The first of `variables` that is not empty names the `route` of a server."""

    variables: tuple[str, ...]
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyLearn:
    """A table of sessions: a value of `create` belongs to the server that was used when it was seen first.

    `create` and `lookup` are variables, the first that is not empty counts.  An entry is forgotten when it was not used
    for `timeout` seconds, or as the least recently used of more than `size`.
    """

    create: tuple[str, ...]
    lookup: tuple[str, ...]
    timeout: float = 600.0
    size: int = 100_000
    #: HTTP: learn when the answer's head has come, not at its end.
    header: bool = False
    strict: bool = False


Sticky: TypeAlias = StickyCookie | StickyRoute | StickyLearn


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """Servers are compared if `minimum_hosts` of them had `request_volume` requests in an interval."""

    minimum_hosts: int = 5
    request_volume: int = 100
    #: Standard deviations below the mean that are too many.
    stdev_factor: float = 1.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """Outlier detection, which takes the place of `max_fails` and `fail_timeout`."""

    consecutive_errors: int = 5
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejected_percent: int = 10
    #: None: servers are not compared.
    success_rate: SuccessRate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Servers and how to choose among them."""

    name: str
    servers: tuple[ServerSpec, ...]
    balance: Balance = field(default_factory=Balance)
    sticky: Sticky | None = None
    health_check: tuple[HealthCheck, ...] = ()
    keepalive: Keepalive = field(default_factory=Keepalive)
    tls: UpstreamTLS | None = None
    #: What counts as a server's failure (HTTP): "error", "timeout", "invalid_header", "http_503", "http_5xx"; None is
    #: the first three, and what `next_upstream` lists but 403 and 404 if another server takes over, as in nginx.
    fail_on: frozenset[str] | None = None
    #: Whether only those of the last `fail_timeout` are counted against `max_fails`.
    failure_window: Literal["nginx", "sliding"] = "nginx"
    outlier: Outlier | None = None
    #: Whether failures take the last server out that is well.
    last_usable: Literal["eject", "keep"] = "eject"
    #: Percent of the servers, below which all are used, well or not; 0 is never.
    panic_threshold: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Whom to ask for names that are followed.  Without `addresses` it is the servers of /etc/resolv.conf."""

    addresses: tuple[InetAddress, ...] = ()
    #: How long an answer holds; None is as long as it says.
    valid: float | None = None
    #: For one question, over all servers.
    timeout: float = 5.0
    ipv4: bool = True
    ipv6: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog:
    """One line a request, connection or UDP session.  `path` "-" is standard output.

    `format` is `combined`, `json` or a template of nginx's variables.
    """

    path: str = "-"
    format: str = "combined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything the operator asked for.  Every pool that a listener names is in `pools`."""

    pools: Mapping[str, PoolSpec]
    listeners: Mapping[str, Listener]
    #: Processes that serve.
    workers: int = 1
    shutdown_timeout: float = 30.0
    #: Networks in CIDR form ("10.0.0.0/8", "127.0.0.1/32", "unix:").
    trusted_proxies: tuple[str, ...] = ()
    #: Of each worker; 0 is as many as the descriptor limit allows.
    max_connections: int = 0
    access_log: AccessLog | None = None
    resolver: Resolver = field(default_factory=Resolver)
