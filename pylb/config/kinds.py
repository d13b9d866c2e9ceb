"""What does a mapping mean whose `type` says which of its keys mean something?

They are the attributes of the object of the model that the type builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar

from pydantic import model_validator

from pylb.config.fields import UNSET
from pylb.config.form import Form
from pylb.words import quoted

__all__ = ["KindsForm"]


class KindsForm(Form):
    """The keys of all kinds; a subclass adds `type` and has them validated."""

    #: What each type builds.
    kinds: ClassVar[Mapping[str, type[Any]]]

    def kind(self) -> str:
        """The type, as `kinds` knows it."""
        return str(self.type)  # type: ignore[attr-defined]

    def build(self, **more: Any) -> Any:
        given = self.given()
        del given["type"]
        return self.kinds[self.kind()](**given, **more)

    @model_validator(mode="after")
    def _keys_of_the_type(self) -> KindsForm:
        mine = self.kind()
        for key in self.model_fields_set - {"type"}:
            owners = [kind for kind, built in self.kinds.items() if key in keys_of(built)]
            if mine not in owners:
                raise ValueError(f"{quoted(key)} belongs to the type {' and '.join(owners)}, not to {mine}")
        fields_of = type(self).model_fields
        missing = [
            key
            for key, required in keys_of(self.kinds[mine]).items()
            if required and key in fields_of and getattr(self, key) is UNSET
        ]
        if missing:
            raise ValueError(f"the type {mine} needs {' and '.join(map(quoted, missing))}")
        return self


def keys_of(built: type[Any]) -> dict[str, bool]:
    """The keys of a type, and whether they must be given."""
    return {field.name: field.default is MISSING and field.default_factory is MISSING for field in fields(built)}
