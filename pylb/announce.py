"""What does the operator hear of who serves where?"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from pylb import __version__
from pylb.capacity import Capacity, shortfalls
from pylb.model import Config
from pylb.model.changes import changes
from pylb.proxy.listen import Bound

__all__ = ["announce", "announce_reload"]

_log = Logger()


def announce(config: Config, sockets: Iterable[Bound], room: Capacity) -> None:
    """A start: all listeners, and how many clients each worker has room for."""
    _log.info("pylb {version} serves", version=__version__)
    _name(sockets)
    _measure(config, room)


def announce_reload(before: Config, config: Config, fresh: Iterable[Bound], room: Capacity | None) -> None:
    """A reload: what has changed, the sockets that are new, and the room if that is another."""
    _log.info(
        "reloaded: {changes}",
        changes=", ".join(changes(before, config)) or "the same keys and values; certificates are read again",
    )
    _name(fresh)
    if room is not None:
        _measure(config, room)


def _name(sockets: Iterable[Bound]) -> None:
    for bound in sockets:
        _log.info(
            "listener {name}: {protocol} on {where}",
            name=bound.listener.name,
            protocol=bound.listener.protocol,
            where=bound.where,
        )


def _measure(config: Config, room: Capacity) -> None:
    _log.info(
        "room for {connections} connections and {sessions} UDP sessions, with {descriptors} descriptors{each}",
        connections=room.connections,
        sessions=sum(room.sessions.values()),
        descriptors=room.descriptors,
        each=f", in each of {config.workers} workers" if config.workers > 1 else "",
    )
    for shortfall in shortfalls(config, room):
        _log.warn("too few descriptors (LimitNOFILE, ulimit -n): {shortfall}", shortfall=shortfall)
