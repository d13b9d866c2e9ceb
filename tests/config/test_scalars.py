from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pylb.config import scalars
from tests.config.tables import ANYTHING, Table


class Words(Table):
    def test_text(self) -> None:
        """Text is any text but the empty one."""
        self.reads(scalars.text, [("a", "a"), ("a b", "a b")])
        self.refuses(
            scalars.text,
            [
                ("", 'must be text, not ""'),
                (5, "must be text, not 5"),
                (True, "must be text, not true"),
                ([], "must be text, not a list"),
                ({}, "must be text, not a mapping"),
                (1.5, "must be text, not 1.5"),
                (b"x", "must be text, not a bytes"),
            ],
        )

    def test_matching(self) -> None:
        """Text that a pattern describes from end to end; another one is shown where the problem says so."""
        read = scalars.matching(re.compile("[a-z]+"), "%s is no word")
        self.reads(read, [("a", "a"), ("ab", "ab")])
        self.refuses(
            read,
            [
                ("a b", '"a b" is no word'),
                ("a\n", '"a\\n" is no word'),
                ("%s", '"%s" is no word'),
                ("", 'must be text, not ""'),
                (5, "must be text, not 5"),
            ],
        )

    def test_flag(self) -> None:
        """Booleans are true and false; other words that YAML 1.1 takes for booleans are told what to write."""
        self.reads(scalars.flag, [(True, True), (False, False)])
        self.refuses(
            scalars.flag,
            [
                ("off", 'must be true or false, not "off", write false'),
                ("Yes", 'must be true or false, not "Yes", write true'),
                ("true", 'must be true or false, not "true", write true'),
                ("x", 'must be true or false, not "x"'),
                (1, "must be true or false, not 1"),
            ],
        )

    def test_choice(self) -> None:
        """One of the words known."""
        read = scalars.choice("1.2", "1.3")
        self.reads(read, [("1.3", "1.3")])
        self.refuses(read, [("1.1", 'must be "1.2" or "1.3", not "1.1"'), (1.2, 'must be "1.2" or "1.3", not 1.2')])

    def test_long_and_strange_values_are_shown_short_and_printable(self) -> None:
        """A message is one printable line of bounded length, whatever was written."""
        self.refuses(
            scalars.flag,
            [
                ("x" * 100, 'must be true or false, not "' + "x" * 60 + '..."'),
                ("a\nb", 'must be true or false, not "a\\nb"'),
                (10**5000, "must be true or false, not a number that large"),
            ],
        )


