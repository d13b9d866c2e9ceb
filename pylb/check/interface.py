"""What is a health check?

A class of which each server gets an object of its own.  `check` asks once; whoever calls it knows about intervals, timeouts
and what follows from the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zope.interface import Interface

from pylb.balance.server import Switch

if TYPE_CHECKING:
    from pylb.check.target import Target

__all__ = ["IHealthCheck", "Report", "Unhealthy"]


class Unhealthy(Exception):
    """The server cannot serve; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a server says of itself, beyond that it is healthy."""

    #: Its share, as a part of its weight in the configuration; None leaves it.
    share: float | None = None
    #: None leaves it as it is.
    switch: Switch | None = None
    #: For people, in the log.
    why: str = ""


class IHealthCheck(Interface):
    """Finds out whether one server can serve."""

    def check(target: Target) -> Awaitable[Report | None]:  # type: ignore[misc]
        """Ask the server once; a coroutine.

        Raises `Unhealthy` when it cannot serve; any other exception counts as that, too.  Whatever was opened with the
        target is closed afterwards.  When it takes too long it has failed, and the coroutine is cancelled where it waits.
        """
