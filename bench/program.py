"""How is a program started that serves, and ended whatever happens?

It is a process group of its own: what it starts is ended with it, and Ctrl-C reaches the benchmark alone, which then ends
it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from bench import processes

__all__ = ["Program", "running"]

_ROOT = Path(__file__).resolve().parent.parent
_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 5.0


class Program:
    """A program that serves on some ports, which have names, from a folder; once it does, it says what `says` is."""

    def __init__(self, name: str, command: list[str], folder: Path, ports: Mapping[str, int], says: str = "") -> None:
        self.name = name
        self._says = says
        self.ports = ports
        self._command = command
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it serves.  Raises RuntimeError, with what it printed, when it does not."""
        environment = os.environ | {"PYTHONPATH": str(_ROOT)}
        with self._output.open("ab") as file:
            self._process = subprocess.Popen(
                self._command, stdout=file, stderr=file, cwd=self._folder, env=environment, start_new_session=True
            )
        end = monotonic() + _START_TIMEOUT
        while not (self._listens() and self._says in self.printed()):
            if self._process.poll() is not None or monotonic() > end:
                raise RuntimeError(f"{self.name} does not start: {self.printed()[-2000:]}")
            sleep(0.02)

    def stop(self) -> None:
        """End it, and all that it started."""
        if (process := self._process) is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._process = None

    def restart(self) -> None:
        """Begin anew, with nothing kept from before."""
        self.stop()
        self.start()

    def children(self) -> list[int]:
        """The processes that it has started, the oldest first."""
        main = self._group
        return list(map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split()))

    def cpu_seconds(self) -> float:
        """User and system time of all its processes since it was started."""
        return processes.cpu_seconds(self._group)

    def memory(self) -> int:
        """Bytes that all its processes occupy."""
        return processes.memory(self._group)

    def descriptors(self) -> Counter[str]:
        """How many descriptors of each kind all its processes have open."""
        return processes.descriptors(self._group)

    def printed(self) -> str:
        """All that it has printed."""
        return self._output.read_text(errors="replace")

    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        os.killpg(self._group, number)

    @property
    def _group(self) -> int:
        assert self._process is not None, f"{self.name} is not started"
        return self._process.pid

    @property
    def _output(self) -> Path:
        return self._folder / f"{self.name}.out"

    def _listens(self) -> bool:
        return all(_accepts(port) for name, port in self.ports.items() if not name.startswith("udp"))


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """A program that is started now and ended afterwards."""
    try:
        program.start()
        yield program
    finally:
        program.stop()


def _accepts(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
