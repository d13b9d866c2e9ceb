"""Which server does a session belong to?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from pylb import model
from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["Sticky", "make_sticky"]


class Sticky(Protocol):
    """What a pool asks of a way to remember."""

    def use(self, servers: Sequence[Server]) -> None:
        """These are the pool's servers from now on."""

    def bound(self, request: Request, now: float) -> Collection[Server]:
        """The servers of the pool that the session of `request` may go to, the first that can serve; none if it is new."""

    def bind(self, request: Request, server: Server, now: float) -> None:
        """The session of `request` has been served by `server`."""


def make_sticky(spec: model.Sticky | None) -> Sticky | None:
    """The way that the operator asked for."""
    return None
