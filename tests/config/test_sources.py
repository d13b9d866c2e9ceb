from __future__ import annotations

import os
from unittest import mock

from pylb.config import ConfigError, from_dict, load, sources
from pylb.model import UnixAddress
from tests.config.files import ConfigTestCase

MAIN = "include: [%s]\npools: {a: {servers: [10.0.0.1:80]}}\nlisteners: {w: {protocol: tcp, listen: 8080, pool: a}}\n"
POOL = "pools: {%s: {servers: [10.0.0.2:80]}}\n"


class Unreadable(ConfigTestCase):
    """Files that cannot be read at all: one clear message each."""

    def test_no_file(self) -> None:
        """A file that is missing, or is a folder, or may not be read."""
        for path, reason in [("none.yaml", "No such file or directory"), ("", "Is a directory")]:
            error = self.assertRaises(ConfigError, load, f"{self.folder}/{path}")
            self.assertEqual(f"{self.folder}/{path}: cannot be read: {reason}", str(error))

    def test_contents(self) -> None:
        """A file that holds no configuration."""
        for content, message in [
            (b"", "1:1: the file is empty"),
            (b"# nothing\n", "1:1: the file is empty"),
            (b"\x7fELF\x02\x01\x01\x00", "1:1: not text (character U+007F)"),
            (b"a: \xe9\n", "1:4: not UTF-8 text (byte 0xe9)"),
            (b"hello\n", "1:1: a configuration is a mapping (pools: ..., listeners: ...)"),
            (b"- a\n- b\n", "1:1: a configuration is a mapping (pools: ..., listeners: ...)"),
            (b"pools: {}\n---\npools: {}\n", "2:1: a second document begins here; a file holds one"),
            (b"[" * 1000, "1:33: nested more than 32 levels deep"),
        ]:
            self.assertEqual([f"lb.yaml:{message}"], self.mistakes(content))

    def test_huge(self) -> None:
        """A file without end is not read for ever."""
        with mock.patch.object(sources, "LARGEST_FILE", 1 << 20):
            error = self.assertRaises(ConfigError, load, "/dev/zero")
        self.assertEqual("/dev/zero: cannot be read: it is larger than 1 MiB", str(error))

    def test_duplicate_keys(self) -> None:
        """Equal keys are found with whatever else is wrong."""
        text = "listeners: {w: {protocol: tcp, listen: 80, pool: a}}\npools:\n  a: {servers: [x]}\n  a: 1\n"
        self.assertEqual(
            [
                'lb.yaml:3:17: pools.a.servers.0: "x" has no port',
                'lb.yaml:4:3: pools.a: duplicate key "a", first at 3:3',
            ],
            self.mistakes(text),
        )


