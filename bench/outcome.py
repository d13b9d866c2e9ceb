"""What did a load do?

Every load runs for `SECONDS`, so that the proxies take turns often and meet the same noise of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SECONDS", "LoadFailed", "Outcome", "outcome"]

SECONDS = 1


class LoadFailed(Exception):
    """A load met errors, or did nothing: its figures mean nothing."""


@dataclass(frozen=True)
class Outcome:
    """Operations that were done in so many seconds; half of them took up to `p50` seconds, 99 of 100 up to `p99`."""

    operations: float
    seconds: float
    p50: float
    p99: float


def outcome(times: list[float], seconds: float, each: float = 1) -> Outcome:
    """Of the times that single requests took, in seconds, each of which is `each` operations.

    Raises LoadFailed when there are none.
    """
    if not times:
        raise LoadFailed("nothing was answered")
    times = sorted(times)
    return Outcome(len(times) * each, seconds, times[len(times) // 2], times[len(times) * 99 // 100])
