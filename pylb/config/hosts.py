"""Where is somebody, as it was written?

As in scalars.py: what a document holds in, what the model wants out, or ValueError with what is wrong; nothing is looked up.

- Addresses: `10.0.0.1:80`, `[2001:db8::1]:80`, `app.example.com:80`, `unix:/run/app.sock`; a port is never left out.
"""

from __future__ import annotations

import ipaddress
import os
import re

from pylb.config.scalars import LARGEST, number_text, shortened, text
from pylb.model import Address, InetAddress, UnixAddress
from pylb.words import quoted, quoted_path

__all__ = [
    "SERVICE",
    "host_name",
    "listen_address",
    "name_server",
    "network",
    "server_address",
    "server_name",
    "server_place",
    "service",
]

_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>[^:]*)")
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*")
SERVICE = re.compile(r"[A-Za-z0-9_-]{1,62}|[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})+")
_DNS = 53
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_LONGEST_SOCKET_PATH = 107


def server_address(value: object, folder: str) -> Address:
    """Where a server is; a relative socket path is relative to `folder`."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"{number_text(value)} is a port without a host")
    return _unix(value, folder) or _inet(text(value))


def server_place(value: object, folder: str) -> Address:
    """Where a server is, or a name alone, which is an address with the port 0."""
    try:
        return InetAddress(host_name(value), 0)
    except ValueError:
        return server_address(value, folder)


def service(value: object) -> str:
    """What an SRV record is for: `http`, or all that stands before the name: `_http._tcp`."""
    written = text(value)
    if not SERVICE.fullmatch(written):
        raise ValueError(f"{quoted(written)} is no service such as http or _http._tcp")
    return written.lower()


def name_server(value: object) -> InetAddress:
    """Where a DNS server is: an IP address, and a port if it is not 53."""
    written = text(value)
    alone = ":" not in written or written.endswith("]")
    address = _inet(f"{written}:{_DNS}" if alone else written)
    if not address.is_literal:
        raise ValueError(f"{quoted(address.host)} is a name; write the IP address of the DNS server")
    return address


def listen_address(value: object, folder: str) -> Address:
    """Where to listen: as a server's, but an IP address, or a port alone for all IPv4 addresses."""
    if isinstance(value, int) and not isinstance(value, bool):
        return InetAddress("0.0.0.0", _port(str(value)))
    written = text(value)
    if written.isascii() and written.isdigit():
        return InetAddress("0.0.0.0", _port(written))
    address = _unix(written, folder) or _inet(written)
    if isinstance(address, InetAddress) and not address.is_literal:
        raise ValueError(f"{quoted(address.host)} is a name; listen on an IP address or on a port alone")
    return address


def _unix(value: object, folder: str) -> UnixAddress | None:
    if not isinstance(value, str) or not value.startswith("unix:"):
        return None
    written = value.removeprefix("unix:")
    if not written or "\0" in written:
        raise ValueError(f"{quoted(value)} has no path")
    path = os.path.normpath(os.path.join(folder, written))
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise ValueError(f"the path {quoted_path(path)} is longer than {_LONGEST_SOCKET_PATH} bytes")
    return UnixAddress(path)


def _inet(written: str) -> InetAddress:
    match = _ADDRESS.fullmatch(written)
    if match is None:
        raise ValueError(_no_address(written))
    port = _port(match["port"])
    if match["six"] is not None:
        return InetAddress(_ipv6(match["six"]), port)
    if not match["host"]:
        raise ValueError(f"{quoted(written)} has no host")
    return InetAddress(_host(match["host"]), port)


def _no_address(written: str) -> str:
    if ":" not in written or written.endswith("]"):
        return f"{quoted(written)} has no port"
    if _BARE_IPV6.fullmatch(written):
        return f"{quoted(written)} is no address; an IPv6 address stands in brackets: [::1]:80"
    return f"{quoted(written)} is no address"


def _port(written: str) -> int:
    if not written.isascii() or not written.isdigit():
        raise ValueError(f"{quoted(written)} is no port")
    port = int(written) if len(written) < 10 else LARGEST
    if not 1 <= port <= 65535:
        raise ValueError(f"port {shortened(written)} is not from 1 to 65535")
    return port


def _ipv6(written: str) -> str:
    try:
        return str(ipaddress.IPv6Address(written))
    except ValueError:
        raise ValueError(f"{quoted(written)} is no IPv6 address") from None


def _host(written: str) -> str:
    try:
        return str(ipaddress.IPv4Address(written))
    except ValueError:
        return host_name(written)


def host_name(value: object) -> str:
    """A name that DNS or /etc/hosts may know, in lower case; underscores are let through, as container names have them."""
    name = text(value)
    labels = name.removesuffix(".").split(".")
    if not name.isascii():
        raise ValueError(f"{quoted(name)} is no host name; write its ASCII form (xn--...)")
    if len(name) > 253 or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{quoted(name)} is no IP address and no host name")
    return name.lower()


def server_name(value: object) -> str:
    """What a certificate must name: a host name or an IP address without brackets."""
    try:
        return str(ipaddress.ip_address(text(value)))
    except ValueError:
        return host_name(value)


def network(value: object) -> str:
    """A network in CIDR form; an address alone is a network of one; `unix:` is every peer on a Unix socket."""
    written = text(value)
    if written == "unix:":
        return written
    try:
        return str(ipaddress.ip_network(written))
    except ValueError:
        raise ValueError(_no_network(written)) from None


def _no_network(written: str) -> str:
    try:
        near = ipaddress.ip_network(written, strict=False)
    except ValueError:
        return f"{quoted(written)} is no IP address and no network such as 10.0.0.0/8"
    return f"{quoted(written)} is an address inside a network, did you mean {quoted(near)}?"