class Numbers(Table):
    def test_whole(self) -> None:
        """Whole numbers, bounded below as asked and above by 31 bits."""
        self.reads(scalars.whole(0), [(0, 0), (7, 7), (2**31 - 1, 2**31 - 1)])
        self.refuses(
            scalars.whole(1),
            [
                (0, "must be from 1 to 2147483647, not 0"),
                (-3, "must be from 1 to 2147483647, not -3"),
                (2**31, "must be from 1 to 2147483647, not 2147483648"),
                ("5", 'must be a whole number, not "5"'),
                (True, "must be a whole number, not true"),
                (1.0, "must be a whole number, not 1.0"),
            ],
        )

    def test_factor(self) -> None:
        """Factors are from 1 to 1000, with or without a fraction."""
        self.reads(
            scalars.factor, [(1, 1.0), (2, 2.0), ("1.25", 1.25), ("2", 2.0), (1.5, 1.5), (1000, 1000.0), ("1.0", 1.0)]
        )
        self.refuses(
            scalars.factor,
            [
                (0, "must be from 1 to 1000, not 0"),
                ("0.99", 'must be from 1 to 1000, not "0.99"'),
                (1001, "must be from 1 to 1000, not 1001"),
                (10**400, "must be from 1 to 1000, not a number that large"),
                (float("nan"), "must be from 1 to 1000, not nan"),
                ("1,5", 'must be a number such as 1.25, not "1,5"'),
                ("125%", 'must be a number such as 1.25, not "125%"'),
                ("1e2", 'must be a number such as 1.25, not "1e2"'),
                (True, "must be a number such as 1.25, not true"),
                (None, "must be a number such as 1.25, not a NoneType"),
            ],
        )

    def test_size(self) -> None:
        """Sizes are bytes, k, m and g by 1024."""
        self.reads(
            scalars.size,
            [
                (0, 0),
                (512, 512),
                ("512", 512),
                ("16k", 16384),
                ("16K", 16384),
                ("10m", 10 * 1024**2),
                ("1g", 1024**3),
            ],
        )
        suffix = "must be a size such as 512, 16k, 10m or 1g, not "
        self.refuses(
            scalars.size,
            [
                ("10q", suffix + '"10q"'),
                ("1.5m", suffix + '"1.5m"'),
                ("", suffix + '""'),
                ("\u0661k", suffix + '"\u0661k"'),
                (-1, suffix + "-1"),
                (True, suffix + "true"),
                ("999999999999999999g", 'must be below 8 EiB, not "999999999999999999g"'),
            ],
        )

    def test_permissions(self) -> None:
        """Permission bits are four octal digits, quoted or not; a number is not guessed at."""
        self.reads(scalars.permissions, [("0660", 0o660), ("0777", 0o777)])
        suffix = 'must be four octal digits such as "0660", not '
        self.refuses(
            scalars.permissions, [(660, suffix + "660"), ("660", suffix + '"660"'), ("0680", suffix + '"0680"')]
        )

    @given(st.integers(0, 2**32), st.sampled_from(["", "k", "m", "g"]))
    def test_size_round_trip(self, count: int, unit: str) -> None:
        """A size is its digits times its unit."""
        self.assertEqual(count * 1024 ** ["", "k", "m", "g"].index(unit), scalars.size(f"{count}{unit}"))


class Durations(Table):
    def test_durations(self) -> None:
        """Units from large to small; a bare number is seconds."""
        self.reads(
            scalars.duration,
            [
                (5, 5.0),
                (0, 0.0),
                (0.25, 0.25),
                ("5", 5.0),
                ("0.5", 0.5),
                ("500ms", 0.5),
                ("1ms", 0.001),
                ("5s", 5.0),
                ("1m", 60.0),
                ("1m30s", 90.0),
                ("1h", 3600.0),
                ("2d", 172800.0),
                ("1d2h3m4s5ms", 93784.005),
                ("1m5ms", 60.005),
            ],
        )

    def test_refused(self) -> None:
        """What is no duration, is negative or longer than a year."""
        form = "must be a duration such as 500ms, 5s or 1m30s, not "
        self.refuses(
            scalars.duration,
            [
                ("", form + '""'),
                ("5 s", form + '"5 s"'),
                ("5x", form + '"5x"'),
                ("1s1m", form + '"1s1m"'),
                ("1s1s", form + '"1s1s"'),
                ("1.5s", form + '"1.5s"'),
                ("-1", form + '"-1"'),
                ("\u0661s", form + '"\u0661s"'),
                (True, form + "true"),
                ([], form + "a list"),
                (-1, "must be from 0 to 365d, not -1"),
                ("366d", 'must be from 0 to 365d, not "366d"'),
                (10**400, "must be from 0 to 365d, not a number that large"),
                (float("nan"), "must be from 0 to 365d, not nan"),
                (float("inf"), "must be from 0 to 365d, not inf"),
            ],
        )

    @given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 999))
    def test_round_trip(self, days: int, hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
        """The parts of a duration add up, to the millisecond."""
        total = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + milliseconds
        written = f"{days}d{hours}h{minutes}m{seconds}s{milliseconds}ms"
        self.assertEqual(total, round(scalars.duration(written) * 1000))


class Anything(Table):
    @given(ANYTHING)
    def test_only_value_error(self, value: object) -> None:
        """Whatever is written, a reader answers or raises ValueError with a text of one line."""
        alone = [scalars.duration, scalars.factor, scalars.flag, scalars.permissions, scalars.size, scalars.text]
        for read in [*alone, scalars.whole(0), scalars.choice("on")]:
            self.reads_or_refuses(read, value)
