"""What does one written value mean?

Every function takes what a document holds (text, an integer, from Python also a float) and returns what the model wants, or
raises ValueError with a text that says what is wrong.  Nothing is looked up, opened or guessed.

- Durations: `500ms`, `5s`, `1m30s`, `1h`, `2d`; units from large to small, each at most once; a bare number is seconds.
- Sizes: `512`, `16k`, `10m`, `1g`, by 1024.
- Addresses: `10.0.0.1:80`, `[2001:db8::1]:80`, `app.example.com:80`, `unix:/run/app.sock`; a port is never left out.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable

from pylb.model import Address, InetAddress, UnixAddress
from pylb.words import quoted, quoted_path

__all__ = [
    "DURATION",
    "LARGEST",
    "PERMISSIONS",
    "SECONDS",
    "SIZE",
    "choice",
    "duration",
    "factor",
    "flag",
    "host_name",
    "listen_address",
    "name_server",
    "network",
    "permissions",
    "server_address",
    "server_name",
    "server_place",
    "service",
    "size",
    "text",
    "whole",
]

DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_MILLISECONDS = (86_400_000, 3_600_000, 60_000, 1000, 1)
SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_LONGEST_DURATION = 365 * 86400
SIZE = re.compile(r"(\d{1,18})([kmgKMG]?)", re.ASCII)
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_LARGEST_SIZE = 2**63 - 1
LARGEST = 2**31 - 1
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>[^:]*)")
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*")
SERVICE = re.compile(r"[A-Za-z0-9_-]{1,62}|[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})+")
_DNS = 53
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_LONGEST_SOCKET_PATH = 107
PERMISSIONS = re.compile(r"0[0-7]{3}")
_WORDS = {"on": "true", "yes": "true", "true": "true", "off": "false", "no": "false", "false": "false"}


def text(value: object) -> str:
    """Any text but the empty one."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be text, not {_shown(value)}")
    return value


def flag(value: object) -> bool:
    """`true` or `false`, and no other word."""
    if isinstance(value, bool):
        return value
    meant = _WORDS.get(value.lower()) if isinstance(value, str) else None
    hint = f", write {meant}" if meant else ""
    raise ValueError(f"must be true or false, not {_shown(value)}{hint}")


def whole(least: int, most: int = LARGEST) -> Callable[[object], int]:
    """A reader of whole numbers from `least` to `most`."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {_shown(value)}")
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}, not {_number(value)}")
        return value

    return read


def choice(*known: str) -> Callable[[object], str]:
    """A reader of one of the words `known`."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise ValueError(f"must be {' or '.join(map(quoted, known))}, not {_shown(value)}")

    return read


def factor(value: object) -> float:
    """A number from 1 to 1000, perhaps with a fraction."""
    number = float(value) if isinstance(value, str) and SECONDS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"must be a number such as 1.25, not {_shown(value)}")
    if not 1 <= number <= 1000:
        raise ValueError(f"must be from 1 to 1000, not {_shown(value)}")
    return float(number)


def duration(value: object) -> float:
    """Seconds."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"must be a duration such as 500ms, 5s or 1m30s, not {_shown(value)}")
    if not 0 <= seconds <= _LONGEST_DURATION:
        raise ValueError(f"must be from 0 to 365d, not {_shown(value)}")
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, int):
        return float(max(-1, min(value, LARGEST)))
    if isinstance(value, float):
        return value
    if SECONDS.fullmatch(value):
        return float(value)
    return _with_units(value)


def _with_units(value: str) -> float | None:
    match = DURATION.fullmatch(value) if 0 < len(value) <= 60 else None
    if match is None:
        return None
    parts = zip(match.groups(default="0"), _MILLISECONDS, strict=True)
    return sum(int(digits) * unit for digits, unit in parts) / 1000


def size(value: object) -> int:
    """Bytes."""
    match = SIZE.fullmatch(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if match is None:
        raise ValueError(f"must be a size such as 512, 16k, 10m or 1g, not {_shown(value)}")
    size = int(match[1]) * _BYTES[match[2].lower()]
    if size > _LARGEST_SIZE:
        raise ValueError(f"must be below 8 EiB, not {_shown(value)}")
    return size


def permissions(value: object) -> int:
    """Permission bits written as in `chmod 0660`."""
    if not isinstance(value, str) or not PERMISSIONS.fullmatch(value):
        raise ValueError(f'must be four octal digits such as "0660", not {_shown(value)}')
    return int(value, 8)


def server_address(value: object, folder: str) -> Address:
    """Where a server is; a relative socket path is relative to `folder`."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"{_number(value)} is a port without a host")
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
        raise ValueError(f"port {_cut(written)} is not from 1 to 65535")
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


def _shown(value: object) -> str:
    """A value in a message: text in quotes, so that `5` and `"5"` differ."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    return _number(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def _number(value: float) -> str:
    # int() of Python refuses to write more than 4300 digits.
    return _cut(repr(value)) if isinstance(value, float) or abs(value) < 10**60 else "a number that large"


def _cut(digits: str) -> str:
    return digits if len(digits) <= 60 else digits[:60] + "..."
