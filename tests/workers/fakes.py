"""Workers that are not processes: they do what a test says."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.workers import crew
from pylb.workers.child import Parent
from pylb.workers.wire import Start


class Reactor(Clock):
    """Runs from the beginning."""

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        call()

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        """What threads find nobody hears."""


class Channel:
    """What a worker was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def send(self, *message: Any) -> None:
        self.told.append(message)

    offer = send


class Child:
    """A worker that does what the test says."""

    def __init__(self, number: int, parent: Parent) -> None:
        self.number, self.parent = number, parent
        self.since = inf
        self.serves = self.killed = False
        self.silent = self.pid = 0
        self.beat = 0.0
        self.channel = Channel()
        #: Fires when it has done what it was told.
        self.busy: Deferred[None] = succeed(None)

    def done(self) -> Deferred[None]:
        return self.busy

    @property
    def told(self) -> list[tuple[Any, ...]]:
        return self.channel.told

    def come(self) -> None:
        self.serves = True
        self.parent.came(self)

    def go(self) -> None:
        self.parent.went(self, "a reason")

    def kill(self) -> None:
        self.killed = True


class Mustered(SynchronousTestCase):
    """Whoever starts workers starts such; `error` is what the system says to the next that is started, 0 is nothing."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        #: All that were ever started, and what they were told then.
        self.started: list[Any] = []
        self.starts: list[Start] = []
        self.error = 0
        self.patch(crew, "Child", Child)
        self.patch(crew, "spawn", self.spawn)

    def spawn(self, child: Child, start: Start, *more: Any) -> None:
        if self.error:
            raise OSError(self.error, "no more processes")
        self.started.append(child)
        self.starts.append(start)

    def numbers(self) -> list[int]:
        return [child.number for child in self.started]
