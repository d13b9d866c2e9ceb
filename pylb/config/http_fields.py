"""How does a schema say what HTTP is asked, and what its answers mean?  As in fields.py."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, PlainValidator

from pylb.config import hosts, scalars, shapes
from pylb.config.fields import Filled
from pylb.model import NEXT_UPSTREAM_HTTP
from pylb.words import did_you_mean, quoted

__all__ = ["FailOn", "Outcome", "RouteHost", "RoutePath", "RouteRegex", "WhereToRetry"]

#: What may count as a server's failure.
_OUTCOME = re.compile(r"error|timeout|invalid_header|http_[45](?:[0-9]{2}|xx)")
#: No space, no # and no ?.
_PATH = re.compile(r'/[!"$->@-~]*')

_route_path = scalars.matching(_PATH, "must begin with / and hold no space, ? or #, not %s")


def _route_regex(value: object) -> str:
    regex = scalars.text(value)
    try:
        re.compile(regex.encode())  # as it is going to be: paths are bytes
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{quoted(regex)} is no regular expression: {error}") from error
    return regex


def _route_host(value: object) -> str:
    host = scalars.text(value)
    if host.startswith("*."):
        return "*." + hosts.host_name(host[2:])
    return hosts.server_name(host.strip("[]"))


def _where_to_retry(value: object) -> frozenset[str]:
    if value == "off":
        return frozenset()
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list such as [error, timeout], or "off"')
    known = sorted(NEXT_UPSTREAM_HTTP)
    for item in value:
        if item not in known:
            hint = did_you_mean(item, known) or f" (known: {', '.join(known)}; or off alone)"
            raise ValueError(f"unknown value {quoted(item)}{hint}")
    return frozenset(value)


def _outcome(value: object) -> str:
    if not isinstance(value, str) or not _OUTCOME.fullmatch(value):
        known = "error, timeout, invalid_header, http_4xx, http_5xx, or a status from http_400 to http_599"
        raise ValueError(f"unknown value {quoted(value)} (known: {known})")
    return value


_WHERE_TO_RETRY = shapes.either(shapes.words("off"), shapes.some_of(*sorted(NEXT_UPSTREAM_HTTP)))
Outcome: TypeAlias = Annotated[str, PlainValidator(_outcome), shapes.matching(_OUTCOME)]
FailOn: TypeAlias = Annotated[Filled[Outcome], AfterValidator(frozenset)]
RoutePath: TypeAlias = Annotated[str, PlainValidator(_route_path), shapes.matching(_PATH)]
RouteRegex: TypeAlias = Annotated[str, PlainValidator(_route_regex), shapes.TEXT]
RouteHost: TypeAlias = Annotated[str, PlainValidator(_route_host), shapes.TEXT]
WhereToRetry: TypeAlias = Annotated[frozenset[str], PlainValidator(_where_to_retry), _WHERE_TO_RETRY]
