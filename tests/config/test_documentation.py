"""docs/configuration.md."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_args

from twisted.trial.unittest import SynchronousTestCase

from pylb.config.form import Form
from pylb.config.kinds import KindsForm
from pylb.config.reference import Entry, entries
from tests.config.keys import FIELDS, KEYS, NOT_YET, PROTOCOLS, reader

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
REFUSED = re.compile(r"\| `(?P<key>[\w.*]+)` \| [^|]+ \|")


def built_defaults(form: type[Form], key: str) -> list[Any]:
    """The defaults of a key in what its form builds."""
    kinds = form.kinds.values() if issubclass(form, KindsForm) else [form.builds]
    return [_default(field) for kind in kinds for field in fields(kind) if field.name == key]


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def read(form: type[Form], key: str, value: object) -> object:
    """What a written value becomes."""
    result = reader(form, key).validate_python(value, context="/")
    if isinstance(result, Form):
        return result.build()
    return tuple(result) if isinstance(result, list) else result


class Documentation(SynchronousTestCase):
    def test_keys(self) -> None:
        """Every key has an entry, and every entry is a key."""
        self.assertEqual(KEYS, {entry.path for entry in entries()})

    def test_protocols(self) -> None:
        """A listener's key is documented for the protocols that have it."""
        documented: dict[str, set[str]] = {}
        for entry in entries():
            if entry.path in PROTOCOLS:
                documented.setdefault(entry.path, set()).update(entry.kinds or {"http", "tcp", "udp"})
        self.assertEqual({key: value for key, value in PROTOCOLS.items() if key in KEYS}, documented)

    def test_not_supported_yet(self) -> None:
        """The keys that are refused are the ones that the page says are."""
        _, refused = PAGE.read_text().split("## Not supported yet")
        self.assertEqual(NOT_YET, {match["key"] for match in REFUSED.finditer(refused)})

    def test_defaults(self) -> None:
        """What is said to be the default is the model's."""
        written = [entry for entry in entries() if entry.default is not None]
        compared = set()
        for entry in written:
            key = entry.path.rpartition(".")[2]
            for form in self.forms(entry):
                for default in built_defaults(form, key):
                    self.assertEqual(default, read(form, key, entry.default), entry.path)
                    compared.add(entry.path)
        # These two are no part of what is built: files add to each other.
        self.assertEqual({entry.path for entry in written} - {"include", "pools"}, compared)

    def forms(self, entry: Entry) -> list[type[Form]]:
        """The forms that have the key."""
        forms = [form for path, form in FIELDS if path == entry.path and path != "pools"]
        return [form for form in forms if not entry.kinds or entry.kinds & self.protocol(form)]

    def protocol(self, form: type[Form]) -> set[str]:
        return set(get_args(form.model_fields["protocol"].annotation))
