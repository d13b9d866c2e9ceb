"""How does an editor know what a configuration may hold?

By a JSON Schema (draft 2020-12): the forms of schema.py, and what the documentation says about each key.  Keys that are not
supported yet are unknown to it.  It judges every value by itself; what two values must agree on is known to `pylb check`.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from pylb.config.reference import Entry, entries
from pylb.config.schema import MainForm

__all__ = ["as_text", "json_schema"]

_Schema: TypeAlias = dict[str, Any]


class _Forms(GenerateJsonSchema):
    """The forms without what pydantic adds: titles, the default None of every key, and a word of OpenAPI's."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> _Schema:
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> _Schema:
        return _without("title", super().model_schema(schema))

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> _Schema:
        return _without("discriminator", super().tagged_union_schema(schema))

    def dict_schema(self, schema: core_schema.DictSchema) -> _Schema:
        return {**super().dict_schema(schema), "additionalProperties": False}


def _without(word: str, schema: _Schema) -> _Schema:
    return {key: value for key, value in schema.items() if key != word}


def as_text() -> str:
    """What `pylb schema` prints."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def json_schema() -> _Schema:
    """The schema of the main file, which included files may be held to as well; raises LookupError for a key that the
    documentation does not have."""
    forms = MainForm.model_json_schema(schema_generator=_Forms)
    _Describing(forms["$defs"]).describe(forms, ())
    return {"$schema": _Forms.schema_dialect, "title": "pylb", **forms}


class _Describing:
    """Puts to each key what the documentation says about it."""

    def __init__(self, definitions: dict[str, _Schema]) -> None:
        self._definitions = definitions
        self._entries = list(entries())

    def describe(self, schema: _Schema, path: tuple[str, ...]) -> None:
        """Describe the keys of what stands at `path`, and all below."""
        if "$ref" in schema:
            schema = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
        keys: dict[str, _Schema] = schema.get("properties", {})
        kinds = {value["const"] for value in keys.values() if "const" in value}
        for key, value in keys.items():
            value.update(_said(self._entry(".".join((*path, key)), kinds)))
            self.describe(value, (*path, key))
        forms = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
        # What may stand where a list of such can is what its items are.
        item_path = (*path, "*") if any("items" in form for form in forms) else path
        for form in forms:
            self.describe(form, path if "items" in form else item_path)
        for item in [schema.get("items"), *schema.get("patternProperties", {}).values()]:
            if item:
                self.describe(item, (*path, "*"))

    def _entry(self, path: str, kinds: set[object]) -> Entry:
        for entry in self._entries:
            if entry.path == path and (not entry.kinds or entry.kinds & kinds):
                return entry
        raise LookupError(f"docs/configuration.md has no {path} ({', '.join(map(str, kinds)) or 'any'})")


def _said(entry: Entry) -> _Schema:
    said = {"description": entry.meaning}
    return said if entry.default is None else {**said, "default": entry.default}
