"""pylb.variables: which variables may a format name, and is this text a format?"""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.variables import KEY_VARIABLES, VARIABLES, check_format, check_variable, split_template


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


class CheckVariableTests(SynchronousTestCase):
    def test_good(self) -> None:
        """One variable that the protocol has; of a server's answer only where that has come."""
        for text, protocol, answered in (
            ("$remote_addr", "udp", False),
            ("${cookie_a}", "http", False),
            ("$ssl_server_name", "tcp", True),
            ("$upstream_cookie_a", "http", True),
            ("$upstream_http_x_y", None, True),
        ):
            self.assertIsNone(check_variable(text, protocol, answered=answered), text)

    def test_mistakes(self) -> None:
        """They are named, with what was probably meant."""
        for text, protocol, answered, mistake in (
            ("remote_addr", None, False, 'must be one variable, such as $remote_addr, not "remote_addr"'),
            ("$a$b", None, False, 'must be one variable, such as $remote_addr, not "$a$b"'),
            ("x$remote_addr", None, False, 'must be one variable, such as $remote_addr, not "x$remote_addr"'),
            ("$", None, False, 'a "$" without the name of a variable'),
            ("$remote_adr", "udp", False, 'udp has no "$remote_adr", did you mean "$remote_addr"?'),
            ("$cookie_a", "tcp", False, 'tcp has no "$cookie_a"'),
            ("$ssl_server_name", "udp", False, 'udp has no "$ssl_server_name"'),
            ("$upstream_cookie_a", None, False, '"$upstream_cookie_a" is not known before a server has answered'),
            ("$upstream_cookie_a", "tcp", True, 'tcp has no "$upstream_cookie_a"'),
            ("$upstream_addr", None, True, 'no protocol has a "$upstream_addr"'),
        ):
            found = check_variable(text, protocol, answered=answered)
            self.assertEqual(
                (text, (found or "").partition(", did you mean")[0]), (text, mistake.partition(", did")[0])
            )
            self.assertTrue(found and found.startswith(mistake), found)


class DocumentationTests(SynchronousTestCase):
    def test_every_variable_has_an_entry(self) -> None:
        """docs/access-log.md has a line for each variable and for nothing else, in alphabetical order."""
        page = (Path(__file__).parent.parent / "docs" / "access-log.md").read_text(encoding="utf-8")
        self.assertEqual(re.findall(r"^\| `\$(\w+)` \|", page, re.MULTILINE), sorted(VARIABLES))

    def test_variables_of_keys(self) -> None:
        """docs/variables.md has a line for each variable of a key, and says which protocols have it."""
        page = (Path(__file__).parent.parent / "docs" / "variables.md").read_text(encoding="utf-8")
        documented = dict(re.findall(r"^\| `\$(\w+)` \| ([a-z, ]+) \|", page, re.MULTILINE))
        known = sorted(set().union(*KEY_VARIABLES.values()))
        having = {name: ", ".join(p for p in ("http", "tcp", "udp") if name in KEY_VARIABLES[p]) for name in known}
        self.assertEqual(documented, having)
