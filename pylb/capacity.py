"""How many clients can this process serve with the descriptors it may open?

A proxied connection takes two descriptors and a UDP session one; some are kept aside for listening sockets, logs and the
reactor.  UDP comes off first, so that a full session table leaves the streams what they were promised: a quarter of all,
or what the operator asks for, up to a half.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from pylb.model import Config, UdpListener

__all__ = ["Capacity", "capacity", "descriptor_limit", "raise_descriptor_limit", "shortfalls"]

#: Descriptors that are not for clients.
RESERVED = 64
MAX_SESSIONS = 65_536
#: What stands for an unlimited number of descriptors.
UNLIMITED = 1 << 20


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a process can hold at once."""

    descriptors: int
    connections: int
    #: UDP sessions by listener.
    sessions: dict[str, int]


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one, if that is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox may forbid what the kernel would allow
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """How many descriptors this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def capacity(config: Config, descriptors: int) -> Capacity:
    """How `descriptors` are shared out; never less than one connection and one session a listener."""
    udp = [listener for listener in config.listeners.values() if isinstance(listener, UdpListener)]
    quarter, half = (descriptors // part // max(1, len(udp)) for part in (4, 2))
    sessions = {
        listener.name: max(1, min(listener.max_sessions or min(MAX_SESSIONS, quarter), half)) for listener in udp
    }
    possible = max(1, (descriptors - RESERVED - sum(sessions.values())) // 2)
    return Capacity(descriptors, min(config.max_connections or possible, possible), sessions)


def shortfalls(config: Config, room: Capacity) -> Iterator[str]:
    """What was asked for and cannot be had."""
    if room.connections < config.max_connections:
        yield f"max_connections is {config.max_connections}, {room.connections} are possible"
    for listener in config.listeners.values():
        if isinstance(listener, UdpListener) and (listener.max_sessions or 0) > room.sessions[listener.name]:
            yield (
                f"listeners.{listener.name}.max_sessions is {listener.max_sessions}, "
                f"{room.sessions[listener.name]} are possible"
            )
