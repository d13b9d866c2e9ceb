"""What does the pool ask of a balancing method, and what is a method made of?

A method chooses among candidates that are all usable and never empty.  It knows nothing of health, backups or retries:
the pool tells it when a server becomes usable or stops being so, and the method keeps its structures ready.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

from zope.interface import Attribute, Interface

from pylb.balance.request import Request
from pylb.balance.server import Server
from pylb.model import Balance

__all__ = [
    "Elsewhere",
    "IBalancingMethod",
    "IWatchesFailures",
    "IWatchesLoad",
    "IWatchesTime",
    "MakeMethod",
    "Tools",
    "at_once",
]


class IBalancingMethod(Interface):
    """Made with the servers of a tier, in the operator's order; it holds none of them yet.

    When servers join or leave the pool, another one is made.
    """

    def add(server: Server) -> None:
        """`server` became usable."""

    def remove(server: Server) -> None:
        """`server` stopped being usable."""

    def choose(request: Request | None, tried: Collection[Server], now: float) -> Server:
        """The server for `request`: a usable one that is not in `tried`.  The caller knows that there is one.

        `now` is in seconds and never goes back.
        """


class IWatchesLoad(IBalancingMethod):
    """A method that keeps its servers in the order of their load.

    Who implements this is told of each lease given and released.  After `choose` either the load of the chosen server
    changes or it stops being usable, before anything else is asked.
    """

    def load_changed(server: Server) -> None:
        """The `active` (and `waiting`) of `server`, which the method holds, changed."""


class IWatchesFailures(IBalancingMethod):
    """A method that gives less to servers that fail."""

    def failed(server: Server) -> None:
        """A request failed at `server`, whether the method holds it or not."""


class IWatchesTime(IBalancingMethod):
    """A method that prefers servers that are quick."""

    metric = Attribute(
        "Which moment of a request ends the time that is measured: connect, first_byte, header, last_byte."
    )

    def measured(server: Server, seconds: float, now: float) -> None:
        """A request at `server` needed so long and went well; the method may hold the server or not."""


#: Does some work without keeping anybody waiting, and hands its result over: later, or before it returns.
Elsewhere: TypeAlias = Callable[[Callable[[], Any], Callable[[Any], None]], None]


def at_once(work: Callable[[], Any], done: Callable[[Any], None]) -> None:
    """Do it here and now."""
    done(work())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What methods take from outside: randomness, and how to read a request."""

    random: Random
    #: What `hash` hashes; an empty key is none.
    key: Callable[[Request | None], bytes]
    #: What `ip_hash` hashes: the first 3 bytes of an IPv4 address, the 16 of an IPv6 address.
    address: Callable[[Request | None], bytes]
    #: For what takes long.
    elsewhere: Elsewhere


#: How to make a method, for the servers of one tier in the operator's order; the last is what the tier had before.
MakeMethod: TypeAlias = Callable[[Sequence[Server], Balance, Tools, IBalancingMethod | None], IBalancingMethod]
