from __future__ import annotations

import platform

from twisted.trial.unittest import SynchronousTestCase

from bench.machine import read_model, read_version


class MachineTests(SynchronousTestCase):
    def test_model(self) -> None:
        """The processor's name; where /proc has none, its kind."""
        self.assertEqual(read_model("processor\t: 0\nmodel name\t: Some CPU @ 2GHz\nflags: x\n"), "Some CPU @ 2GHz")
        self.assertEqual(read_model("processor\t: 0\n"), platform.machine())

    def test_version(self) -> None:
        """What the two programs say of themselves."""
        self.assertEqual(read_version("nginx version: nginx/1.22.1\n"), "1.22.1")
        self.assertEqual(read_version("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n"), "2.6.12")
        self.assertEqual(read_version("hello"), "of unknown version")
