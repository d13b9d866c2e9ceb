"""Which variables may the format of an access log, the key of a hash or a session name, and is a given text one?

The words are nginx's wherever the meaning is nginx's; `$listener` and `$pool` are ours.  A format is one of the names
in `FORMATS`, or a template: text with `$name` or `${name}` in it, at least one of them.  `pylb.config` asks
`check_format` before anything starts; `pylb.proxy.logformat` turns what has passed into lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pylb.words import did_you_mean, quoted

__all__ = [
    "CONNECTION_VARIABLES",
    "FORMATS",
    "KEY_VARIABLES",
    "VARIABLES",
    "check_format",
    "check_key",
    "check_variable",
    "split_template",
]

#: The formats that have a name.
FORMATS = ("combined", "json")

#: The variables of a template; docs/access-log.md says what each one means.
VARIABLES = frozenset(
    {
        "bytes_received",
        "bytes_sent",
        "http_host",
        "http_referer",
        "http_user_agent",
        "listener",
        "msec",
        "pool",
        "protocol",
        "remote_addr",
        "remote_port",
        "remote_user",
        "request",
        "request_method",
        "request_time",
        "request_uri",
        "server_protocol",
        "session_time",
        "status",
        "time_iso8601",
        "time_local",
        "upstream_addr",
        "upstream_bytes_received",
        "upstream_bytes_sent",
        "upstream_connect_time",
        "upstream_header_time",
        "upstream_queue_time",
        "upstream_status",
    }
)

_ENDS = frozenset({"binary_remote_addr", "remote_addr", "remote_port", "server_addr", "server_port"})
_TLS = frozenset({"ssl_protocol", "ssl_server_name", "ssl_session_id"})
#: Those of HTTP that its connection knows, not the request.
CONNECTION_VARIABLES = _ENDS | _TLS | {"scheme"}
_REQUEST = frozenset(
    {"args", "host", "is_args", "query_string", "request_method", "request_uri", "server_protocol", "uri"}
)

#: What keys and sessions may be made of, by protocol; HTTP also has `$http_NAME`, `$cookie_NAME` and `$arg_NAME`.
#: docs/variables.md says what each one means.
KEY_VARIABLES = {"tcp": _ENDS | _TLS, "udp": _ENDS, "http": CONNECTION_VARIABLES | _REQUEST}
_NAMED = re.compile(r"(?:http|cookie|arg)_\w+", re.ASCII)
#: What is known only when a server has answered.
_ANSWERED = re.compile(r"upstream_(?:http|cookie)_\w+", re.ASCII)

_VARIABLE = re.compile(r"\$(\{\w+\}|\w*)", re.ASCII)


def split_template(text: str) -> tuple[list[str], list[str]]:
    """The literal pieces of a template and the names between them, one piece more than names.

    A `$` that no name follows gives the name "".
    """
    pieces = _VARIABLE.split(text)
    return pieces[::2], [name.strip("{}") for name in pieces[1::2]]


def check_format(text: str) -> str | None:
    """What is wrong with `text` as the format of an access log, in words for the operator; None if nothing is."""
    if text in FORMATS:
        return None
    _, names = split_template(text)
    if not names:
        return f"{quoted(text)} is neither a format nor a template of variables{did_you_mean(text, FORMATS)}"
    return "; ".join(_mistakes(text, names)) or None


def check_key(text: str, protocol: str | None = None) -> str | None:
    """What is wrong with `text` as the key of a hash for a protocol, or for any, in words; None if nothing is."""
    _, names = split_template(text)
    if not names:
        return f"the key {quoted(text)} is the same for all: name a variable, such as $remote_addr"
    return next(filter(None, [_check_name(name, protocol) for name in names]), None)


def check_variable(text: str, protocol: str | None = None, *, answered: bool = False) -> str | None:
    """The same of `text` as one variable that tells a session; `answered` if a server's answer has come by then."""
    literals, names = split_template(text)
    if len(names) != 1 or any(literals):
        return f"must be one variable, such as $remote_addr, not {quoted(text)}"
    if answered and _ANSWERED.fullmatch(names[0]):
        return f"{protocol} has no {quoted(text)}" if protocol not in (None, "http") else None
    return _check_name(names[0], protocol)


def _check_name(name: str, protocol: str | None) -> str | None:
    if not name:
        return 'a "$" without the name of a variable'
    protocols = list(KEY_VARIABLES) if protocol is None else [protocol]
    if any(_in_key(name, spoken) for spoken in protocols):
        return None
    if _ANSWERED.fullmatch(name):
        return f"{quoted(f'${name}')} is not known before a server has answered"
    if any(_in_key(name, spoken) for spoken in KEY_VARIABLES):
        return f"{protocol} has no {quoted(f'${name}')}"
    known = sorted({f"${word}" for spoken in protocols for word in KEY_VARIABLES[spoken]})
    who = "no protocol has a" if protocol is None else f"{protocol} has no"
    return f"{who} {quoted(f'${name}')}{did_you_mean(f'${name}', known)}"


def _in_key(name: str, protocol: str) -> bool:
    return name in KEY_VARIABLES[protocol] or (protocol == "http" and _NAMED.fullmatch(name) is not None)


def _mistakes(text: str, names: Iterable[str]) -> Iterator[str]:
    if not text.isprintable():
        yield "a template is one line of printable characters"
    known = [f"${name}" for name in sorted(VARIABLES)]
    for name in names:
        if not name:
            yield 'a "$" without the name of a variable'
        elif name not in VARIABLES:
            yield f"unknown variable {quoted(f'${name}')}{did_you_mean(f'${name}', known)}"
