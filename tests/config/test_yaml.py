from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pylb.config import yaml
from pylb.config.document import DEEPEST, Mark
from pylb.config.yaml import NotYaml, parse


class PlainValues(SynchronousTestCase):
    def test_what_is_more_than_text(self) -> None:
        """Only true, false, decimal integers and null are more than text; YAML 1.1's surprises stay what was written."""
        for written, meant in [
            ("true", True),
            ("false", False),
            ("0", 0),
            ("42", 42),
            ("-5", -5),
            ("null", None),
            ("~", None),
            ("", None),
            ("True", "True"),
            ("yes", "yes"),
            ("no", "no"),
            ("on", "on"),
            ("off", "off"),
            ("0660", "0660"),
            ("0x10", "0x10"),
            ("0b1", "0b1"),
            ("+1", "+1"),
            ("22:22", "22:22"),
            ("1_000", "1_000"),
            ("1.2", "1.2"),
            ("1e3", "1e3"),
            (".inf", ".inf"),
            ("2026-11-23", "2026-11-23"),
            ("1234567890123456789", "1234567890123456789"),
            ('"true"', "true"),
            ("'5'", "5"),
            ('""', ""),
            ("!!str 5", "5"),
            ("!!int 5", 5),
            ("=", "="),
        ]:
            tree, reading = parse(f"key: {written}\n".encode())
            self.assertEqual((type(meant), meant), (type(tree["key"]), tree["key"]), written)
            self.assertEqual([], reading.mistakes)

    def test_keys_are_text(self) -> None:
        """A key is what was written, whatever it looks like."""
        tree, _ = parse(b"1: a\ntrue: b\n~: c\n0660: d\n")
        self.assertEqual({"1": "a", "true": "b", "~": "c", "0660": "d"}, tree)

    def test_nothing(self) -> None:
        """A text of comments alone holds no tree; a byte order mark is no text."""
        for text in [b"", b"\n\n", b"# a comment\n", b"\xef\xbb\xbf"]:
            self.assertIsNone(parse(text)[0])

    def test_byte_order_mark(self) -> None:
        """A byte order mark before the first key is passed over."""
        self.assertEqual({"a": 1}, parse(b"\xef\xbb\xbfa: 1\n")[0])

    def test_without_libyaml(self) -> None:
        """PyYAML's own parser, where libyaml is missing, reads the same."""
        with mock.patch.object(yaml, "_Loader", yaml._loader(yaml.yaml.SafeLoader)):
            self.assertEqual({"a": ["no", 0, None, True]}, parse(b"a: [no, 0, ~, true]")[0])


class Marks(SynchronousTestCase):
    def test_every_path_is_marked(self) -> None:
        """Lines and columns count from 1 and from characters, for keys and for values."""
        _, reading = parse("pools:\n  a: [\u00e9, {weight: 1}]\n".encode())
        self.assertEqual(
            {
                (): Mark((1, 1), (1, 1)),
                ("pools",): Mark((1, 1), (2, 3)),
                ("pools", "a"): Mark((2, 3), (2, 6)),
                ("pools", "a", 0): Mark((2, 7), (2, 7)),
                ("pools", "a", 1): Mark((2, 10), (2, 10)),
                ("pools", "a", 1, "weight"): Mark((2, 11), (2, 19)),
            },
            reading.marks,
        )

    def test_merged_values_are_marked_where_they_are_written(self) -> None:
        """A mistake in a merged mapping is where the mapping stands."""
        _, reading = parse(b"base: &base {x: 1}\nuser:\n  <<: *base\n")
        self.assertEqual(Mark((1, 14), (1, 17)), reading.marks["user", "x"])


class Aliases(SynchronousTestCase):
    def test_alias(self) -> None:
        """An alias repeats what its anchor holds."""
        self.assertEqual({"a": [1, 2], "b": [1, 2]}, parse(b"a: &x [1, 2]\nb: *x\n")[0])

    def test_merge_key(self) -> None:
        """Keys of one's own win over merged ones, and what is merged first over what is merged later."""
        text = b"a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}\nd: {<<: *b}\n"
        tree, reading = parse(text)
        self.assertEqual({"x": 1, "y": 1, "z": 3}, tree["c"])
        self.assertEqual({"y": 2, "z": 2}, tree["d"])
        self.assertEqual([], reading.mistakes)

    def test_merge_in_what_is_merged(self) -> None:
        """A merged mapping brings what it merges itself."""
        tree, _ = parse(b"a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}\n")
        self.assertEqual({"x": 1, "y": 2}, tree["c"])


