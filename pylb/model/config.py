"""What did the operator ask for as a whole?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pylb.model.address import InetAddress
from pylb.model.listener import Listener
from pylb.model.pool import PoolSpec

__all__ = ["AccessLog", "Config", "Resolver"]


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
