from __future__ import annotations

import signal
from collections import Counter
from random import Random
from threading import Event

from twisted.trial.unittest import SynchronousTestCase

from bench import soak
from bench.clients import Tally


class Server:
    """Keeps what is done to it; the trouble is over after so much."""

    def __init__(self, stop: Event, most: int) -> None:
        self.life: list[str] = []
        self._stop = stop
        self._most = most

    def signal(self, number: int) -> None:
        self.life.append(signal.Signals(number).name)
        if len(self.life) >= self._most:
            self._stop.set()

    def restart(self) -> None:
        self.life.append("restart")


class Hurried(Event):
    """Does not wait."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(0.0)


class Proxy:
    """Runs for so many samples."""

    def __init__(self, samples: int) -> None:
        self._left = samples

    def is_running(self) -> bool:
        self._left -= 1
        return self._left >= 0

    def memory(self) -> int:
        return 100 + self._left

    def descriptors(self) -> Counter[str]:
        return Counter(socket=1)


class TroubleTests(SynchronousTestCase):
    def test_whatever_happens_a_server_runs_in_the_end(self) -> None:
        """One that was killed is started, one that was frozen is thawed, also when time is over meanwhile."""
        seen = Counter[str]()
        for most in (1, 2, 9):
            for seed in range(10):
                server = Server(stop := Hurried(), most)
                seen += soak.trouble(server, Random(seed), stop).done
                pairs = list(zip(server.life[::2], server.life[1::2], strict=True))
                self.assertLessEqual(set(pairs), {("SIGKILL", "restart"), ("SIGSTOP", "SIGCONT")})
        self.assertEqual(set(seen), {"killed", "frozen"})

    def test_seed(self) -> None:
        """The same seed is the same trouble."""
        lives = []
        for _ in range(2):
            server = Server(stop := Hurried(), 20)
            soak.trouble(server, Random("7 server 1"), stop)
            lives.append(server.life)
        self.assertEqual(*lives)


class SampleTests(SynchronousTestCase):
    def test_a_program_that_ends(self) -> None:
        """No more samples are taken of it."""
        self.patch(soak, "Event", Hurried)
        self.assertEqual([sample.memory for sample in soak.sample(Proxy(3), 60)], [102, 101, 100])


class AddTests(SynchronousTestCase):
    def test_sum(self) -> None:
        one = Tally(Counter(a=1), Counter(e=1), ["w"])
        two = Tally(Counter(a=2, b=1), Counter(), ["v"])
        self.assertEqual(soak.add(iter([one, two])), Tally(Counter(a=3, b=1), Counter(e=1), ["w", "v"]))


class ClientsTests(SynchronousTestCase):
    def test_all_ports(self) -> None:
        """Every listener has good clients and bad ones."""
        kinds = {(port, act.__name__) for _, port, _, act in soak.CLIENTS}
        streams = {
            (port, act) for port in ("http", "tcp", "tls") for act in ("small", "bulk", "leave", "trickle", "rubbish")
        }
        self.assertEqual(
            kinds, streams | {(port, act) for port in ("udp", "udp_10") for act in ("datagrams", "strange_datagrams")}
        )
