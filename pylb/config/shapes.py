"""What does a JSON Schema say of one written value?

As much as an editor can judge: the type, the bounds, the words, the form of a text.  Nothing is refused here that pylb
takes; whether an address has a port that exists, or a regular expression can be compiled, is left to `pylb check`.
Patterns are of the kind that Python and ECMAScript both read.
"""

from __future__ import annotations

import re

from pydantic import WithJsonSchema

from pylb.config import scalars

__all__ = [
    "ADDRESS",
    "DURATION",
    "FACTOR",
    "FLAG",
    "INET_LISTEN",
    "LISTEN",
    "NAME_SERVER",
    "PLACE",
    "SIZE",
    "TEMPLATE",
    "TEXT",
    "TIMEOUT",
    "either",
    "matching",
    "some_of",
    "whole",
    "words",
]

_ANY_DURATION = f"(?:{scalars.SECONDS.pattern}|(?=.){scalars.DURATION.pattern})$"
_UNIX = r"unix:[^\0]"
_IPV6 = r"\[[^\[\]]+\]"
_INET_LISTEN = rf"(?:(?:{_IPV6}|[0-9.]+):)?[0-9]+$"


def whole(least: int, most: int = scalars.LARGEST) -> WithJsonSchema:
    """Whole numbers from `least` to `most`."""
    return WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})


def words(*known: str) -> WithJsonSchema:
    """One of some words."""
    return WithJsonSchema({"type": "string", "enum": list(known)})


def matching(form: re.Pattern[str]) -> WithJsonSchema:
    """Text that is of a form as a whole."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{form.pattern})$"})


def some_of(*known: str) -> WithJsonSchema:
    """A list of words, at least one."""
    return WithJsonSchema({"type": "array", "minItems": 1, "items": words(*known).json_schema})


def either(*shapes: WithJsonSchema) -> WithJsonSchema:
    """One of several."""
    return WithJsonSchema({"anyOf": [shape.json_schema for shape in shapes]})


def _listen(form: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "maximum": 65535, "pattern": f"^(?:{form})"})


TEXT = WithJsonSchema({"type": "string", "minLength": 1})
FLAG = WithJsonSchema({"type": "boolean"})
DURATION = WithJsonSchema({"type": ["number", "string"], "minimum": 0, "pattern": f"^{_ANY_DURATION}"})
TIMEOUT = WithJsonSchema(
    {"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": f"^(?=.*[1-9]){_ANY_DURATION}"}
)
FACTOR = WithJsonSchema(
    {"type": ["number", "string"], "minimum": 1, "maximum": 1000, "pattern": f"^(?=0*[1-9]){scalars.SECONDS.pattern}$"}
)
SIZE = WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": f"^{scalars.SIZE.pattern}$"})
ADDRESS = WithJsonSchema({"type": "string", "pattern": rf"^(?:{_UNIX}|(?:{_IPV6}|[A-Za-z0-9_.-]+):[0-9]+$)"})
PLACE = WithJsonSchema({"type": "string", "pattern": rf"^(?:{_UNIX}|(?:{_IPV6}|[A-Za-z0-9_.-]+)(?::[0-9]+)?$)"})
NAME_SERVER = WithJsonSchema({"type": "string", "pattern": rf"^(?:{_IPV6}|[0-9.]+)(?::[0-9]+)?$"})
TEMPLATE = WithJsonSchema({"type": "string", "pattern": r"\$"})
LISTEN = _listen(f"{_UNIX}|{_INET_LISTEN}")
INET_LISTEN = _listen(_INET_LISTEN)
