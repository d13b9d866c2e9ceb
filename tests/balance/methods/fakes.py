"""Tools of methods: a request is its own key, and long work waits until the test does it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from pylb.balance.methods.interface import Elsewhere, Tools, at_once


def text(request: object | None) -> bytes:
    """The key of a request; nobody has none."""
    return b"" if request is None else str(request).encode()


def tools(elsewhere: Elsewhere = at_once) -> Tools:
    return Tools(random=Random(1), key=text, address=text, elsewhere=elsewhere)


class Aside:
    """An `elsewhere` where nothing is done of itself."""

    def __init__(self) -> None:
        self.works: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def __call__(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.works.append((work, done))

    def work(self) -> None:
        """Do all of it, in order."""
        works, self.works = self.works, []
        for work, done in works:
            done(work())
