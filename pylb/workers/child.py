"""How does a supervisor start one worker, and hear of it?

- The process inherits the descriptors that it is given, and no others.
- The signals that the supervisor answers are blocked in it from its first moment: a terminal sends Ctrl-C to all.
- What it says on standard error (it cannot even be started, or Python itself breaks) is logged line by line.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger, LogLevel

from pylb.signals import SIGNALS
from pylb.workers.sessions import Item
from pylb.workers.wire import Channel, Start
from pylb.workers.worker import CONTROL

__all__ = ["Child", "Parent", "spawn"]

_STDOUT, _STDERR = 1, 2

_log = Logger()


class Parent(Protocol):
    """Who is told what becomes of a child."""

    def came(self, child: Child) -> None:
        """It serves its own sockets."""

    def went(self, child: Child, reason: str) -> None:
        """It has ended, and was reaped."""

    def learned(self, child: Child, items: list[Item]) -> None:
        """It has learned something of sessions."""


class Child(ProcessProtocol):
    """A worker's process."""

    transport: Any

    def __init__(self, number: int, parent: Parent) -> None:
        self.number = number
        self.pid = 0
        self.serves = False
        #: When it began to serve.
        self.since = inf
        #: Its last sign of life, and how often it was looked at since.
        self.beat = 0.0
        self.silent = 0
        self.channel = Channel({"ready": self._ready, "learn": self._learned, "log": self._logs, "done": self._did})
        self._parent = parent
        #: Those who wait until it has done what it was told.
        self._waiting: deque[Deferred[None]] = deque()
        self._torn = b""

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.transport is not None:
            with suppress(ProcessExitedAlready):  # then its end is on its way to us
                self.transport.signalProcess("KILL")

    def done(self) -> Deferred[None]:
        """Fires when it has done all that it was told so far, or has ended."""
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        self.channel.send("ask")
        return done

    def connectionMade(self) -> None:
        self.pid = self.transport.pid

    def errReceived(self, data: bytes) -> None:
        *lines, self._torn = (self._torn + data).split(b"\n")
        for line in lines:
            _log.error("worker {worker}: {line}", worker=self.number, line=line.decode(errors="replace"))

    def processExited(self, reason: Any) -> None:
        number: int | None = reason.value.signal
        self._parent.went(self, signal.Signals(number).name if number else f"exit status {reason.value.exitCode}")
        while self._waiting:
            self._did()

    def _ready(self) -> None:
        self.serves = True
        self._parent.came(self)

    def _did(self) -> None:
        if self._waiting:  # else its end was heard of first
            self._waiting.popleft().callback(None)

    def _learned(self, items: list[Item]) -> None:
        self._parent.learned(self, items)

    def _logs(self, level: str, namespace: str, text: str) -> None:
        log = Logger(namespace)
        log.emit(LogLevel.lookupByName(level), "worker {worker}: {text}", worker=self.number, text=text)


def spawn(child: Child, start: Start, descriptors: Mapping[int, int], reactor: Any, folders: Iterable[str]) -> None:
    """Start a worker, which finds modules in `folders`; raises OSError.

    `descriptors` are those that it inherits, by their numbers there.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs, _blocked(SIGNALS):
        ours.setblocking(False)
        inherited = {CONTROL: theirs.fileno(), _STDOUT: _STDOUT, _STDERR: "r", **descriptors}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        program = [sys.executable, "-P", "-m", "pylb.workers.worker", type(reactor).__module__, str(child.number)]
        reactor.spawnProcess(child, program[0], program, environment, childFDs=inherited)
        reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: child.channel))
    child.channel.start(start)


@contextmanager
def _blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Let signals wait, also in processes that are started meanwhile, for ever there."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
