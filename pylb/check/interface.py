"""What is a health check?

A class of which each server gets an object of its own.  `check` asks once; whoever calls it knows about intervals, timeouts
and what follows from the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from zope.interface import Interface

from pylb.balance.server import Switch

if TYPE_CHECKING:
    from pylb.check.target import Target

__all__ = ["MOST_SHARE", "IHealthCheck", "Report", "Unhealthy"]

#: The most that a server says is its share, as in HAProxy.
MOST_SHARE = 256


class Unhealthy(Exception):
    """The server cannot serve; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a server says of itself, beyond that it is healthy; raises ValueError for what it cannot say."""

    #: Its share, as a part of its weight in the configuration, at most `MOST_SHARE`; None leaves it.
    share: float | None = None
    #: None leaves it as it is.
    switch: Switch | None = None
    #: For people, in the log.
    why: str = ""

    def __post_init__(self) -> None:
        share, switch = self.share, self.switch
        if share is not None and not (isinstance(share, int | float) and 0 <= share <= MOST_SHARE):
            raise ValueError(f"the share of a Report is {share!r}, it may be None or a number from 0 to {MOST_SHARE}")
        if switch is not None and switch not in get_args(Switch):
            raise ValueError(f'the switch of a Report is {switch!r}, it may be None, "up", "drain" or "down"')
        if not isinstance(self.why, str):
            raise ValueError(f"the why of a Report is {self.why!r}, it must be a text")


class IHealthCheck(Interface):
    """Finds out whether one server can serve."""

    def check(target: Target) -> Awaitable[Report | None]:  # type: ignore[misc]
        """Ask the server once; a coroutine.

        Raises `Unhealthy` when it cannot serve; any other exception counts as that, too, and so does to return anything
        but None and a `Report`.  Whatever was opened with the
        target is closed afterwards.  When it takes too long it has failed, and the coroutine is cancelled where it waits.
        """
