"""How does a record become a line?

A format is compiled once, into one function a protocol.  Each variable is a Python expression, a template is a single
string expression made of its variables' (less than half the cost of a call for each).  Nothing of the operator's text is
executed: its literal parts enter as a quoted string, its names are looked up in `_EXPRESSIONS`.

A record is one line, whatever a client sent: in text `"`, `\\` and all bytes but printable ASCII become `\\xHH`, nginx's
escape; JSON is ASCII by JSON's own.  What is empty or unknown is `-`, in JSON null.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from pylb.variables import check_format, split_template

if TYPE_CHECKING:
    from pylb.proxy.accesslog import Record

__all__ = ["Line", "Moment", "compile_format"]

#: nginx's combined, then what concerns a balancer.
_HTTP = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $bytes_sent "$http_referer" "$http_user_agent"'
    ' $listener $pool "$upstream_addr" "$upstream_status"'
    ' rt=$request_time uct="$upstream_connect_time" uht="$upstream_header_time"'
)

#: The same for streams and datagrams, beginning as nginx's manual suggests for them.
_STREAM = (
    "$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time"
    ' $listener $pool "$upstream_addr" "$upstream_bytes_sent" "$upstream_bytes_received"'
    ' uct="$upstream_connect_time"'
)

# Not strftime's %b, which follows the locale.
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class Moment:
    """A second of wall time as text, made once for all the lines that are written in it.

    `now` is the clock's reading at wall time `wall` (seconds since 1970); the second is over when the clock reads `ends`.
    """

    __slots__ = ("ends", "offset", "time_iso8601", "time_local")

    def __init__(self, now: float, wall: float) -> None:
        self.ends = now + 1.0 - wall % 1.0
        self.offset = wall - now
        local = time.localtime(wall)
        zone = time.strftime("%z", local)
        self.time_local = time.strftime(f"%d/{_MONTHS[local.tm_mon - 1]}/%Y:%H:%M:%S ", local) + zone
        self.time_iso8601 = time.strftime("%Y-%m-%dT%H:%M:%S", local) + f"{zone[:3]}:{zone[3:]}"


#: What makes the line of a record: (record, the clock's reading, the moment) to text without its newline.
Line: TypeAlias = "Callable[[Record, float, Moment], str]"


class _Remembered(dict[str | bytes, str]):
    """What a function makes of a text, remembered: names, addresses and browsers come again and again.

    Bounded in number and in size, since clients choose what is remembered.
    """

    def __init__(self, render: Callable[[str | bytes], str]) -> None:
        self._render = render

    def __missing__(self, value: str | bytes) -> str:
        text = self._render(value)
        if len(value) <= 256:
            if len(self) >= 1024:
                self.clear()
            self[value] = text
        return text


class _Seconds(dict[int, str]):
    """Milliseconds as text in seconds, `0.012`: those below one second are ready, which halves the cost."""

    def __init__(self) -> None:
        self.update((n, f"{n / 1000:.3f}") for n in range(1000))

    def __missing__(self, milliseconds: int) -> str:
        return f"{milliseconds / 1000:.3f}"


_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_ESCAPES = [chr(byte) if byte in _PLAIN else f"\\x{byte:02X}" for byte in range(256)]


def _escape(value: str | bytes) -> str:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    if data.translate(None, _PLAIN):
        return "".join([_ESCAPES[byte] for byte in data])
    return data.decode("ascii") or "-"


def _quote(value: str | bytes) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return json.dumps(text or None)


_text = _Remembered(_escape)
_json = _Remembered(_quote)
_seconds = _Seconds()


def _time_of(expression: str, unknown: str = "-") -> str:
    return f"({unknown!r} if {expression} is None else _seconds[int({expression} * 1000)])"


_ELAPSED = "_seconds[int((now - r.started) * 1000)]"

#: The variables of a record `r` that is written when the clock reads `now`, at moment `m`.
_OF_RECORD = {
    "bytes_received": "r.bytes_received",
    "bytes_sent": "r.bytes_sent",
    "http_host": "_text[r.asked.host]",
    "http_referer": "_text[r.asked.referer]",
    "http_user_agent": "_text[r.asked.user_agent]",
    "listener": "_text[r.listener]",
    "msec": 'f"{now + m.offset:.3f}"',
    "pool": "_text[r.pool]",
    "protocol": "r.protocol.upper()",
    "remote_addr": "_text[r.remote_addr]",
    "remote_port": 'r.remote_port or "-"',
    "remote_user": '"-"',
    "request": "_text[r.asked.request]",
    "request_method": "_text[r.asked.method]",
    "request_time": _ELAPSED,
    "request_uri": "_text[r.asked.target]",
    "server_protocol": "_text[r.asked.version]",
    "session_time": _ELAPSED,
    "status": 'r.status or "000"',
    "time_iso8601": "m.time_iso8601",
    "time_local": "m.time_local",
    "upstream_bytes_received": "r.upstream_bytes_received",
    "upstream_bytes_sent": "r.upstream_bytes_sent",
    "upstream_queue_time": _time_of("r.queue_time"),
}

#: The variables of a try `t`; those of several stand one after the other.
_OF_TRY = {
    "upstream_addr": "_text[t.server]",
    "upstream_connect_time": _time_of("t.connect_time"),
    "upstream_header_time": _time_of("t.header_time"),
    "upstream_status": '(t.status or "-")',
}
_OF_TRIES = {name: f'(", ".join([str({value}) for t in r.tries]) or "-")' for name, value in _OF_TRY.items()}

_JSON_TRY = {
    "server": "_json[t.server]",
    "status": '(t.status or "null")',
    "connect_time": _time_of("t.connect_time", "null"),
    "header_time": _time_of("t.header_time", "null"),
}


def _json_object(values: Mapping[str, str]) -> str:
    text = ",".join(f'"{key}":%s' for key in values)
    return f"'{{{text}}}' % ({', '.join(values.values())},)"


_JSON = {
    "time": "_json[m.time_iso8601]",
    "listener": "_json[r.listener]",
    "protocol": "_json[r.protocol]",
    "remote_addr": "_json[r.remote_addr]",
    "remote_port": '(r.remote_port or "null")',
    "pool": "_json[r.pool]",
    "status": '(r.status or "null")',
    "bytes_received": "r.bytes_received",
    "bytes_sent": "r.bytes_sent",
    "upstream_bytes_received": "r.upstream_bytes_received",
    "upstream_bytes_sent": "r.upstream_bytes_sent",
    "request_time": _ELAPSED,
    "queue_time": _time_of("r.queue_time", "null"),
    "tries": f'"[" + ",".join([{_json_object(_JSON_TRY)} for t in r.tries]) + "]"',
}
_HTTP_JSON = _JSON | {
    "request_method": "_json[r.asked.method]",
    "request_uri": "_json[r.asked.target]",
    "server_protocol": "_json[r.asked.version]",
    "http_host": "_json[r.asked.host]",
    "http_referer": "_json[r.asked.referer]",
    "http_user_agent": "_json[r.asked.user_agent]",
}


def compile_format(text: str) -> dict[str, Line]:
    """The functions that make lines in this format, by the protocol of the record.

    Raises ValueError for what is no format, in the words of `check_format`.
    """
    if mistake := check_format(text):
        raise ValueError(mistake)
    if text == "json":
        http, stream = _line(_json_object(_HTTP_JSON)), _line(_json_object(_JSON))
    elif text == "combined":
        http, stream = _line(_template(_HTTP)), _line(_template(_STREAM))
    else:
        http = stream = _line(_template(text))
    return {"http": http, "tcp": stream, "udp": stream}


def _line(expression: str) -> Line:
    line: Line = eval(f"lambda r, now, m: {expression}")
    return line


def _template(template: str) -> str:
    one_try = _filled(template, _OF_RECORD | _OF_TRY)
    any_number = _filled(template, _OF_RECORD | _OF_TRIES)
    return f"{one_try} if len(r.tries) == 1 and (t := r.tries[0]) else {any_number}"


def _filled(template: str, values: Mapping[str, str]) -> str:
    literals, names = split_template(template)
    text = "%s".join(literal.replace("%", "%%") for literal in literals)
    return f"{text!r} % ({', '.join(values[name] for name in names)},)"
