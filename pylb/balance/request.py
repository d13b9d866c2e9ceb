"""What does a request say of itself?

Requests, connections and sessions answer for nginx's variables; a key is a text with variables in it, compiled once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Protocol

from pylb.variables import split_template

__all__ = ["Request", "compile_key", "network"]


#: A part of an IPv4 address as it is written, and as it is meant; to look it up is three times as quick as to read it.
_OCTETS = {b"%d" % octet: octet for octet in range(256)}


class Request(Protocol):
    """Whoever wants a server."""

    def variable(self, name: str) -> bytes:
        """The value of the variable `name` (without its `$`); nothing if there is none."""


def compile_key(text: str) -> Callable[[Request | None], bytes]:
    """What makes the key of a request from a template; of None, nothing."""
    literals, names = split_template(text)
    first, *others = (literal.encode() for literal in literals)
    if len(names) == 1 and not first and not others[0]:
        name = names[0]
        return lambda request: b"" if request is None else request.variable(name)
    pieces = list(zip(names, others, strict=True))

    def key(request: Request | None) -> bytes:
        if request is None:
            return b""
        return first + b"".join([request.variable(name) + literal for name, literal in pieces])

    return key


def network(request: Request | None) -> bytes:
    """What nginx's ip_hash hashes: the first three bytes of an IPv4 address, all of an IPv6 one.

    A client without an address, on a Unix socket, is 0.0.0.
    """
    address = b"" if request is None else request.variable("remote_addr")
    try:
        if b":" in address:
            return ipaddress.IPv6Address(address.decode().partition("%")[0]).packed
        first, second, third, _ = address.split(b".")
        return bytes((_OCTETS[first], _OCTETS[second], _OCTETS[third]))
    except (KeyError, ValueError):
        return bytes(3)
