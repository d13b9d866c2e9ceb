"""What is a form, and what does it say when it is filled in wrongly?

A `Form` is a pydantic model that builds one of the model's objects.  Only what was written is handed to the object, so all
defaults are the model's.  `validate` turns pydantic's findings into mistakes in our words.
"""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from pylb.config.document import Document
from pylb.config.fields import NotSupportedYet
from pylb.config.mistakes import Mistake, Path
from pylb.words import did_you_mean, quoted

__all__ = ["PROTOCOLS", "Form", "inside", "validate"]

PROTOCOLS = ("http", "tcp", "udp")

_F = TypeVar("_F", bound="Form")
_NO_VALUE = "has no value"


class Form(BaseModel):
    """The keys of one kind of mapping."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    builds: ClassVar[type[Any]]

    def build(self, **more: Any) -> Any:
        """The object of the model that this form asks for."""
        return self.builds(**self.given(), **more)

    def given(self) -> dict[str, Any]:
        """What was written, built."""
        return {key: _built(getattr(self, key)) for key in self.model_fields_set}

    @classmethod
    def unknown(cls, key: str) -> str:
        """What to say about a key that is not one of ours."""
        return f"unknown key {quoted(key)}{did_you_mean(key, cls.model_fields)}"


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_built, value))
    return value.build() if isinstance(value, Form) else value


def validate(form: type[_F], document: Document) -> tuple[_F | None, list[Mistake]]:
    """A document as a form; or what is wrong with it, all of it."""
    try:
        return form.model_validate(document.tree, context=document.folder), []
    except ValidationError as error:
        return None, [_mistake(form, document, details) for details in error.errors(include_url=False)]


def _mistake(form: type[Form], document: Document, error: ErrorDetails) -> Mistake:
    kind, steps = error["type"], error["loc"]
    path = _without_protocol(steps)
    if kind == "missing":
        return document.mistake(path[:-1], f"{quoted(path[-1])} is missing")
    if kind == "extra_forbidden":
        *around, key = steps
        return document.mistake(path, inside(form, tuple(around)).unknown(str(key)), at_key=True)
    if kind == "value_error":
        return _wrong_value(document, path, error)
    if kind == "too_short":
        return document.mistake(path, "must not be empty")
    if error["input"] is None:
        return document.mistake(path, _NO_VALUE, at_key=True)
    if kind == "union_tag_not_found":
        return document.mistake(path, '"protocol" is missing (http, tcp or udp)')
    if kind == "union_tag_invalid":
        return _wrong_protocol(document, (*path, "protocol"), error["input"]["protocol"])
    return document.mistake(path, "must be a list" if kind == "list_type" else "must be a mapping")


def _wrong_value(document: Document, path: Path, error: ErrorDetails) -> Mistake:
    cause = error["ctx"]["error"]
    if isinstance(cause, NotSupportedYet):
        return document.mistake(path, str(cause), at_key=True)
    if path[-1] == "[key]":
        return document.mistake(path[:-1], str(cause), at_key=True)
    if error["input"] is None:
        return document.mistake(path, _NO_VALUE, at_key=True)
    return document.mistake(path, str(cause))


def _wrong_protocol(document: Document, path: Path, protocol: object) -> Mistake:
    if protocol is None:
        return document.mistake(path, _NO_VALUE, at_key=True)
    hint = did_you_mean(protocol, PROTOCOLS) or ", must be http, tcp or udp"
    return document.mistake(path, f"unknown protocol {quoted(protocol)}{hint}")


def _without_protocol(steps: Path) -> Path:
    """pydantic puts the protocol between a listener's name and its keys."""
    return steps[:2] + steps[3:] if steps[0] == "listeners" and steps[-1] != "[key]" else steps


def inside(annotation: Any, steps: Path) -> type[Form]:
    """The form that stands at `steps` below an annotation."""
    for step in steps:
        annotation = _one_inside(_bare(annotation), step)
    form: type[Form] = _bare(annotation)
    return form


def _one_inside(annotation: Any, step: str | int) -> Any:
    if get_origin(annotation) in (dict, list):
        return get_args(annotation)[-1]
    if get_origin(annotation) in (Union, UnionType):
        return next(form for form in get_args(annotation) if step in get_args(form.model_fields["protocol"].annotation))
    return annotation.model_fields[step].annotation


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
