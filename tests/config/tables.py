"""What readers of written values make of each of them."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(), st.integers(), max_size=2),
    st.text("0123456789dhmskg.:[]/-uni", max_size=20),
)


class Table(SynchronousTestCase):
    def reads(self, read: Callable[[object], object], table: list[tuple[object, object]]) -> None:
        for written, meant in table:
            self.assertEqual((type(meant), meant), (type(read(written)), read(written)), repr(written))

    def refuses(self, read: Callable[[object], object], table: list[tuple[object, str]]) -> None:
        for written, text in table:
            error = self.assertRaises(ValueError, read, written)
            self.assertEqual(text, str(error))

    def reads_or_refuses(self, read: Callable[[object], object], value: object) -> None:
        """Whatever it is: in one line."""
        try:
            read(value)
        except ValueError as error:
            self.assertEqual(1, len(str(error).splitlines()))
