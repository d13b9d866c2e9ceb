"""Which servers did the operator ask for, and how is one chosen?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pylb.model.address import Address
from pylb.model.check import HealthCheck
from pylb.model.sticky import Sticky

__all__ = [
    "METHODS",
    "MOMENTS",
    "Balance",
    "Keepalive",
    "Outlier",
    "PoolSpec",
    "Queue",
    "RetryBudget",
    "ServerSpec",
    "SuccessRate",
    "UpstreamTLS",
]


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
class Queue:
    """Who finds no server that can take it now waits, if fewer than `size` do, for `timeout` at most."""

    size: int
    timeout: float = 60.0
    #: Text with nginx's variables in it, which make a whole number: the lowest is first.
    priority: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """The retries under way are at most so many percent of all that is, or `min_retries`."""

    percent: int = 20
    min_retries: int = 3


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
    queue: Queue | None = None
    #: At most so many retries are under way at once; 0 is any number.
    max_retries: int = 0
    retry_budget: RetryBudget | None = None
    #: At most so many connections are being made at once; 0 is any number.
    max_pending: int = 0
    #: Seconds after which an idempotent request without an answer is sent to another server too (HTTP); 0 is never.
    hedge: float = 0.0
