"""Which DNS servers does this system use?

The first three of /etc/resolv.conf, as for the C library; its other options do not count.
"""

from __future__ import annotations

import os
from pathlib import Path

from pylb.model import InetAddress

__all__ = ["nameservers"]

_MOST = 3
_PORT = 53


def nameservers(path: str | os.PathLike[str] = "/etc/resolv.conf") -> tuple[InetAddress, ...]:
    """The addresses in a file such as /etc/resolv.conf; raises ValueError if there are none."""
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ValueError(_none(f"{path}: {error.strerror}")) from error
    words = [line.split() for line in text.splitlines()]
    named = [InetAddress(line[1], _PORT) for line in words if len(line) > 1 and line[0] == "nameserver"]
    found = tuple(address for address in named if address.is_literal)[:_MOST]
    if not found:
        raise ValueError(_none(f"{path} names none"))
    return found


def _none(reason: str) -> str:
    return f'no DNS servers for "resolve": name them in resolver.addresses ({reason})'
