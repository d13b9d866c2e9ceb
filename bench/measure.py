"""What does a load cost a proxy?

Each way of measuring has a figure of its own, which stands beside nginx's: the CPU time of an operation, the memory of an
idle connection, or the time that a request takes while the proxy is half busy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.connections import idle, paced
from bench.outcome import Outcome
from bench.program import Program
from bench.tools import CONNECTIONS, wrk

__all__ = ["Measure", "Sample", "cpu", "memory", "tail"]

IDLE = 1000


@dataclass(frozen=True)
class Sample:
    """One measurement: the figure, operations a second, and the times that half and 99 of 100 took up to, in seconds."""

    figure: float
    rate: float | None = None
    p50: float | None = None
    p99: float | None = None


Measure = Callable[[Program], Sample]


def cpu(port: str, load: Callable[[int], Outcome]) -> Measure:
    """The CPU microseconds of one operation of this load on a port."""

    def measure(program: Program) -> Sample:
        before = program.cpu_seconds()
        done = load(program.ports[port])
        spent = program.cpu_seconds() - before
        return Sample(spent / done.operations * 1e6, done.operations / done.seconds, done.p50, done.p99)

    return measure


def memory(port: str) -> Measure:
    """The kB of one idle connection on a port.

    The program is started for this, as it may hold memory from before; what the first connections bring is not counted.
    """

    def measure(program: Program) -> Sample:
        program.restart()
        with idle(program.ports[port], CONNECTIONS):
            before = program.memory()
            with idle(program.ports[port], IDLE):
                return Sample((program.memory() - before) / IDLE / 1000)

    return measure


def tail(port: str, headers: tuple[str, ...]) -> Measure:
    """The milliseconds that 99 of 100 requests take up to, when half of those come that the program can bear."""

    def measure(program: Program) -> Sample:
        most = wrk(program.ports[port], headers=headers)
        done = paced(program.ports[port], most.operations / most.seconds / 2, headers)
        return Sample(done.p99 * 1000, done.operations / done.seconds, done.p50, done.p99)

    return measure
