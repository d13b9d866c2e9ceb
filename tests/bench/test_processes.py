from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.trial.unittest import SynchronousTestCase

from bench.processes import Usage, cpu_seconds, descriptors, memory, read_pss, read_stat

STAT = "42 (a (b) 1 2) S 1 40 40 0 -1 4194560 100 0 0 0 150 50 25 75 20 0 1 0 12345 1000 200"

#: A parent that had a busy child, holds 32 MiB, says so, and waits.
BUSY = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "for _ in range(2_000_000): pass"])
held = b"x" * (32 << 20)
print("ready", flush=True)
input()
"""


@contextmanager
def started(program: str) -> Iterator[int]:
    """The group of a program that has said that it is ready."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, start_new_session=True) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process.pid
        process.kill()


class ReadTests(SynchronousTestCase):
    def test_stat(self) -> None:
        """The group and all four times, whatever the program is called; a tick is 10 ms on Linux."""
        self.assertEqual(read_stat(STAT), Usage(40, 3.0))

    def test_pss(self) -> None:
        """The proportional share, in bytes."""
        self.assertEqual(read_pss("00400000-7ffd [rollup]\nRss:  99 kB\nPss:  12 kB\nPss_Anon: 7 kB\n"), 12 * 1024)


class GroupTests(SynchronousTestCase):
    def test_usage(self) -> None:
        """A group is charged for the children that it had, and for what it holds."""
        with started(BUSY) as busy, started("print('ready', flush=True); input()") as lazy:
            self.assertGreater(cpu_seconds(busy), cpu_seconds(lazy))
            self.assertGreater(memory(busy) - memory(lazy), 31 << 20)

    def test_descriptors(self) -> None:
        """What is open is counted by its kind."""
        opens = "import socket; held = socket.socket(), open('/dev/null'); print('ready', flush=True); input()"
        with started("print('ready', flush=True); input()") as one, started(opens) as other:
            self.assertEqual(descriptors(other) - descriptors(one), {"socket": 1, "file": 1})
            self.assertEqual(descriptors(one)["pipe"], 3)

    def test_gone(self) -> None:
        """A group that has ended uses nothing."""
        with started("print('ready', flush=True); input()") as group:
            self.assertGreater(memory(group), 0)
        self.assertEqual((cpu_seconds(group), memory(group), descriptors(group)), (0, 0, {}))
