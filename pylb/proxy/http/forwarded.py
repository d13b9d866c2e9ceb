"""What is a server told about the client behind the proxy?

Only a peer in `trusted_proxies` is believed: its X-Forwarded-For is continued with its own address, its X-Forwarded-Proto
and -Host stay.  Whatever anybody else says there is replaced by what pylb sees.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ITransport

from pylb.model import InetAddress
from pylb.proxy.http.head import RequestHead

__all__ = ["Forwarded", "TrustedProxies", "own_host"]


def own_host(transport: ITransport) -> bytes:
    """The host of a request that names none (HTTP/1.0): the address it came to."""
    host = transport.getHost()
    if not isinstance(host, IPv4Address | IPv6Address):
        return b"localhost"
    return str(InetAddress(host.host, host.port)).encode("ascii")


class TrustedProxies:
    """The peers that are believed: networks ("10.0.0.0/8", "::1"), and "unix:" for those on Unix sockets."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        names = tuple(networks)
        self._unix = "unix:" in names
        self._networks = [ipaddress.ip_network(name) for name in names if name != "unix:"]

    def __contains__(self, address: str) -> bool:
        if address == "unix:":
            return self._unix
        if not self._networks:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._networks)


class Forwarded:
    """The X-Forwarded-* lines of one client connection's requests."""

    __slots__ = ("_address", "_lines", "_proto", "_trusted")

    def __init__(self, address: str, proto: bytes, trusted: bool) -> None:
        self._address = address.encode("ascii")
        self._proto = proto
        self._trusted = trusted
        self._lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (self._address, proto)

    def lines(self, head: RequestHead) -> bytes:
        """Whole lines for one request."""
        if self._trusted:
            return self._continued(head)
        return b"%bX-Forwarded-Host: %b\r\n" % (self._lines, head.host) if head.host else self._lines

    def _continued(self, head: RequestHead) -> bytes:
        values = head.fields.values
        addresses = [*values.get(b"x-forwarded-for", ()), self._address]
        proto = values.get(b"x-forwarded-proto", [self._proto])
        host = values.get(b"x-forwarded-host", [head.host] if head.host else [])
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (b", ".join(addresses), b", ".join(proto))
        return b"%bX-Forwarded-Host: %b\r\n" % (lines, b", ".join(host)) if host else lines
