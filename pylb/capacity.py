"""How many clients can this process serve with the descriptors it may open?

A proxied connection takes two descriptors, a UDP session and an idle connection to a server one, a listening socket two, and
a worker has those of all workers, a pipe that busy streams pass through two; some are kept aside for logs and the reactor.
All but the connections come off first, so that a full session table leaves the streams what they were promised: UDP takes a
quarter of all, or what the operator asks for, up to a half; idle connections what the operator asks for, up to a quarter;
health checks what all of them could take at once, up to an eighth; pipes one in 32.  Of several workers none checks: their
supervisor does, which has little else to open.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from pylb.model import Config, ExecCheck, HttpListener, InetAddress, PoolSpec, UdpListener

__all__ = ["Capacity", "capacity", "descriptor_limit", "raise_descriptor_limit", "shortfalls"]

#: Descriptors that are not for clients.
RESERVED = 64
MAX_SESSIONS = 65_536
#: A check has a socket and perhaps one that is kept; a program three pipes, and their other ends while it is started.
PER_CHECK, PER_PROGRAM = 2, 6
#: Servers that a name may come to stand for.
OF_A_NAME = 16
#: More pipes than these would take more of the kernel's memory than a user may have without asking (pipe(7)).
MAX_PIPES = 64
#: What stands for an unlimited number of descriptors.
UNLIMITED = 1 << 20


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a process can hold at once."""

    descriptors: int
    connections: int
    #: UDP sessions by listener.
    sessions: dict[str, int]
    #: Idle connections to servers, by pool; for the pools of HTTP.
    idle: dict[str, int]
    #: Pipes that busy streams can pass through.
    pipes: int
    #: Health checks that can run at once.
    checks: int = 0


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
    idle = _idle(config, descriptors // 4)
    listening = 2 * config.workers * sum(len(listener.listen) for listener in config.listeners.values())
    checks, for_checks = _checks(config, descriptors // 8)
    pipes = min(MAX_PIPES // config.workers, descriptors // 64)
    taken = RESERVED + listening + sum(sessions.values()) + sum(idle.values()) + 2 * pipes
    taken += for_checks if config.workers == 1 else 0
    possible = max(1, (descriptors - taken) // 2)
    return Capacity(descriptors, min(config.max_connections or possible, possible), sessions, idle, pipes, checks)


def _idle(config: Config, most: int) -> dict[str, int]:
    """How many idle connections each pool of HTTP may keep, `most` in all."""
    http = [listener for listener in config.listeners.values() if isinstance(listener, HttpListener)]
    pools = {route.pool for listener in http for route in listener.routes}
    share = max(1, most // max(1, len(pools)))
    return {name: min(config.pools[name].keepalive.connections, share) for name in sorted(pools)}


def _checks(config: Config, most: int) -> tuple[int, int]:
    """How many health checks can run at once, and the descriptors for them, `most` of these unless one takes more."""
    pools = [pool for pool in config.pools.values() if pool.health_check]
    programs = any(isinstance(check, ExecCheck) for pool in pools for check in pool.health_check)
    each = PER_PROGRAM if programs else PER_CHECK
    wanted = sum(len(pool.health_check) * _servers(pool) for pool in pools)
    checks = min(wanted, max(1, most // each))
    return checks, checks * each


def _servers(pool: PoolSpec) -> int:
    addresses = [server.address for server in pool.servers]
    return sum(OF_A_NAME if isinstance(where, InetAddress) and not where.is_literal else 1 for where in addresses)


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
    for name, possible in room.idle.items():
        asked = config.pools[name].keepalive.connections
        if asked > possible:
            yield f"pools.{name}.keepalive.connections is {asked}, {possible} are possible"
