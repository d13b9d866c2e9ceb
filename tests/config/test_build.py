from __future__ import annotations

from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.config import ConfigError, from_dict
from pylb.config.build import build
from pylb.config.schema import HttpForm, MainForm, PoolForm, ServerForm, TcpForm, UdpForm
from pylb.config.sources import Sources
from pylb.model import Config
from tests.config.files import ConfigTestCase

RIGHT: dict[str, Any] = {
    "pools": {"a": {"servers": ["10.0.0.1:80"]}},
    "listeners": {"w": {"protocol": "tcp", "listen": 8080, "pool": "a"}},
}
FORMS = (HttpForm, MainForm, PoolForm, ServerForm, TcpForm, UdpForm)
KEYS = st.sampled_from(sorted({key for form in FORMS for key in form.model_fields} | {"a", "w", "wieght"}))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 70000),
    st.sampled_from(
        ["a", "tcp", "udp", "http", "off", "10.0.0.1:80", "unix:/x", "5s", "16k", "/", "1.2", "[::]:80", ""]
    ),
    st.text(max_size=5),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)
TOPS = st.dictionaries(KEYS, TREES, max_size=4)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "pools": st.dictionaries(st.sampled_from(["a", "b"]), st.dictionaries(KEYS, TREES, max_size=4), max_size=2),
        "listeners": st.dictionaries(st.sampled_from(["w", "x"]), st.dictionaries(KEYS, TREES, max_size=6), max_size=2),
    },
)


class FromDict(SynchronousTestCase):
    def wrong(self, data: Any, origin: str = "dict") -> list[str]:
        return str(self.assertRaises(ConfigError, from_dict, data, origin)).split("\n")

    def test_same_validation(self) -> None:
        """A dict is validated as a file is; places are paths."""
        data = {
            "pools": {"a": {"servers": [{"address": "10.0.0.1:80", "wieght": 1}, 5]}},
            "listeners": {
                "w": {"protocol": "tcp", "listen": 80, "pool": "b"},
                "x": {"protocol": "tcp", "listen": 80, "pool": "a", 1: 2},
            },
        }
        self.assertEqual(
            {
                'dict: pools.a.servers.0.wieght: unknown key "wieght", did you mean "weight"?',
                "dict: pools.a.servers.1: 5 is a port without a host",
                'dict: listeners.w.pool: unknown pool "b"',
                'dict: listeners.x.listen: 0.0.0.0:80 is taken by "w", 0.0.0.0:80 at dict: listeners.w.listen',
                'dict: listeners.x: the key "1" is not text',
            },
            set(self.wrong(data)),
        )

    def test_origin(self) -> None:
        """Mistakes name the origin that the caller gives."""
        self.assertEqual(
            ["app: listeners: no listeners, nothing would be served"], self.wrong({"listeners": {}}, "app")
        )

    def test_no_mapping(self) -> None:
        """What is no mapping, or contains itself, is no configuration."""
        endless: dict[str, Any] = {}
        endless["pools"] = endless
        self.assertEqual(["dict: nested too deep, perhaps in itself"], self.wrong(endless))
        for value in [None, [], "pools", 5]:
            self.assertEqual(["dict: a configuration is a mapping (pools: ..., listeners: ...)"], self.wrong(value))


class Origin(ConfigTestCase):
    def test_listeners_know_where_they_were_written(self) -> None:
        """So that an address that cannot be bound is named with its line; the place is no part of the value."""
        text = (
            "pools: {a: {servers: [10.0.0.1:80]}}\nlisteners:\n  w:\n    protocol: tcp\n    listen: 80\n    pool: a\n"
        )
        listener = self.load(text).listeners["w"]
        self.assertEqual(f"{self.folder}/lb.yaml:5:13", listener.origin)
        same = from_dict({**RIGHT, "listeners": {"w": {"protocol": "tcp", "listen": 80, "pool": "a"}}})
        self.assertEqual("dict: listeners.w.listen", same.listeners["w"].origin)
        self.assertEqual(same.listeners["w"], listener)

    def test_equal_configurations(self) -> None:
        """Two files that ask for the same thing are equal."""
        self.assertEqual(from_dict(RIGHT), self.load(yaml.safe_dump(RIGHT)))


class Anything(SynchronousTestCase):
    def answers(self, data: object) -> None:
        try:
            config = build(Sources.of_mapping(data, "dict"))  # type: ignore[arg-type]
        except ConfigError as error:
            lines = str(error).split("\n")
            self.assertEqual(len(error.mistakes), len(lines))
            self.assertTrue(all(line.startswith("dict: ") for line in lines))
        else:
            self.assertIsInstance(config, Config)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(TREES | TOPS)
    def test_any_tree(self, data: object) -> None:
        """Whatever the tree, the answer is a Config or a ConfigError of one line a mistake."""
        self.answers(data)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(PARTS)
    def test_any_part(self, data: object) -> None:
        """The same closer to what is right."""
        self.answers(data)

    @settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(st.data())
    def test_one_wrong_value(self, data: Any) -> None:
        """A right configuration in which one value was replaced is right or says what is wrong."""
        key = data.draw(KEYS)
        place = data.draw(st.sampled_from(["top", "pool", "server", "listener"]))
        server = {"address": "10.0.0.1:80"}
        pool: dict[str, Any] = {"servers": [server]}
        listener: dict[str, Any] = {"protocol": "tcp", "listen": 8080, "pool": "a"}
        whole: dict[str, Any] = {"pools": {"a": pool}, "listeners": {"w": listener}}
        {"top": whole, "pool": pool, "server": server, "listener": listener}[place][key] = data.draw(TREES)
        self.answers(whole)