class Includes(ConfigTestCase):
    def test_merged(self) -> None:
        """Pools and listeners of included files are added; included files include in their own folder."""
        self.write("conf.d/b.yaml", POOL % "b")
        self.write("conf.d/a.yaml", POOL % "c" + "include: [more/*.yaml]\n")
        self.write("conf.d/more/x.yaml", "listeners: {x: {protocol: udp, listen: 53, pool: b}}\n")
        self.write("conf.d/nothing.yaml", "# nothing yet\n")
        self.write("conf.d/other.txt", "no: configuration\n")
        config = self.load(MAIN % "conf.d/*.yaml")
        self.assertEqual(["a", "c", "b"], list(config.pools))
        self.assertEqual(["w", "x"], list(config.listeners))

    def test_nothing_found(self) -> None:
        """A wildcard may find nothing; a plain path must exist."""
        self.load(MAIN % "'conf.d/*.yaml'")
        [message] = self.mistakes(MAIN % "conf.d/a.yaml")
        self.assertEqual('lb.yaml:1:11: include.0: "conf.d/a.yaml" cannot be read: No such file or directory', message)

    def test_mistakes_name_their_file(self) -> None:
        """A mistake in an included file has that file's name and line; the main file's come first."""
        self.write("conf.d/a.yaml", "pools:\n  b: {severs: []}\n")
        self.write("conf.d/b.yaml", "a: [\n")
        messages = self.mistakes(MAIN % "conf.d/*.yaml" + "colour: red\n")
        self.assertEqual(
            [
                'lb.yaml:4:1: colour: unknown key "colour"',
                'conf.d/a.yaml:2:6: pools.b: "servers" is missing',
                'conf.d/a.yaml:2:7: pools.b.severs: unknown key "severs", did you mean "servers"?',
            ],
            messages[:3],
        )
        self.assertTrue(messages[3].startswith("conf.d/b.yaml:2:1: not valid YAML: "), messages[3])

    def test_what_could_not_be_read_is_not_called_missing(self) -> None:
        """A pool that may be in a file that could not be read is not unknown."""
        self.write("conf.d/a.yaml", b"\xff")
        self.assertEqual(
            ["conf.d/a.yaml:1:1: not UTF-8 text (byte 0xff)"],
            self.mistakes("include: [conf.d/*]\nlisteners: {w: {protocol: tcp, listen: 80, pool: b}}\n"),
        )

    def test_only_pools_and_listeners(self) -> None:
        """What holds for the whole program belongs in the main file."""
        self.write("a.yaml", "workers: 1\npool: {}\n")
        self.assertEqual(
            [
                'a.yaml:1:1: workers: "workers" belongs in the main file;'
                " an included one holds pools, listeners and include",
                'a.yaml:2:1: pool: unknown key "pool", did you mean "pools"?',
            ],
            self.mistakes(MAIN % "a.yaml"),
        )

    def test_defined_twice(self) -> None:
        """A name that two files define is an error that names both places."""
        self.write("a.yaml", POOL % "a" + "listeners:\n  w: {protocol: tcp, listen: 81, pool: a}\n")
        self.assertEqual(
            [
                "a.yaml:1:9: pools.a: defined twice, first at lb.yaml:2:9",
                "a.yaml:3:3: listeners.w: defined twice, first at lb.yaml:3:13",
            ],
            self.mistakes(MAIN % "a.yaml"),
        )

    def test_conflicts_between_files(self) -> None:
        """What parts must agree on, they must agree on across files."""
        self.write("a.yaml", "listeners: {x: {protocol: tcp, listen: 127.0.0.1:8080, pool: b}}\n")
        self.assertEqual(
            [
                'a.yaml:1:40: listeners.x.listen: 127.0.0.1:8080 is taken by "w", 0.0.0.0:8080 at lb.yaml:3:40',
                'a.yaml:1:62: listeners.x.pool: unknown pool "b"',
            ],
            self.mistakes(MAIN % "a.yaml"),
        )

    def test_cycles(self) -> None:
        """No file is read twice, not even by another name."""
        self.write("a.yaml", "include: [lb.yaml]\n")
        os.symlink("a.yaml", self.folder / "b.yaml")
        self.assertEqual(
            [
                'lb.yaml:1:19: include.1: "b.yaml" cannot be read: it was read already (lb.yaml:1:11)',
                'a.yaml:1:11: include.0: "lb.yaml" cannot be read: it was read already (the main file)',
            ],
            self.mistakes(MAIN % "a.yaml, b.yaml"),
        )


class Paths(ConfigTestCase):
    def test_relative_to_the_file_that_says_it(self) -> None:
        """A relative path means the same whatever folder the program was started in."""
        socket = os.path.relpath("/run/b.sock", self.folder / "sub")
        self.write("sub/a.yaml", f"pools: {{b: {{servers: ['unix:{socket}']}}}}\n")
        folder = os.path.relpath(self.folder)
        self.write("lb.yaml", MAIN % "sub/*" + "access_log: {path: a.log}\n")
        config = load(f"{folder}/lb.yaml")
        assert config.access_log
        self.assertEqual(f"{self.folder}/a.log", config.access_log.path)
        self.assertEqual(UnixAddress("/run/b.sock"), config.pools["b"].servers[0].address)

    def test_standard_output(self) -> None:
        """`-` is no file."""
        config = self.load(MAIN % "" + "access_log: {path: '-'}\n")
        assert config.access_log
        self.assertEqual("-", config.access_log.path)

    def test_from_a_dict(self) -> None:
        """Relative paths in a dict are relative to the current folder."""
        socket = os.path.relpath("/run/a.sock")
        config = from_dict(
            {
                "pools": {"a": {"servers": [f"unix:{socket}"]}},
                "listeners": {"w": {"protocol": "tcp", "listen": 80, "pool": "a"}},
            }
        )
        self.assertEqual(UnixAddress("/run/a.sock"), config.pools["a"].servers[0].address)
