"""How did the operator ask for sessions that stay?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["Sticky", "StickyCookie", "StickyLearn", "StickyRoute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyCookie:
    """A cookie says which server a client belongs to (HTTP).  Attributes that are None or False are not sent."""

    name: str
    #: Seconds that the client keeps it; None is until it ends, `inf` is for good.
    expires: float | None = None
    domain: str | None = None
    path: str | None = None
    secure: bool = False
    httponly: bool = False
    samesite: Literal["strict", "lax", "none"] | None = None
    #: Signs the value, so that nobody can read or forge a server's name.
    secret: str | None = field(default=None, repr=False)
    #: Send it with every answer, so that `expires` begins anew; else only when it changes.
    refresh: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyRoute:
    """The first of `variables` that is not empty names the `route` of a server."""

    variables: tuple[str, ...]
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyLearn:
    """A table of sessions: a value of `create` belongs to the server that was used when it was seen first.

    `create` and `lookup` are variables, the first that is not empty counts.  An entry is forgotten when it was not used
    for `timeout` seconds, or as the least recently used of more than `size`.
    """

    create: tuple[str, ...]
    lookup: tuple[str, ...]
    timeout: float = 600.0
    size: int = 100_000
    #: HTTP: learn when the answer's head has come, not at its end.
    header: bool = False
    strict: bool = False


Sticky: TypeAlias = StickyCookie | StickyRoute | StickyLearn
