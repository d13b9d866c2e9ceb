"""How does a schema say what a value is?

Types for pydantic's forms, each a function of scalars.py (or one of certificates.py's checks) under the name of what it
reads.  Relative paths are relative to the folder that the validation's context names.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Any, Never, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo
from pydantic.json_schema import SkipJsonSchema

from pylb.config import certificates, hosts, scalars, shapes
from pylb.config.own import NAME, Own, own_class
from pylb.model import METHODS, MOMENTS, Address, UnixAddress
from pylb.variables import FORMATS, check_format, check_key
from pylb.words import did_you_mean, quoted

__all__ = [
    "UNSET",
    "BetterOfTwo",
    "CertificateFile",
    "Count",
    "Duration",
    "FailureWindow",
    "FilePath",
    "Filled",
    "Flag",
    "HashKey",
    "InetListen",
    "KeyFile",
    "LastUsable",
    "Listen",
    "LoadFactor",
    "LogFormat",
    "LogPath",
    "Method",
    "Metric",
    "MinVersion",
    "Name",
    "NameServer",
    "Network",
    "NotSupportedYet",
    "NotYet",
    "Number",
    "Pattern",
    "Percent",
    "Permissions",
    "ServerAddress",
    "ServerName",
    "ServerPlace",
    "ServiceName",
    "Size",
    "Text",
    "Timeout",
    "Workers",
    "folder_of",
    "or_one",
]

#: The default of every optional key: what was not written is left to the model.
UNSET: Any = None

#: More are a slip of the pen: each worker is a process, with a socket for each address.
MOST_WORKERS = 256

_T = TypeVar("_T")

_OF_TWO = ("least_conn", "least_time")
_WINDOWS = ("nginx", "sliding")
_LAST_USABLE = ("eject", "keep")
#: Of all protocols.
_MOMENTS = sorted({moment for moments in MOMENTS.values() for moment in moments})

#: What a class must have to be a balancing method.
_METHOD_NEEDS = ("add", "remove", "choose")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NAME_RULE = "the name %s may hold letters, digits and _ . - only, 64 at most"


class NotSupportedYet(ValueError):
    """A key or value of the contract that is not built yet."""

    def __init__(self) -> None:
        super().__init__("not supported yet")


def _not_yet(_: object) -> Never:
    raise NotSupportedYet


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def folder_of(info: ValidationInfo) -> str:
    """Of the file that is read."""
    return str(info.context)


def _timeout(value: object) -> float:
    seconds = scalars.duration(value)
    if not seconds:
        raise ValueError("must be longer than 0")
    return seconds


def _method(value: object, info: ValidationInfo) -> str | Own:
    if isinstance(value, type) or (isinstance(value, str) and ":" in value):
        return own_class(value, folder_of(info), "balancing method", _METHOD_NEEDS)
    if value not in METHODS:
        raise ValueError(f"unknown balancing method {quoted(value)}{did_you_mean(value, METHODS)}")
    return str(value)


def _hash_key(value: object) -> str:
    text = scalars.text(value)
    if mistake := check_key(text):
        raise ValueError(mistake)
    return text


def _workers(value: object) -> int:
    if value == "auto":
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS) if sys.platform == "linux" else 1
    count = scalars.whole(1, MOST_WORKERS)(value)
    if count > 1 and sys.platform != "linux":
        raise ValueError("more than one needs Linux, whose kernel shares the clients of an address out among sockets")
    return count


def _server_address(value: object, info: ValidationInfo) -> Address:
    return hosts.server_address(value, folder_of(info))


def _server_place(value: object, info: ValidationInfo) -> Address:
    return hosts.server_place(value, folder_of(info))


def _listen(value: object, info: ValidationInfo) -> Address:
    return hosts.listen_address(value, folder_of(info))


def _inet_only(address: Address) -> Address:
    if isinstance(address, UnixAddress):
        raise ValueError("a udp listener cannot listen on a Unix socket")
    return address


def _file_path(value: object, info: ValidationInfo) -> str:
    written = scalars.text(value)
    if not written.isprintable():
        raise ValueError(f"{quoted(written)} is no path")
    return os.path.normpath(os.path.join(folder_of(info), written))


def _log_path(value: object, info: ValidationInfo) -> str:
    return "-" if value == "-" else _file_path(value, info)


def _log_format(value: object) -> str:
    template = scalars.text(value)
    if not template.isprintable():
        raise ValueError("must be one line of printable characters")
    if wrong := check_format(template):
        raise ValueError(wrong)
    return template


def _certificate(path: str) -> str:
    certificates.certificate(path)
    return path


def _key(path: str) -> str:
    certificates.public_half(path)
    return path


def _pattern(value: object) -> str:
    pattern = scalars.text(value)
    if not pattern.isprintable():
        raise ValueError(f"{quoted(pattern)} is no pattern of files")
    return pattern


_WORKERS = shapes.either(shapes.words("auto"), shapes.whole(1, MOST_WORKERS))
_METHOD = shapes.either(shapes.words(*METHODS), shapes.matching(NAME))
_LOG_FORMAT = shapes.either(shapes.words(*FORMATS), shapes.TEMPLATE)

#: A list of at least one; with `or_one` the item alone is short for it.
Filled: TypeAlias = Annotated[list[_T], Field(min_length=1)]


def or_one(item: Any) -> BeforeValidator:
    """That an item may stand where a list of such items can."""
    return BeforeValidator(_listed, json_schema_input_type=item | Filled[item])


NotYet: TypeAlias = Annotated[Any, PlainValidator(_not_yet), SkipJsonSchema()]
Text: TypeAlias = Annotated[str, PlainValidator(scalars.text), shapes.TEXT]
Name: TypeAlias = Annotated[str, PlainValidator(scalars.matching(_NAME, _NAME_RULE)), shapes.matching(_NAME)]
Flag: TypeAlias = Annotated[bool, PlainValidator(scalars.flag), shapes.FLAG]
#: From 0 or from 1.
Count: TypeAlias = Annotated[int, PlainValidator(scalars.whole(0)), shapes.whole(0)]
Number: TypeAlias = Annotated[int, PlainValidator(scalars.whole(1)), shapes.whole(1)]
Percent: TypeAlias = Annotated[int, PlainValidator(scalars.whole(0, 100)), shapes.whole(0, 100)]
Workers: TypeAlias = Annotated[int, PlainValidator(_workers), _WORKERS]
#: A duration may be 0, a timeout may not.
Duration: TypeAlias = Annotated[float, PlainValidator(scalars.duration), shapes.DURATION]
Timeout: TypeAlias = Annotated[float, PlainValidator(_timeout), shapes.TIMEOUT]
Size: TypeAlias = Annotated[int, PlainValidator(scalars.size), shapes.SIZE]
Permissions: TypeAlias = Annotated[int, PlainValidator(scalars.permissions), shapes.matching(scalars.PERMISSIONS)]
Network: TypeAlias = Annotated[str, PlainValidator(hosts.network), shapes.TEXT]
ServerName: TypeAlias = Annotated[str, PlainValidator(hosts.server_name), shapes.TEXT]
ServerAddress: TypeAlias = Annotated[Address, PlainValidator(_server_address), shapes.ADDRESS]
#: Also a name alone, which has the port 0.
ServerPlace: TypeAlias = Annotated[Address, PlainValidator(_server_place), shapes.PLACE]
ServiceName: TypeAlias = Annotated[str, PlainValidator(hosts.service), shapes.matching(hosts.SERVICE)]
NameServer: TypeAlias = Annotated[Address, PlainValidator(hosts.name_server), shapes.NAME_SERVER]
Listen: TypeAlias = Annotated[Address, PlainValidator(_listen), shapes.LISTEN]
InetListen: TypeAlias = Annotated[Listen, AfterValidator(_inet_only), shapes.INET_LISTEN]
Method: TypeAlias = Annotated[str | Own, PlainValidator(_method), _METHOD]
HashKey: TypeAlias = Annotated[str, PlainValidator(_hash_key), shapes.TEMPLATE]
LoadFactor: TypeAlias = Annotated[float, PlainValidator(scalars.factor), shapes.FACTOR]
BetterOfTwo: TypeAlias = Annotated[str, PlainValidator(scalars.choice(*_OF_TWO)), shapes.words(*_OF_TWO)]
Metric: TypeAlias = Annotated[str, PlainValidator(scalars.choice(*_MOMENTS)), shapes.words(*_MOMENTS)]
FailureWindow: TypeAlias = Annotated[str, PlainValidator(scalars.choice(*_WINDOWS)), shapes.words(*_WINDOWS)]
LastUsable: TypeAlias = Annotated[str, PlainValidator(scalars.choice(*_LAST_USABLE)), shapes.words(*_LAST_USABLE)]
MinVersion: TypeAlias = Annotated[str, PlainValidator(scalars.choice("1.2", "1.3")), shapes.words("1.2", "1.3")]
LogPath: TypeAlias = Annotated[str, PlainValidator(_log_path), shapes.TEXT]
LogFormat: TypeAlias = Annotated[str, PlainValidator(_log_format), _LOG_FORMAT]
Pattern: TypeAlias = Annotated[str, PlainValidator(_pattern), shapes.TEXT]
FilePath: TypeAlias = Annotated[str, PlainValidator(_file_path), shapes.TEXT]
#: Files of at least one certificate; a CA bundle is nothing else.
CertificateFile: TypeAlias = Annotated[FilePath, AfterValidator(_certificate)]
KeyFile: TypeAlias = Annotated[FilePath, AfterValidator(_key)]
