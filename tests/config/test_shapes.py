"""pylb.config.shapes: values that an editor takes and marks."""

from __future__ import annotations

import re

from jsonschema import Draft202012Validator
from pydantic import WithJsonSchema
from twisted.trial.unittest import SynchronousTestCase

from pylb.config import shapes


class ShapeTests(SynchronousTestCase):
    def judges(self, shape: WithJsonSchema, right: list[object], wrong: list[object]) -> None:
        """Of the values those on the left are taken, and only they."""
        validator = Draft202012Validator(shape.json_schema or {})
        self.assertEqual(right, [value for value in [*right, *wrong] if validator.is_valid(value)])

    def test_plain(self) -> None:
        """Text is not empty, flags are true or false, numbers are whole and within 31 bits."""
        self.judges(shapes.TEXT, ["a", " "], ["", 5, None, True, ["a"]])
        self.judges(shapes.FLAG, [True, False], ["true", "on", 1, 0, None])
        self.judges(shapes.whole(0), [0, 7, 2**31 - 1], [-1, 2**31, 1.5, "7", True])
        self.judges(shapes.whole(1), [1], [0])

    def test_durations(self) -> None:
        """Numbers of seconds, or units from large to small; a timeout is longer than 0."""
        longer = [5, 0.5, "5", "0.5", "500ms", "1m30s", "2d", "1d2h3m4s5ms"]
        wrong: list[object] = ["", "5 s", "s", "5x", "1s5m", "-1s", -1, "1.s", "1m1m", None, True, "5s\n6s"]
        self.judges(shapes.DURATION, [*longer, 0, "0", "0s"], wrong)
        self.judges(shapes.TIMEOUT, longer, [*wrong, 0, "0", "0s", "0.0", "0m0s"])

    def test_sizes_and_factors(self) -> None:
        """Bytes with k, m or g; a factor is 1 or more, whether it is a number or, as pylb reads it, text."""
        self.judges(shapes.SIZE, [0, 512, "512", "16k", "10M", "1g"], [-1, 1.5, "10q", "k", "1 k", ""])
        self.judges(shapes.FACTOR, [1, 1.25, "1", "1.25", "10"], [0, 0.5, "0", "0.5", 1001, "x", None])

    def test_addresses(self) -> None:
        """A server has a port and may have a name; who listens has an IP address, or a port alone."""
        sockets = ["10.0.0.1:80", "[::1]:80"]
        wrong: list[object] = ["", "10.0.0.1", "::1:80", "[::1]", ":80", "a:b", "a b:80", "unix:", None]
        self.judges(shapes.ADDRESS, [*sockets, "app_1.example.com:80", "unix:/run/a b"], [*wrong, 80, "80"])
        self.judges(shapes.LISTEN, [*sockets, 80, "80", "unix:a"], [*wrong, "a.example:80", 0, 65536])
        self.judges(shapes.INET_LISTEN, [*sockets, 80, "80"], [*wrong, "a.example:80", 0, 65536, "unix:a"])

    def test_words(self) -> None:
        """One of some, a list of some, text of a form as a whole, text with a variable, or either of two shapes."""
        self.judges(shapes.words("a", "b"), ["a", "b"], ["c", "ab", ["a"], None])
        self.judges(shapes.some_of("a", "b"), [["a"], ["a", "b"]], [[], ["c"], "a"])
        self.judges(shapes.matching(re.compile("a|bb")), ["a", "bb"], ["ab", "abb", "", 5])
        self.judges(shapes.TEMPLATE, ["$a", "a $b"], ["a", "", 5])
        self.judges(shapes.either(shapes.words("off"), shapes.whole(1)), ["off", 1], ["on", 0])
