"""What have the processes of a proxy used?

All that belong to one process group, and whatever children they had, by what the kernel says of them in /proc (proc(5)).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "cpu_seconds", "descriptors", "memory", "read_pss", "read_stat"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """The group of a process, and the seconds that it and its children that ended have computed."""

    group: int
    seconds: float


def cpu_seconds(group: int) -> float:
    """User and system time of a process group."""
    return sum(usage.seconds for _, usage in _members(group))


def memory(group: int) -> int:
    """Bytes that a process group occupies; pages shared by several processes count once."""
    return sum(read_pss((process / "smaps_rollup").read_text()) for process, _ in _members(group))


def descriptors(group: int) -> Counter[str]:
    """How many descriptors a process group has open of each kind: "socket", "pipe", "anon_inode", "file"."""
    return Counter(kind for process, _ in _members(group) for kind in _kinds(process))


def read_stat(text: str) -> Usage:
    """What /proc/PID/stat says.  The name in it may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    return Usage(int(fields[2]), sum(map(int, fields[11:15])) / _TICKS)


def read_pss(text: str) -> int:
    """Bytes, from /proc/PID/smaps_rollup, which counts what /proc/PID/stat only estimates."""
    [size] = [line.split()[1] for line in text.splitlines() if line.startswith("Pss:")]
    return int(size) * 1024


def _kinds(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            kind, colon, _ = os.readlink(descriptor).partition(":")
            yield kind if colon else "file"


def _members(group: int) -> Iterator[tuple[Path, Usage]]:
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            usage = read_stat((process / "stat").read_text())
            if usage.group == group:
                yield process, usage