class SmallMistakes(SynchronousTestCase):
    """Mistakes that do not stop the reading; all of them are found."""

    def mistakes(self, text: bytes) -> list[tuple[tuple[int, int], tuple[str | int, ...], str]]:
        return parse(text)[1].mistakes

    def test_each(self) -> None:
        """Position, path and text of each mistake."""
        for text, expected in [
            (b"a: 1\nb: 2\na: 3\n", [((3, 1), ("a",), 'duplicate key "a", first at 1:1')]),
            (
                b"p:\n  a: {x: 1, x: 2}\n  a: 1\n",
                [
                    ((2, 13), ("p", "a", "x"), 'duplicate key "x", first at 2:7'),
                    ((3, 3), ("p", "a"), 'duplicate key "a", first at 2:3'),
                ],
            ),
            (b"? [1, 2]\n: 3\n", [((1, 3), (), "a key must be text")]),
            (b"a: {<<: 3}\n", [((1, 9), ("a",), "only mappings can be merged")]),
            (
                b"a: !!python/object:os.system x\n",
                [((1, 4), ("a",), 'the tag "!!python/object:os.system" is not understood here')],
            ),
            (b"a: !mine {}\n", [((1, 4), ("a",), 'the tag "!mine" is not understood here')]),
            (b"a: !!set [x]\n", [((1, 4), ("a",), 'the tag "!!set" is not understood here')]),
            (b"a: !!int x\n", [((1, 4), ("a",), 'the tag "!!int" is not understood here')]),
        ]:
            self.assertEqual(expected, self.mistakes(text), text)

    def test_first_of_two_equal_keys_is_kept(self) -> None:
        """The first of two equal keys is the one that further checks see."""
        self.assertEqual({"a": 1}, parse(b"a: 1\na: 2\n")[0])


class Refused(SynchronousTestCase):
    """Texts that cannot be read at all: one mistake, with its position."""

    def refused(self, text: bytes) -> str:
        error = self.assertRaises(NotYaml, parse, text)
        line, column = error.position
        return f"{line}:{column}: {error.text}"

    def test_each(self) -> None:
        """Position and text of each."""
        for text, expected in [
            (b"a: \xff\n", "1:4: not UTF-8 text (byte 0xff)"),
            (b"a: 1\n# \xc3\xa9 \xe9\n", "2:5: not UTF-8 text (byte 0xe9)"),
            (b"\x7fELF\x02\x01\x00", "1:1: not text (character U+007F)"),
            (b"a: 1\r\nb: \x00\n", "2:4: not text (character U+0000)"),
            (b"a: 1\n---\nb: 2\n", "2:1: a second document begins here; a file holds one"),
            (b"[" * 200_000, f"1:{DEEPEST + 1}: nested more than {DEEPEST} levels deep"),
            (b"a: &x [*x]\n", "1:4: an alias makes this contain itself"),
            (b"a: &x {<<: *x}\n", "1:4: an alias makes this contain itself"),
        ]:
            self.assertEqual(expected, self.refused(text))

    def test_half_written(self) -> None:
        """Wherever a file ends too early."""
        whole = b"pools: {a: {servers: [10.0.0.1:80, {address: '10.0.0.2:80'}]}}"
        for size in range(8, len(whole)):
            self.assertIn("not valid YAML: ", self.refused(whole[:size]))

    def test_wrong_yaml(self) -> None:
        """What PyYAML says is handed on with the position."""
        for text, expected in [
            (b"a: *x\n", "1:4: not valid YAML: "),
            (b"a: {b: 1\nc: 2\n", "2:2: not valid YAML: "),
        ]:
            self.assertEqual(expected, self.refused(text)[: len(expected)])

    def test_tab(self) -> None:
        """Nobody sees a tab: it is named, with its place; within text and comments it is fine."""
        tab = "a tab: write spaces in its place"
        for loader in {yaml._Loader, yaml._loader(yaml.yaml.SafeLoader)}:
            with mock.patch.object(yaml, "_Loader", loader):
                for text, place in [
                    (b"a:\n\tb: 1\n", "2:1"),
                    (b"a:\n  b:\n    - x\n\t- y\n", "4:1"),
                    (b"a:\n  b: c\n  \td: e\n", "3:3"),
                    ("\u00e9: b\r\nc:\r\n \te: f\r\n".encode(), "3:2"),
                    (b"-\ta: b\n", "1:2"),
                ]:
                    self.assertEqual(self.refused(text), f"{place}: {tab}")
                self.assertEqual(parse(b"a: b # c\td\ne: 'f\tg'\n")[0], {"a": "b", "e": "f\tg"})

    def test_alias_bomb(self) -> None:
        """Aliases of aliases are bounded, in lists and in merge keys."""
        for first, inner in [(b"[x]", b"[%s]"), (b"{x: 1}", b"{<<: [%s]}")]:
            lines = [b"a0: &a0 " + first]
            for level in range(1, 12):
                ten = b", ".join([b"*a%d" % (level - 1)] * 10)
                lines.append(b"a%d: &a%d %s" % (level, level, inner % ten))
            self.assertIn("aliases repeat more than 100000 values", self.refused(b"\n".join(lines)))
