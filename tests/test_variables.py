"""pylb.variables: which variables may a format name, and is this text a format?"""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.variables import VARIABLES, check_format, split_template


class SplitTemplateTests(SynchronousTestCase):
    def test_pieces_and_names(self) -> None:
        """Literal text alternates with names, in braces where a letter follows."""
        self.assertEqual(split_template("$status ${request_time}s"), (["", " ", "s"], ["status", "request_time"]))

    def test_braces_that_are_text(self) -> None:
        """Braces that do not enclose a name belong to the text."""
        self.assertEqual(split_template("{$status}"), (["{", "}"], ["status"]))

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(sorted(VARIABLES)), min_size=1))
    def test_names_are_found_again(self, names: list[str]) -> None:
        """Every name that a template is made of is found, in its order."""
        self.assertEqual(split_template(" ".join(f"${name}" for name in names))[1], names)


class CheckFormatTests(SynchronousTestCase):
    def test_good(self) -> None:
        """The two names and every template of known variables are formats."""
        for text in ("combined", "json", "$remote_addr", '$time_local "${request}" 100% é {}'):
            self.assertIsNone(check_format(text), text)

    def test_mistakes(self) -> None:
        """A mistake is named, with what was probably meant."""
        for text, mistake in {
            "$remote_add": 'unknown variable "$remote_add", did you mean "$remote_addr"?',
            "$status $xyzzy": 'unknown variable "$xyzzy"',
            "$satus ${requst}": 'unknown variable "$satus", did you mean "$status"?;'
            ' unknown variable "$requst", did you mean "$request"?',
            "$status 5$": 'a "$" without the name of a variable',
            "${status": 'a "$" without the name of a variable',
            "$status\n": "a template is one line of printable characters",
            "combind": '"combind" is neither a format nor a template of variables, did you mean "combined"?',
            "": '"" is neither a format nor a template of variables',
        }.items():
            self.assertEqual(check_format(text), mistake)

    @settings(deadline=None)
    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a format or has a mistake that is told in one line."""
        mistake = check_format(text)
        self.assertTrue(mistake is None or "\n" not in mistake)


class DocumentationTests(SynchronousTestCase):
    def test_every_variable_has_an_entry(self) -> None:
        """docs/access-log.md has a line for each variable and for nothing else, in alphabetical order."""
        page = (Path(__file__).parent.parent / "docs" / "access-log.md").read_text(encoding="utf-8")
        self.assertEqual(re.findall(r"^\| `\$(\w+)` \|", page, re.MULTILINE), sorted(VARIABLES))
