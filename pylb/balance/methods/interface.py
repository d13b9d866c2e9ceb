"""What does the pool ask of a balancing method, and what is a method made of?

A method chooses among candidates that are all usable and never empty.  It knows nothing of health, backups or retries:
the pool tells it when a server becomes usable or stops being so, and the method keeps its structures ready.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from zope.interface import Interface

from pylb.balance.request import Request
from pylb.balance.server import Server
from pylb.model import Balance

__all__ = ["IBalancingMethod", "IWatchesLoad", "MakeMethod", "Tools"]


class IBalancingMethod(Interface):
    """Made with the servers of a tier, in the operator's order, none of them usable yet."""

    def add(server: Server) -> None:
        """`server` became usable."""

    def remove(server: Server) -> None:
        """`server` stopped being usable."""

    def choose(request: Request | None, tried: Collection[Server]) -> Server:
        """The server for `request`: a usable one that is not in `tried`.  The caller knows that there is one."""


class IWatchesLoad(IBalancingMethod):
    """A method that keeps its servers in the order of their load.

    Who implements this is told of each lease given and released.  After `choose` either the load of the chosen server
    changes or it stops being usable, before anything else is asked.
    """

    def load_changed(server: Server) -> None:
        """The `active` of `server`, which is usable, changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What methods take from outside: randomness, and how to read a request."""

    random: Random
    #: What `hash` hashes; an empty key is none.
    key: Callable[[Request | None], bytes]
    #: What `ip_hash` hashes: the first 3 bytes of an IPv4 address, the 16 of an IPv6 address.
    address: Callable[[Request | None], bytes]


#: How to make a method, for the servers of one tier in the operator's order.
MakeMethod: TypeAlias = Callable[[Sequence[Server], Balance, Tools], IBalancingMethod]
