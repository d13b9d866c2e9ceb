"""Every key of the configuration, as the schema has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter

from pylb.config.fields import NotYet
from pylb.config.form import Form
from pylb.config.schema import MainForm

__all__ = ["FIELDS", "KEYS", "NOT_YET", "PROTOCOLS", "reader"]

_NOT_YET = get_args(NotYet)[1]


def _forms(annotation: Any) -> Iterator[tuple[tuple[str, ...], type[Form]]]:
    """The forms within an annotation, each with the steps that lead to it."""
    if isinstance(annotation, type) and issubclass(annotation, Form):
        yield (), annotation
    elif get_origin(annotation) is Annotated:
        yield from _forms(get_args(annotation)[0])
    else:
        steps = ("*",) if get_origin(annotation) in (dict, list) else ()
        for part in get_args(annotation):
            for more, form in _forms(part):
                yield (*steps, *more), form


def _keys(form: type[Form], path: tuple[str, ...] = ()) -> Iterator[tuple[str, type[Form], bool]]:
    """Every key below a form, the form that has it, and whether it is not supported yet."""
    for key, field in form.model_fields.items():
        here = (*path, key)
        yield ".".join(here), form, _NOT_YET in field.metadata
        for steps, inner in _forms(field.annotation):
            yield from _keys(inner, (*here, *steps))


_ALL = list(_keys(MainForm))

#: Each supported key with each form that has it.
FIELDS = [(key, form) for key, form, not_yet in _ALL if not not_yet]
#: Dotted, with * for names and places.
KEYS = {key for key, _, not_yet in _ALL if not not_yet}
NOT_YET = {key for key, _, not_yet in _ALL if not_yet}
#: The protocols whose listeners have a key.
PROTOCOLS = {
    key: {
        get_args(form.model_fields["protocol"].annotation)[0]
        for other, form, _ in _ALL
        if other == key and "protocol" in form.model_fields
    }
    for key in KEYS | NOT_YET
    if key.count(".") == 2 and key.startswith("listeners.*.")
}


def reader(form: type[Form], key: str) -> TypeAdapter[Any]:
    """What reads the value of a key."""
    return TypeAdapter(form.model_fields[key].rebuild_annotation())
