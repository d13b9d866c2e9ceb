from __future__ import annotations

from types import MappingProxyType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.config.document import DEEPEST, NOWHERE, Document, Mark, Reading, TooDeep, from_python


class FromPython(SynchronousTestCase):
    def test_tree(self) -> None:
        """Mappings and sequences of any kind become dicts and lists of our own; every path is marked."""
        reading = Reading()
        value = MappingProxyType({"a": (1, [True]), "b": None})
        self.assertEqual({"a": [1, [True]], "b": None}, from_python(value, reading))
        self.assertEqual({(), ("a",), ("a", 0), ("a", 1), ("a", 1, 0), ("b",)}, set(reading.marks))
        self.assertEqual({Mark(NOWHERE, NOWHERE)}, set(reading.marks.values()))

    def test_the_callers_values_are_left_alone(self) -> None:
        """What is handed in is copied."""
        given = {"a": {"b": [1]}}
        tree = from_python(given, Reading())
        tree["a"]["b"].append(2)
        self.assertEqual({"a": {"b": [1]}}, given)

    def test_keys_are_text(self) -> None:
        """A key that is not text is a mistake, and left out."""
        reading = Reading()
        self.assertEqual({"a": {"b": 2}}, from_python({"a": {1: 1, "b": 2}}, reading))
        self.assertEqual([(NOWHERE, ("a",), 'the key "1" is not text')], reading.mistakes)

    def test_too_deep(self) -> None:
        """A value may not contain itself, nor be deeper than any configuration is."""
        endless: list[Any] = []
        endless.append(endless)
        self.assertRaises(TooDeep, from_python, endless, Reading())
        deep: Any = "x"
        for _ in range(DEEPEST):
            deep = [deep]
        from_python(deep, Reading())
        self.assertRaises(TooDeep, from_python, [deep], Reading())


class Places(SynchronousTestCase):
    def test_nearest_written(self) -> None:
        """A path that was not written is named by the nearest part around it that was."""
        marks = {(): Mark((1, 1), (1, 1)), ("pools",): Mark((2, 1), (2, 8))}
        document = Document("lb.yaml", "/etc", {"pools": 5}, marks)
        self.assertEqual("lb.yaml:2:8: pools: wrong", str(document.mistake(("pools", "a", 0), "wrong")))
        self.assertEqual("lb.yaml:2:1: pools: wrong", str(document.mistake(("pools",), "wrong", at_key=True)))
        self.assertEqual("lb.yaml:1:1: wrong", str(document.mistake(("other",), "wrong")))
        self.assertEqual("lb.yaml:2:8", document.where(("pools", "a")))
        self.assertEqual("lb.yaml:2:1", document.where(("pools",), at_key=True))

    def test_without_text(self) -> None:
        """Where there are no lines, the path is the place."""
        reading = Reading()
        tree = from_python({"pools": {"a": 1}}, reading)
        document = Document("dict", "/", tree, reading.marks)
        self.assertEqual("dict: pools.a: wrong", str(document.mistake(("pools", "a"), "wrong")))
        self.assertEqual("dict: pools.a", document.where(("pools", "a", "b")))
