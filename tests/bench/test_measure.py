from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import measure
from bench.measure import Sample, cpu, memory, tail
from bench.outcome import Outcome
from bench.program import Program
from tests.bench.servers import serving
from tests.bench.test_connections import ConnectionTestCase


class Proxy(Program):
    """Has a port "web", and uses what the test says."""

    def __init__(self, port: int = 80, cpu: tuple[float, ...] = (), memory: tuple[int, ...] = ()) -> None:
        super().__init__("p", [], Path(), {"web": port})
        self._cpu, self._memory = iter(cpu), iter(memory)
        self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1

    def cpu_seconds(self) -> float:
        return next(self._cpu)

    def memory(self) -> int:
        return next(self._memory)


class CPUTests(SynchronousTestCase):
    def test_cpu(self) -> None:
        """The seconds that were spent during the load, in microseconds for each operation."""
        ports = []

        def load(port: int) -> Outcome:
            ports.append(port)
            return Outcome(1000, 0.5, 0.1, 0.2)

        self.assertEqual(cpu("web", load)(Proxy(81, cpu=(3.0, 3.25))), Sample(250, 2000, 0.1, 0.2))
        self.assertEqual(ports, [81])


class MemoryTests(ConnectionTestCase):
    def test_memory(self) -> None:
        """What idle connections add to a fresh program, in kB for each; the first ones do not count."""
        self.patch(measure, "IDLE", 4)
        with serving(self.serve()) as port:
            proxy = Proxy(port, memory=(1_000_000, 1_010_000))
            self.assertEqual(memory("web")(proxy), Sample(2.5))
        self.assertEqual((proxy.restarts, len(self.requests)), (1, measure.CONNECTIONS + 4))


class TailTests(SynchronousTestCase):
    def test_tail(self) -> None:
        """The p99 in milliseconds at half the rate that was possible just before."""
        asked = []

        def paced(port: int, rate: float, headers: tuple[str, ...]) -> Outcome:
            asked.append((port, rate, headers))
            return Outcome(100, 1, 0.001, 0.004)

        self.patch(measure, "wrk", lambda port, headers: Outcome(400, 2, 1, 1))
        self.patch(measure, "paced", paced)
        self.assertEqual(tail("web", ("A: b",))(Proxy(81)), Sample(4, 100, 0.001, 0.004))
        self.assertEqual(asked, [(81, 100, ("A: b",))])
