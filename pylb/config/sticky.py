"""How does an operator ask for sessions that stay?

One mapping of several kinds (pylb.config.kinds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, TypeAlias

from pydantic import PlainValidator, WithJsonSchema, model_validator

from pylb import model
from pylb.config import hosts, scalars, shapes
from pylb.config.fields import UNSET, Filled, Flag, Number, Timeout, or_one
from pylb.config.kinds import KindsForm
from pylb.variables import check_variable
from pylb.words import quoted

__all__ = ["RouteName", "StickyForm"]

_TYPES: Mapping[str, type[Any]] = {
    "cookie": model.StickyCookie,
    "route": model.StickyRoute,
    "learn": model.StickyLearn,
}
_SAMESITE = ("strict", "lax", "none")
_LEAST_SECRET = 16

#: What RFC 6265 lets a cookie's value be made of: no spaces, quotes, commas, semicolons and backslashes.
_ROUTE = re.compile(r"[!#-+\--:<-\[\]-~]{1,32}")
#: A token of RFC 9110.
_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_COOKIE_PATH = re.compile(r"/[!-:<-~]*")
_VARIABLE = re.compile(r"\$(?:\w+|\{\w+\})", re.ASCII)


_route_name = scalars.matching(
    _ROUTE, 'must be 1 to 32 characters that a cookie may hold (no space and none of ",;\\), not %s'
)
_cookie_name = scalars.matching(_COOKIE_NAME, "%s is no name of a cookie: no spaces and none of (),/:;<=>?@[]{}")
_cookie_path = scalars.matching(_COOKIE_PATH, "must begin with / and hold no space and no ;, not %s")


def _cookie_domain(value: object) -> str:
    domain = scalars.text(value)
    return "." * domain.startswith(".") + hosts.host_name(domain.removeprefix("."))


def _lifetime(value: object) -> float:
    if value == "max":
        return inf
    seconds = scalars.duration(value)
    if seconds < 1:
        raise ValueError("must be 1s or more, or max")
    return seconds


def _secret(value: object) -> str:
    # What was written is not repeated: messages end up in logs.
    if not isinstance(value, str) or len(value) < _LEAST_SECRET:
        raise ValueError(f"must be text of {_LEAST_SECRET} characters or more")
    return value


def _variable(value: object) -> str:
    text = scalars.text(value)
    if mistake := check_variable(text):
        raise ValueError(mistake)
    return text


def _variable_of_answer(value: object) -> str:
    text = scalars.text(value)
    if mistake := check_variable(text, answered=True):
        raise ValueError(mistake)
    return text


RouteName: TypeAlias = Annotated[str, PlainValidator(_route_name), shapes.matching(_ROUTE)]
_Type: TypeAlias = Annotated[str, PlainValidator(scalars.choice(*_TYPES)), shapes.words(*_TYPES)]
_Name: TypeAlias = Annotated[str, PlainValidator(_cookie_name), shapes.matching(_COOKIE_NAME)]
_Lifetime: TypeAlias = Annotated[float, PlainValidator(_lifetime), shapes.either(shapes.words("max"), shapes.DURATION)]
_Domain: TypeAlias = Annotated[str, PlainValidator(_cookie_domain), shapes.TEXT]
_Path: TypeAlias = Annotated[str, PlainValidator(_cookie_path), shapes.matching(_COOKIE_PATH)]
_SameSite: TypeAlias = Annotated[str, PlainValidator(scalars.choice(*_SAMESITE)), shapes.words(*_SAMESITE)]
_Secret: TypeAlias = Annotated[
    str, PlainValidator(_secret), WithJsonSchema({"type": "string", "minLength": _LEAST_SECRET})
]
_Variable: TypeAlias = Annotated[str, PlainValidator(_variable), shapes.matching(_VARIABLE)]
_Created: TypeAlias = Annotated[str, PlainValidator(_variable_of_answer), shapes.matching(_VARIABLE)]
_Variables: TypeAlias = Annotated[Filled[_Variable], or_one(_Variable)]
_ToCreate: TypeAlias = Annotated[Filled[_Created], or_one(_Created)]


class StickyForm(KindsForm):
    """Sessions that stay."""

    kinds = _TYPES

    type: _Type
    name: _Name = UNSET
    expires: _Lifetime = UNSET
    domain: _Domain = UNSET
    path: _Path = UNSET
    secure: Flag = UNSET
    httponly: Flag = UNSET
    samesite: _SameSite = UNSET
    secret: _Secret = UNSET
    refresh: Flag = UNSET
    variables: _Variables = UNSET
    create: _ToCreate = UNSET
    lookup: _Variables = UNSET
    timeout: Timeout = UNSET
    size: Number = UNSET
    header: Flag = UNSET
    strict: Flag = UNSET

    @model_validator(mode="after")
    def _cookies_that_browsers_take(self) -> StickyForm:
        if self.samesite == "none" and not self.secure:
            raise ValueError('"samesite: none" needs "secure: true", or browsers refuse the cookie')
        self._keeps_promise(self.name if self.name is not UNSET else "")
        return self

    def _keeps_promise(self, name: str) -> None:
        """A cookie whose name begins so is refused by browsers unless it is what the name says (RFC 6265bis, 4.1.3)."""
        if name.lower().startswith(("__secure-", "__host-")) and not self.secure:
            raise ValueError(f'a cookie of the name {quoted(name)} needs "secure: true", or browsers refuse it')
        if name.lower().startswith("__host-") and (self.path != "/" or self.domain is not UNSET):
            raise ValueError(
                f'a cookie of the name {quoted(name)} needs "path: /" and no "domain", or browsers refuse it'
            )
