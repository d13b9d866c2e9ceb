"""Does a program of the operator's say that the server can serve?

It is run without a shell, with nothing to read, and its exit status decides: 0 is good.  The first line that it writes, of
errors rather than of others, is the reason in the log.  It learns whom to ask from PYLB_SERVER (the name in the
configuration), PYLB_ADDRESS and PYLB_PORT (for a Unix socket the path and nothing).

One that takes too long, or writes more than 320 KiB, is killed, with all that it has started, but for what has left its
process group.  To have a group of its own it is started by setsid(1), for Twisted cannot do that; where there is none it is
killed alone.  What is left behind by a program that ends by itself goes on, and is not waited for: what has been written is
read for 50 ms at most when the status is not 0, although others may still hold the pipes.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.check.interface import IHealthCheck, Unhealthy
from pylb.check.target import LONGEST, Target
from pylb.model import ExecCheck, InetAddress

__all__ = ["ProgramProbe"]

#: Bytes of what a program writes that are kept.
_KEPT = 200
#: Seconds for which what an ended program has written is read.
_MOMENT = 0.05
_STDOUT, _STDERR = 1, 2


@implementer(IHealthCheck)
class ProgramProbe:
    """Runs a program."""

    def __init__(self, spec: ExecCheck) -> None:
        self._program = spec.command[0]
        apart = shutil.which("setsid")
        self._command = spec.command if apart is None else (apart, *spec.command)

    async def check(self, target: Target) -> None:
        if shutil.which(self._program) is None:
            raise Unhealthy(f"{self._program} is not there, or may not be run")
        run = _Run(target.reactor)
        target.reactor.spawnProcess(run, self._command[0], self._command, _environment(target))
        await run.ended


class _Run(ProcessProtocol):
    """One run; `ended` fires when it is over."""

    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self._give_up())
        #: By descriptor.
        self._said = {_STDOUT: b"", _STDERR: b""}
        #: Bytes, of both.
        self._written = 0
        self._waited_for = True
        self._reactor = reactor
        #: Concludes when the program has ended and others hold its pipes.
        self._moment: Any = None

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        said = self._said[descriptor]
        self._said[descriptor] = said + data[: _KEPT - len(said)]
        self._written += len(data)
        if self._written > LONGEST:
            self._end()
            self._over(Unhealthy(f"writes more than {LONGEST // 1024} KiB"))

    def processExited(self, reason: Failure) -> None:
        if _how(reason).exitCode == 0:
            self._over(None)
        elif self._waited_for:
            self._moment = self._reactor.callLater(_MOMENT, self.processEnded, reason)

    def processEnded(self, reason: Failure) -> None:
        """All that it wrote has been read, too, or its moment is over."""
        self._over(Unhealthy(self._explain(_how(reason))))

    def _over(self, problem: Unhealthy | None) -> None:
        if not self._waited_for:
            return
        self._let_go()
        if problem is None:
            self.ended.callback(None)
        else:
            self.ended.errback(problem)

    def _explain(self, end: ProcessDone | ProcessTerminated) -> str:
        said = self._said[_STDERR].strip() or self._said[_STDOUT].strip()
        first = said.decode("utf-8", "replace").partition("\n")[0]
        how = f"ended by signal {end.signal}" if end.exitCode is None else f"exit status {end.exitCode}"
        return f"{how}{f': {first}' if first else ''}"

    def _give_up(self) -> None:
        self._end()
        self._let_go()

    def _let_go(self) -> None:
        self._waited_for = False
        if self._moment is not None and self._moment.active():
            self._moment.cancel()
        self.transport.loseConnection()

    def _end(self) -> None:
        if self.transport.pid is not None:  # Else it has ended.
            _kill(self.transport.pid)


def _kill(pid: int) -> None:
    """Kill the group that a process leads, if it does by now, and itself."""
    for kill in os.killpg, os.kill:
        with suppress(OSError):
            kill(pid, signal.SIGKILL)


def _how(reason: Failure) -> ProcessDone | ProcessTerminated:
    assert isinstance(reason.value, ProcessDone | ProcessTerminated)
    return reason.value


def _environment(target: Target) -> dict[str, str]:
    address = target.address
    host, port = (address.host, str(address.port)) if isinstance(address, InetAddress) else (address.path, "")
    return {**os.environ, "PYLB_SERVER": target.name, "PYLB_ADDRESS": host, "PYLB_PORT": port}
