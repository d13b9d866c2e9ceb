"""What is asked of a DNS server, and what does its reply say?

The bytes are read and written by twisted.names' `Message` (RFC 1035).  Its client is not used: it takes a reply to any
question for one to its own, asks over TCP whichever server is next, without an end if that says nothing, and leaves
delayed calls behind.

- What does not begin with our number and our question is not decoded: decoding is work that anybody could cause.
- `Message` leaves out without a word the records that a message was cut off in.  A reply with fewer than it counts is none.
- Aliases (CNAME) are followed within a reply, in whatever order the records come.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from twisted.names import dns

__all__ = ["DnsError", "Question", "Refused", "Reply", "Service", "Truncated", "read"]

_HEADER = dns.Message.headerSize
#: A reply over TCP may have so many records, each of which points to a name or two.
_POINTERS = 8192
#: A greater TTL is one with the sign bit set, and counts as 0 (RFC 2181, 8).
_LONGEST_TTL = 2**31 - 1
_KINDS = {dns.A: "A", dns.AAAA: "AAAA", dns.SRV: "SRV"}


class DnsError(Exception):
    """DNS does not say what was asked."""


class Refused(DnsError):
    """A server does not answer the question."""


class Truncated(DnsError):
    """The reply did not fit into a datagram."""


@dataclass(frozen=True, slots=True)
class Question:
    """A name, in ASCII and lower case, and the kind of its records: dns.A, dns.AAAA or dns.SRV."""

    name: str
    kind: int

    def message(self, number: int) -> bytes:
        """The question as it is sent."""
        message = dns.Message(number, recDes=1)
        message.addQuery(self.name.encode("ascii"), self.kind)
        return message.toStr()

    def __str__(self) -> str:
        return f"{self.name} {_KINDS[self.kind]}"


class Service(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    #: Empty if there is no such service.
    target: str


class Reply(NamedTuple):
    """What a server says."""

    #: Addresses, or `Service`s of SRV.
    values: tuple[Any, ...]
    #: Seconds for which this holds, also that there is nothing; None if the server did not say.
    ttl: int | None
    #: The name that must be asked for instead, if the reply has nothing of it.
    alias: str = ""
    #: Why there are no values, in a word.
    nothing: str = ""


def read(question: Question, number: int, data: bytes) -> Reply | None:
    """What `data` says to the question that was sent under `number`; None if that is no reply to it.

    Raises Truncated, or Refused.
    """
    message = _decoded(data) if _is_reply(question.message(number), data) else None
    if message is None:
        return None
    if message.trunc:
        raise Truncated("the reply is truncated")
    if len(message.answers) < int.from_bytes(data[6:8], "big"):
        return None
    if message.rCode not in (dns.OK, dns.ENAME):
        raise Refused(_REASONS.get(message.rCode, f"the server says error {message.rCode}"))
    return _reply(question, message)


_REASONS = {
    dns.EFORMAT: "the server does not understand the question",
    dns.ESERVER: "the server failed (SERVFAIL)",
    dns.ENOTIMP: "the server knows no such questions",
    dns.EREFUSED: "the server refuses to answer",
}


def _is_reply(asked: bytes, data: bytes) -> bool:
    """Whether it has the bit of a reply, no other opcode, our number, and our question in whatever case."""
    return (
        len(data) >= len(asked)
        and data[2] & 0xF8 == 0x80
        and data[:2] == asked[:2]
        and data[4:6] == asked[4:6]
        and data[_HEADER : len(asked)].lower() == asked[_HEADER:].lower()
    )


def _decoded(data: bytes) -> dns.Message | None:
    message = dns.Message()
    message.maxCompressionPointers = _POINTERS
    try:
        message.fromStr(data)
    except Exception:  # whatever a decoder stumbles over is garbage
        return None
    return message


def _reply(question: Question, message: dns.Message) -> Reply:
    asked = question.name.rstrip(".")
    name, ttl = _without_aliases(asked, message.answers)
    found = [record for record in message.answers if record.type == question.kind and _owner(record) == name]
    if found:
        return Reply(tuple(map(_value, found)), min(ttl, *map(_ttl, found)))
    end = min((_negative_ttl(record) for record in message.authority if record.type == dns.SOA), default=None)
    if message.rCode == dns.ENAME:
        return Reply((), end, nothing="the name does not exist (NXDOMAIN)")
    if name != asked and end is None:
        return Reply((), ttl, alias=name)
    return Reply((), end, nothing=f"the name has no {_KINDS[question.kind]} records")


def _without_aliases(name: str, records: Iterable[dns.RRHeader]) -> tuple[str, int]:
    """What a name is an alias of, in the end, and for how many seconds."""
    aliases = {_owner(record): record for record in records if record.type == dns.CNAME}
    ttl = _LONGEST_TTL
    for _ in range(len(aliases)):  # they may go round in circles
        alias = aliases.get(name)
        if alias is None:
            break
        payload: Any = alias.payload
        name, ttl = _text(payload.name), min(ttl, _ttl(alias))
    return name, ttl


def _value(record: dns.RRHeader) -> str | Service:
    payload: Any = record.payload
    if record.type == dns.SRV:
        return Service(payload.priority, payload.weight, payload.port, _text(payload.target))
    return str(ipaddress.ip_address(payload.address))


def _owner(record: dns.RRHeader) -> str:
    return _text(record.name)


def _text(name: dns.Name) -> str:
    # A name may be any bytes; those that are no host name's are found nowhere.
    return name.name.decode("ascii", "backslashreplace").lower()


def _ttl(record: dns.RRHeader) -> int:
    ttl: int = record.ttl
    return ttl if ttl <= _LONGEST_TTL else 0


def _negative_ttl(record: dns.RRHeader) -> int:
    """How long it holds that there is nothing (RFC 2308, 5)."""
    payload: Any = record.payload
    minimum: int = payload.minimum
    return min(_ttl(record), minimum)
