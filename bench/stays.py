"""Is a program that has served for long as it was?

- Memory may grow by `GROWTH` and `SLACK` from the first third of the time to the last: what is filled once takes its time.
- When the clients have left, what is open is what was open before.  Only pipes are kept, to be used again.
- Its log tells of no exception.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from threading import Event
from time import monotonic

from bench.program import Program

__all__ = ["GROWTH", "SLACK", "Sample", "errors", "exceptions", "findings", "grown", "settled", "thirds"]

GROWTH = 1.1
SLACK = 4_000_000

#: Seconds in which what is idle must be closed.
_SETTLES = 30.0
_PIPE = "pipe"
_ENTRY = re.compile(r"^(?=\d{4}-\d\d-\d\dT)", re.MULTILINE)
_TIME = re.compile(r"^\S+ ")


@dataclass(frozen=True)
class Sample:
    """Bytes of memory, and open descriptors by what they are."""

    memory: int
    descriptors: Counter[str]

    @classmethod
    def of(cls, program: Program) -> Sample:
        """A program, now."""
        return cls(program.memory(), program.descriptors())

    def kept(self) -> Counter[str]:
        """What may not become more."""
        return Counter({kind: count for kind, count in self.descriptors.items() if kind != _PIPE})


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first third and of the last."""
    third = max(1, len(values) // 3)
    return median(values[:third]), median(values[-third:])


def grown(values: Sequence[float], unit: float) -> str:
    """Both medians, for people."""
    first, last = thirds(values)
    return f"{first / unit:,.1f} in the first third, {last / unit:,.1f} in the last"


def settled(program: Program, before: Sample, pause: float = 0.5) -> Sample:
    """A sample when what is open is what was open before, or cannot be expected to become so."""
    end = monotonic() + _SETTLES
    while (now := Sample.of(program)).kept() - before.kept() and monotonic() < end:
        Event().wait(pause)
    return now


def findings(before: Sample, samples: Sequence[Sample], after: Sample, wrong: Sequence[str], log: str) -> list[str]:
    """What is not as it should be."""
    found = [f"an answer is wrong: {answer}" for answer in wrong]
    first, last = thirds([sample.memory for sample in samples])
    if last > first * GROWTH + SLACK:
        found.append(f"memory grows: {last / first:.2f} times, where {GROWTH} and {SLACK / 1e6:.0f} MB are allowed")
    if more := after.kept() - before.kept():
        found.append(f"descriptors stay open: {dict(more)}")
    if not after.descriptors:
        found.append("the program has ended")
    return [*found, *(f"the log tells of an exception: {entry}" for entry in exceptions(log))]


def exceptions(log: str) -> list[str]:
    """The entries of a log that hold a traceback, each once."""
    entries = (_TIME.sub("", entry).strip() for entry in _ENTRY.split(log) if "Traceback (most recent" in entry)
    return list(dict.fromkeys(entries))


def errors(log: str) -> Counter[str]:
    """The entries of a log that are errors, and how often there are such."""
    entries = (_TIME.sub("", entry).strip() for entry in _ENTRY.split(log))
    return Counter(entry for entry in entries if "#error]" in entry or "#critical]" in entry)
