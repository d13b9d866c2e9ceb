from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.report import page, plain, save
from bench.table import Row
from tests.bench.test_table import make_load, samples

DATE = datetime(2026, 11, 23, 9, 8, 7, tzinfo=UTC)
MACHINE = {"processor": "2 cores", "system": "Linux 6.18"}


def make_row(ours: float) -> Row:
    return Row(make_load(), {"pylb": samples(ours), "nginx": samples(2), "haproxy": samples(1)})


class PageTests(SynchronousTestCase):
    def test_met(self) -> None:
        """Below the table stand the day and the machine, and that all is well."""
        self.assertEqual(
            page([make_row(2)], DATE, MACHINE).splitlines()[-3:],
            ["2026-11-23, 2 cores, Linux 6.18.", "", "Every must is met."],
        )

    def test_missed(self) -> None:
        """Or what is not."""
        self.assertEqual(
            page([make_row(6)], DATE, MACHINE).splitlines()[-1], "- a: 3.00 where 1.5 is allowed (100% over)"
        )


class SaveTests(SynchronousTestCase):
    def test_files(self) -> None:
        """The page and every sample lie in files that are named by the time."""
        folder = Path(self.mktemp())
        path = save(folder, [make_row(2)], DATE, MACHINE)
        self.assertEqual(path, folder / "20261123T090807Z.md")
        self.assertEqual(path.read_text(encoding="utf-8"), page([make_row(2)], DATE, MACHINE))
        kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        self.assertEqual(kept, plain([make_row(2)], DATE, MACHINE))
        self.assertEqual(kept["loads"]["a"]["reached"], 1)
        self.assertEqual(
            kept["loads"]["a"]["samples"]["haproxy"], [{"figure": 1, "rate": None, "p50": None, "p99": None}]
        )
