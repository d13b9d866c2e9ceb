from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.outcome import LoadFailed, Outcome
from bench.tools import read_ab, read_wrk

WRK = """\
Running 1s test @ http://127.0.0.1:21001/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   131.32us   89.81us   2.22ms   93.21%
    Req/Sec   153.34k    14.97k  179.30k    72.73%
  Latency Distribution
     50%  122.00us
     75%  154.00us
     90%  193.00us
     99%    1.50ms
  16000 requests in 1.10s, 24.30MB read
Requests/sec:  12800.00
Transfer/sec:     22.08MB
"""

AB = """\
Concurrency Level:      32
Time taken for tests:   1.250 seconds
Complete requests:      27239
Failed requests:        0
Total transferred:      4004868 bytes
"""
PERCENTILES = "Percentage served,Time in ms\n0,0.621\n5,0.700\n50,1.079\n98,1.9\n99,1.968\n"


class WrkTests(SynchronousTestCase):
    def test_read(self) -> None:
        """Requests, the time as exactly as their rate tells it, and percentiles in whatever unit."""
        self.assertEqual(read_wrk(WRK), Outcome(16000, 1.25, 122.00 * 1e-6, 1.5 * 1e-3))

    def test_errors(self) -> None:
        """Broken connections and refused requests are no result."""
        for line in ("  Socket errors: connect 0, read 3, write 0, timeout 0\n", "  Non-2xx or 3xx responses: 16000\n"):
            with self.assertRaises(LoadFailed) as caught:
                read_wrk(WRK + line)
            self.assertEqual(str(caught.exception), f"wrk: {line.strip()}")

    def test_nothing(self) -> None:
        """Neither is a run without a request."""
        self.assertRaises(LoadFailed, read_wrk, WRK.replace("16000", "0"))

    def test_unclear(self) -> None:
        """What says something else is shown."""
        with self.assertRaises(LoadFailed) as caught:
            read_wrk("unable to connect to 127.0.0.1\n")
        self.assertIn("unable to connect", str(caught.exception))


class AbTests(SynchronousTestCase):
    def test_read(self) -> None:
        """Requests and seconds; percentiles in milliseconds from the file."""
        self.assertEqual(read_ab(AB, PERCENTILES), Outcome(27239, 1.25, 1.079 / 1000, 1.968 / 1000))

    def test_errors(self) -> None:
        """Failed and refused requests are no result."""
        for said in (AB.replace("requests:        0", "requests:        7"), AB + "Non-2xx responses:      27239\n"):
            self.assertRaises(LoadFailed, read_ab, said, PERCENTILES)
