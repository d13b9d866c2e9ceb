"""Which loads are there, and how near to nginx must pylb come?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.datagrams import exchange
from bench.measure import Measure, cpu, memory, tail
from bench.streams import download, upload
from bench.tools import ab, wrk

__all__ = ["Load", "make_loads"]

#: What a browser sends beside Host.
_BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: theme=light; session=0123456789abcdef0123456789abcdef",
)


@dataclass(frozen=True)
class Load:
    """A load, the unit of its figure, and what pylb's figure must and should be: a multiple of nginx's, or an amount."""

    name: str
    title: str
    unit: str
    measure: Measure
    must: float
    hope: float
    is_ratio: bool = True
    has_haproxy: bool = True


def make_loads(folder: Path) -> list[Load]:
    """All loads, in the order of the table; the bodies that are sent lie in the folder."""
    body_1, body_100 = (folder / "bodies" / name for name in ("1m", "100m"))
    http = partial(wrk, headers=_BROWSER)
    http_new = partial(ab, headers=_BROWSER)
    https, https_new = partial(wrk, scheme="https"), partial(ab, scheme="https")
    get_1, get_100 = (partial(download, megabytes=size) for size in (1, 100))
    get_tls = partial(download, megabytes=100, tls=True)
    put_1, put_100 = (partial(upload, body=body) for body in (body_1, body_100))
    each, new, mb, ping = "us/exchange", "us/connection", "us/MB", "us/datagram"
    return [
        Load("tcp-small", "TCP, small exchange, kept connections", each, cpu("tcp", wrk), 1.5, 1.2),
        Load("tcp-new", "TCP, new connection for each exchange", new, cpu("tcp", ab), 1.6, 1.3),
        Load("tcp-bulk", "TCP, bulk, one stream", mb, cpu("tcp", get_100), 0.55, 0.45),
        Load("http-small", "HTTP, small GET, kept connections", each, cpu("http", http), 1.5, 1.2),
        Load("http-new", "HTTP, new connection for each request", new, cpu("http", http_new), 2.0, 1.6),
        Load("http-1m-down", "HTTP, bodies of 1 MB, down", mb, cpu("http", get_1), 0.8, 0.6),
        Load("http-1m-up", "HTTP, bodies of 1 MB, up", mb, cpu("http", put_1), 0.8, 0.6),
        Load("http-100m-down", "HTTP, bodies of 100 MB, down", mb, cpu("http", get_100), 0.8, 0.6),
        Load("http-100m-up", "HTTP, bodies of 100 MB, up", mb, cpu("http", put_100), 0.8, 0.6),
        Load("tls-small", "TLS in front of TCP, small exchange", each, cpu("tls", https), 2.0, 1.5),
        Load("tls-new", "TLS, full handshake for each exchange", new, cpu("tls", https_new), 1.8, 1.4),
        Load("tls-bulk", "TLS, bulk, one stream", mb, cpu("tls", get_tls), 1.7, 1.3),
        Load(
            "udp-kept", "UDP, request and reply, kept session", ping, cpu("udp", exchange), 1.6, 1.3, has_haproxy=False
        ),
        Load("udp-new", "UDP, new session every 10", ping, cpu("udp_10", exchange), 2.0, 1.5, has_haproxy=False),
        Load("tcp-idle", "TCP, memory of an idle connection", "kB", memory("tcp"), 8, 4, is_ratio=False),
        Load("http-p99", "HTTP, p99 at half of its own capacity", "ms", tail("http", _BROWSER), 2.0, 1.3),
    ]
