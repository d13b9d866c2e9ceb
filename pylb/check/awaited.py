"""What does a check wait for?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Awaited"]

_T = TypeVar("_T")


class Awaited(Generic[_T]):
    """`result` fires with what `found` makes of the bytes that come, as soon as that is not None; or with what it raises."""

    def __init__(self, found: Callable[[bytes], _T | None]) -> None:
        self.result: Deferred[_T] = Deferred()
        self._found = found

    def look(self, data: bytes) -> None:
        """These have come."""
        if self.result.called:
            return
        try:
            result = self._found(data)
        except Exception:
            self.result.errback(Failure())
        else:
            if result is not None:
                self.result.callback(result)

    def fail(self, error: Exception) -> None:
        """Nothing more is going to come."""
        if not self.result.called:
            self.result.errback(error)
