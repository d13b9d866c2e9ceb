"""How did the operator ask to look after the health of servers?"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = [
    "AgentCheck",
    "ExecCheck",
    "GrpcCheck",
    "HeaderTest",
    "HealthCheck",
    "HttpCheck",
    "HttpMatch",
    "OwnCheck",
    "TcpCheck",
    "UdpCheck",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    #: From the beginning of one check to that of the next, plus up to `jitter`.
    interval: float = 5.0
    jitter: float = 0.0
    #: The interval while the server is unhealthy; None is the same.
    unhealthy_interval: float | None = None
    #: Of a whole check.
    timeout: float = 5.0
    #: So many in a row change the verdict.
    fails: int = 1
    passes: int = 1
    #: No traffic before the first pass.
    mandatory: bool = False
    #: After a reload a server that had passed does so still, although the check is mandatory.
    persistent: bool = False
    #: None is the server's own.
    port: int | None = None


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """What one header of an answer must be; `name` in lower case.  Only for `present` and `absent` there is no value."""

    name: str
    kind: Literal["present", "absent", "=", "!=", "~", "!~"]
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMatch:
    """What an answer must be, all of it."""

    #: Ranges, both ends included.
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    header: tuple[HeaderTest, ...] = ()
    #: To be found in the first 256 KiB of the body, or not to be found if `not_body`.
    body: re.Pattern[bytes] | None = None
    not_body: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck(_Check):
    """Send a request, look at the answer."""

    uri: str = "/"
    method: str = "GET"
    #: Further lines of the head, and others for Host and User-Agent.
    headers: tuple[tuple[str, str], ...] = ()
    match: HttpMatch = field(default_factory=HttpMatch)
    #: A connection is used again until it is so old.
    keepalive_time: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck(_Check):
    """Connect; send something; find something in the answer."""

    send: bytes = b""
    expect: re.Pattern[bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpCheck(_Check):
    """Send a datagram; find something in the answer, or hear of no refusal."""

    send: bytes = b"pylb health check"
    expect: re.Pattern[bytes] | None = None
    #: Whose protocol is spoken, in the place of `send` and `expect`.
    preset: Literal["dns", "ntp", "radius"] | None = None
    #: What a RADIUS server shares with its clients.
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCheck(_Check):
    """Call grpc.health.v1.Health/Check over HTTP/2."""

    #: Whose health; "" is the server's as a whole.
    service: str = ""
    #: A gRPC status that is good, too: 12 for servers without the health service.
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecCheck(_Check):
    """Run a program; its exit status decides."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCheck(_Check):
    """Read a line in which the server's agent says how it is (HAProxy's agent-check)."""

    send: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCheck(_Check):
    """A class of somebody's own (see `pylb.check.IHealthCheck`), and its name."""

    name: str
    own: Callable[[], Any] = field(repr=False)


HealthCheck: TypeAlias = HttpCheck | TcpCheck | UdpCheck | GrpcCheck | ExecCheck | AgentCheck | OwnCheck
