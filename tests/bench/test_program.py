from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.program import Program, running
from bench.targets import free_ports

#: Writes to a FIFO and keeps it open, and cannot be asked to end.
CHILD = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open("fifo", "w") as fifo:
    fifo.write("x")
    fifo.flush()
    signal.pause()
"""

#: Has such a child, and listens.
SERVER = f"""
import signal, socket, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
port = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.pause()
"""


class ProgramTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def program(self, text: str) -> Program:
        ports = free_ports(["tcp", "udp"])
        return Program("p", [sys.executable, "-c", text, str(ports["tcp"])], self.folder, ports)

    def open_fifo(self) -> int:
        """The reading end of what the child writes to: it ends when the child does."""
        os.mkfifo(self.folder / "fifo")
        descriptor = os.open(self.folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, descriptor)
        return descriptor

    def read(self, descriptor: int) -> bytes:
        self.assertEqual(select.select([descriptor], [], [], 10)[0], [descriptor])
        return os.read(descriptor, 10)

    def test_running(self) -> None:
        """It listens when it counts as started, and is gone afterwards with what it had started."""
        fifo = self.open_fifo()
        with self.assertRaises(ZeroDivisionError), running(self.program(SERVER)) as program:
            self.assertGreater(program.memory(), 0)
            self.assertEqual(len(program.children()), 1)
            self.assertGreater(program.cpu_seconds(), 0)
            self.assertGreater(program.descriptors()["socket"], 0)
            self.assertTrue(program.is_running())
            self.assertEqual(self.read(fifo), b"x")
            raise ZeroDivisionError
        self.assertEqual(self.read(fifo), b"")

    def test_signal(self) -> None:
        """A signal reaches it and its child; it has then ended by itself."""
        fifo = self.open_fifo()
        with running(self.program(SERVER)) as program:
            self.assertEqual(self.read(fifo), b"x")
            program.signal(signal.SIGKILL)
            self.assertEqual(self.read(fifo), b"")
            program._process.wait()
            self.assertFalse(program.is_running())

    def test_printed(self) -> None:
        """What it prints can be read while it runs."""
        self.open_fifo()
        with running(self.program("print('hello', flush=True)" + SERVER)) as program:
            self.assertEqual(program.printed(), "hello\n")

    def test_restart(self) -> None:
        """It begins anew, on the same port."""
        self.open_fifo()
        with running(self.program(SERVER)) as program:
            before = program._group
            program.restart()
            self.assertNotEqual(program._group, before)

    def test_broken(self) -> None:
        """Who does not start is quoted."""
        with self.assertRaises(RuntimeError) as caught, running(self.program("raise SystemExit('no such thing')")):
            pass
        self.assertEqual(str(caught.exception), "p does not start: no such thing\n")
