"""Where is something served?"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

__all__ = ["Address", "InetAddress", "UnixAddress"]


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
