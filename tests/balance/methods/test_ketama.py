"""Tests of pylb.balance.methods.ketama; where keys land is in test_vectors.py."""

from __future__ import annotations

from itertools import islice
from zlib import crc32

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods.ketama import Ring, seed
from tests.balance.fakes import LETTERS

KEYS = [b"%d" % number for number in range(2000)]


class RingTests(SynchronousTestCase):
    def test_seed(self) -> None:
        """Host, NUL and port; of a Unix socket the path and NUL; of IPv6 the brackets belong to the host."""
        expected = [crc32(b"10.0.0.1\x0080"), crc32(b"[::1]\x0080"), crc32(b"/run/app.sock\0")]
        self.assertEqual([seed(name) for name in ("10.0.0.1:80", "[::1]:80", "unix:/run/app.sock")], expected)

    def test_points(self) -> None:
        """160 points a unit of weight."""
        weights = [("a:80", 1), ("b:80", 3)]
        self.assertEqual((len(Ring(weights)), Ring.points(weights)), (160 * 4, 160 * 4))

    def test_one_for_each_place(self) -> None:
        """Of points that are equal the first server's stays."""
        ring = Ring([("a:80", 1), ("a:80", 2)])
        self.assertEqual((len(ring), list(ring._owners).count(0)), (320, 160))

    def test_owners(self) -> None:
        """A walk begins at the key's point, goes along the ring, and round and round."""
        ring = Ring([(f"{letter}:80", 1) for letter in LETTERS])
        points = [f"{LETTERS[owner]}:80" for owner in ring._owners]
        for key in KEYS[:20]:
            first = next(place for place, point in enumerate(ring._hashes) if point >= crc32(key))
            walk = list(islice(ring.owners(key), 2 * len(ring)))
            self.assertEqual(walk, 2 * (points[first:] + points[:first]))

    def test_round(self) -> None:
        """Behind the last point comes the first."""
        ring = Ring([(f"{letter}:80", 1) for letter in LETTERS])
        last = ring._hashes[-1]
        key = next(b"%d" % key for key in range(100_000) if crc32(b"%d" % key) > last)
        self.assertEqual(next(ring.owners(key)), f"{LETTERS[ring._owners[0]]}:80")
