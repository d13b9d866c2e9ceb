"""How does an operator ask for health checks?

One mapping of several kinds (pylb.config.kinds).  Tests of what a server answers are written as in nginx: `~ REGEX` is to be
found, `!~ REGEX` is not; other text stands for itself.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from pylb import model
from pylb.config import scalars, shapes
from pylb.config.fields import UNSET, Duration, Filled, Flag, Number, Text, Timeout, folder_of, or_one
from pylb.config.form import Form
from pylb.config.kinds import KindsForm
from pylb.config.own import NAME, Own, own_class
from pylb.words import did_you_mean, quoted

__all__ = ["CheckForm"]

_TYPES: Mapping[str, type[Any]] = {
    "http": model.HttpCheck,
    "tcp": model.TcpCheck,
    "udp": model.UdpCheck,
    "grpc": model.GrpcCheck,
    "exec": model.ExecCheck,
    "agent": model.AgentCheck,
    "own": model.OwnCheck,
}
_NAMED = tuple(name for name in _TYPES if name != "own")
_PRESETS = ("dns", "ntp", "radius")

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([nrt0\\])|(.?))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}
_URI = re.compile(r"/[!-~]*")
_METHOD = re.compile(r"[A-Z][A-Z-]*")
#: They make a server wait for a body, or doubt the request.
_OF_A_BODY = frozenset({"content-length", "expect", "trailer", "transfer-encoding"})
#: Some servers want to be told that there is none.
_NO_BODY = ("content-length", "0")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_TEST = re.compile(r"(present|absent)|(=|!=|~|!~) ?(.+)", re.DOTALL)
_STATUS = re.compile(r"([1-9]\d\d)(?:-([1-9]\d\d))?")


def _type(value: object, info: ValidationInfo) -> str | Own:
    if isinstance(value, type) or (isinstance(value, str) and ":" in value):
        return own_class(value, folder_of(info), "health check", ("check",))
    if value not in _NAMED:
        raise ValueError(f"unknown type of health check {quoted(value)}{did_you_mean(value, _NAMED)}")
    return str(value)


def unescaped(text: str) -> bytes:
    """Text with nginx's `\\xHH` and C's `\\r \\n \\t \\0 \\\\` in it, as bytes; raises ValueError."""

    def one(found: re.Match[str]) -> str:
        number, letter, wrong = found.groups()
        if wrong is not None:
            raise ValueError(f"unknown escape \\{wrong} (known: \\xHH \\r \\n \\t \\0 \\\\)")
        return chr(0xDC00 + int(number, 16)) if number and int(number, 16) > 127 else _plain(number, letter)

    return _ESCAPE.sub(one, text).encode("utf-8", "surrogateescape")


def _plain(number: str | None, letter: str | None) -> str:
    return chr(int(number, 16)) if number else _ESCAPED[letter or "\\"]


def _bytes(value: object) -> bytes:
    return unescaped(scalars.text(value))


def _expect(value: object) -> re.Pattern[bytes]:
    text = scalars.text(value)
    for mark, flags in (("~* ", re.IGNORECASE), ("~ ", 0)):
        if text.startswith(mark):
            return _regex(text.removeprefix(mark), flags)
    return re.compile(re.escape(unescaped(text)))


def _regex(text: str, flags: int = 0) -> re.Pattern[bytes]:
    try:
        return re.compile(text.encode(), flags | re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{quoted(text)} is no regular expression: {error}") from error


def _status(value: object) -> tuple[int, int]:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else scalars.text(value)
    matched = _STATUS.fullmatch(text)
    if matched is None:
        raise ValueError(f"must be a status such as 200 or a range such as 200-399, not {quoted(text)}")
    least, most = int(matched[1]), int(matched[2] or matched[1])
    if least > most:
        raise ValueError(f"{quoted(text)} ends before it begins")
    return least, most


def _header_tests(value: object) -> tuple[model.HeaderTest, ...]:
    return tuple(_header_test(name, test) for name, test in _mapping(value).items())


def _header_test(name: str, test: object) -> model.HeaderTest:
    matched = _HEADER_TEST.fullmatch(test) if isinstance(test, str) else None
    if matched is None:
        raise ValueError(f"{name} must be present, absent, = TEXT, != TEXT, ~ REGEX or !~ REGEX, not {quoted(test)}")
    kind: Any = matched[1] or matched[2]
    if kind in ("~", "!~"):
        _regex(matched[3])
    return model.HeaderTest(name.lower(), kind, matched[3] or "")


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    lines = _mapping(value)
    first: dict[str, str] = {}
    for name in lines:
        if first.setdefault(name.lower(), name) != name:
            raise ValueError(f"{name} is the header {first[name.lower()]} once more: leave one out")
    return tuple((name, _header(name, line)) for name, line in lines.items())


def _header(name: str, line: object) -> str:
    if isinstance(line, int | float):
        text = scalars.number_text(line).lower()  # "true", too
        raise ValueError(f"{name} must be text, not {text}: write {quoted(text)}")
    if name.lower() in _OF_A_BODY and (name.lower(), line) != _NO_BODY:
        raise ValueError(f"{name} speaks of a body, which the request of a check has not: leave it out")
    if not isinstance(line, str) or not line.isprintable() or not line.isascii():
        raise ValueError(f"{name} must be text of plain characters, not {quoted(line)}")
    return line


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict) or not value:
        raise ValueError("must be a mapping of names of headers")
    for name in value:
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{quoted(name)} is no name of a header")
    return value


def _body(value: object) -> tuple[re.Pattern[bytes], bool]:
    text = scalars.text(value)
    if not text.startswith(("~ ", "!~ ")):
        raise ValueError(f"must be ~ REGEX or !~ REGEX, not {quoted(text)}")
    mark, _, regex = text.partition(" ")
    return _regex(regex), mark == "!~"


def _command(value: list[str], info: ValidationInfo) -> list[str]:
    """A program with a slash in it is a path, relative to the folder of the file as all paths are."""
    program, *arguments = value
    path = os.path.normpath(os.path.join(folder_of(info), program)) if "/" in program else program
    if shutil.which(path) is None:
        raise ValueError(
            f"there is no program {quoted(program)}{'' if '/' in program else ' in the PATH'} that may be run"
        )
    return [path, *arguments]


_uri = scalars.matching(_URI, "%s is no path of a URL")
_verb = scalars.matching(_METHOD, "%s is no method of HTTP")


def _method(value: object) -> str:
    method = _verb(value)
    if method == "CONNECT":
        raise ValueError("CONNECT asks a proxy for a tunnel: write GET or HEAD, or have the type tcp connect")
    return method


_Type: TypeAlias = Annotated[
    str | Own, PlainValidator(_type), shapes.either(shapes.words(*_NAMED), shapes.matching(NAME))
]
_Port: TypeAlias = Annotated[int, PlainValidator(scalars.whole(1, 65535)), shapes.whole(1, 65535)]
_Uri: TypeAlias = Annotated[str, PlainValidator(_uri), shapes.matching(_URI)]
_Verb: TypeAlias = Annotated[str, PlainValidator(_method), shapes.matching(_METHOD)]
_Bytes: TypeAlias = Annotated[bytes, PlainValidator(_bytes), shapes.TEXT]
_Expect: TypeAlias = Annotated[re.Pattern[bytes], PlainValidator(_expect), shapes.TEXT]
_NAMES = WithJsonSchema({"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}})
_Headers: TypeAlias = Annotated[tuple[tuple[str, str], ...], PlainValidator(_headers), _NAMES]
_HeaderTests: TypeAlias = Annotated[tuple[model.HeaderTest, ...], PlainValidator(_header_tests), _NAMES]
_STATUS_SHAPE = WithJsonSchema(
    {"type": ["integer", "string"], "minimum": 100, "maximum": 999, "pattern": f"^{_STATUS.pattern}$"}
)
_Status: TypeAlias = Annotated[tuple[int, int], PlainValidator(_status), _STATUS_SHAPE]
_Body: TypeAlias = Annotated[
    tuple[re.Pattern[bytes], bool], PlainValidator(_body), shapes.matching(re.compile("!?~ .+"))
]
_Preset: TypeAlias = Annotated[str, PlainValidator(scalars.choice(*_PRESETS)), shapes.words(*_PRESETS)]
_Command: TypeAlias = Annotated[Filled[Text], AfterValidator(_command)]
_GrpcStatus: TypeAlias = Annotated[int, PlainValidator(scalars.whole(1)), shapes.whole(1)]


class MatchForm(Form):
    """What an answer must be, all of it."""

    builds = model.HttpMatch

    status: Annotated[Filled[_Status], or_one(_Status)] = UNSET
    header: _HeaderTests = UNSET
    body: _Body = UNSET

    def given(self) -> dict[str, Any]:
        given = super().given()
        if "body" in given:
            given["body"], given["not_body"] = given["body"]
        return given


class CheckForm(KindsForm):
    """A health check."""

    kinds = _TYPES

    type: _Type
    interval: Timeout = UNSET
    jitter: Duration = UNSET
    unhealthy_interval: Timeout = UNSET
    timeout: Timeout = UNSET
    fails: Number = UNSET
    passes: Number = UNSET
    mandatory: Flag = UNSET
    persistent: Flag = UNSET
    port: _Port = UNSET
    uri: _Uri = UNSET
    method: _Verb = UNSET
    headers: _Headers = UNSET
    match: MatchForm = UNSET
    keepalive_time: Duration = UNSET
    send: _Bytes = UNSET
    expect: _Expect = UNSET
    preset: _Preset = UNSET
    secret: Text = UNSET
    service: Text = UNSET
    status: _GrpcStatus = UNSET
    command: _Command = UNSET

    def kind(self) -> str:
        return "own" if isinstance(self.type, Own) else self.type

    def given(self) -> dict[str, Any]:
        given = super().given()
        if isinstance(self.type, Own):
            given |= {"name": self.type.name, "own": self.type.made_by}
        return given

    @model_validator(mode="after")
    def _what_goes_together(self) -> CheckForm:
        if self.preset is not UNSET and (self.send is not UNSET or self.expect is not UNSET):
            raise ValueError(f'"preset: {self.preset}" sends and expects for itself: leave "send" and "expect" out')
        if (self.preset == "radius") is (self.secret is UNSET):
            raise ValueError('"preset: radius" needs "secret", which no other check has')
        if self.kind() == "agent" and self.port is UNSET:
            raise ValueError('the type agent needs "port": where the agent listens')
        return self
