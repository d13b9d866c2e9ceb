"""What did the operator ask for?

Frozen values, compared by value, that know nothing of where they came from (a YAML file, a dict, a test) nor of what is
done with them.  Two configurations that ask for the same thing are equal, so a reload can say what changed.

Durations are seconds, sizes are bytes, `0` means "no limit" wherever a limit may be absent.  The defaults here are the
defaults of the configuration file.
"""

from pylb.model.address import Address, InetAddress, UnixAddress
from pylb.model.check import (
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
from pylb.model.config import AccessLog, Config, Resolver
from pylb.model.listener import (
    NEXT_UPSTREAM_HTTP,
    Certificate,
    HttpListener,
    Listener,
    ListenerTLS,
    Route,
    TcpListener,
    UdpListener,
)
from pylb.model.pool import (
    METHODS,
    MOMENTS,
    Balance,
    Keepalive,
    Outlier,
    PoolSpec,
    Queue,
    RetryBudget,
    ServerSpec,
    SuccessRate,
    UpstreamTLS,
)
from pylb.model.sticky import Sticky, StickyCookie, StickyLearn, StickyRoute

__all__ = [
    "METHODS",
    "MOMENTS",
    "NEXT_UPSTREAM_HTTP",
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
    "Queue",
    "Resolver",
    "RetryBudget",
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
