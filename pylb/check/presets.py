"""Which datagram does a server of a well-known protocol answer, and what is its answer?

A question is new each time, so that nobody else's answer, and none that is late, passes for it.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections.abc import Callable, Mapping
from hashlib import md5
from typing import NamedTuple

from pylb.check.interface import Unhealthy

__all__ = ["PRESETS", "Question"]


class Question(NamedTuple):
    """A datagram, and what tells its answer: True, None if it is something else; raises Unhealthy for a bad one."""

    datagram: bytes
    answered: Callable[[bytes], bool | None]


# DNS (RFC 1035, 4.1.1): the name servers of the root, for which every server has an answer or a refusal.
_DNS = struct.Struct(">HHHHHH")
_RECURSION_DESIRED, _RESPONSE = 0x0100, 0x8000
_ROOT_NS = b"\0" + struct.pack(">HH", 2, 1)
_SERVER_FAILURE = 2


def _dns(secret: bytes) -> Question:
    number = secrets.randbits(16)

    def answered(reply: bytes) -> bool | None:
        if len(reply) < _DNS.size:
            return None
        identity, flags, *_ = _DNS.unpack_from(reply)
        if identity != number or not flags & _RESPONSE:
            return None
        if flags & 0xF == _SERVER_FAILURE:
            raise Unhealthy("DNS server failure")
        return True

    return Question(_DNS.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + _ROOT_NS, answered)


# NTP (RFC 5905, 7.3): leap and version and mode, stratum, ..., and the sender's time, which comes back as it was sent.
_NTP_SIZE = 48
_VERSION_4, _CLIENT, _SERVER = 4 << 3, 3, 4
_UNSYNCHRONISED = 3
_LAST_STRATUM = 15


def _ntp(secret: bytes) -> Question:
    sent = secrets.token_bytes(8)

    def answered(reply: bytes) -> bool | None:
        if len(reply) < _NTP_SIZE or reply[0] & 7 != _SERVER or reply[24:32] != sent:
            return None
        if reply[0] >> 6 == _UNSYNCHRONISED or not 1 <= reply[1] <= _LAST_STRATUM:
            raise Unhealthy("its clock is not synchronised")
        return True

    return Question(bytes([_VERSION_4 | _CLIENT]) + bytes(39) + sent, answered)


# RADIUS (RFC 2865, 3; RFC 5997): Status-Server, signed with the shared secret; the answer is signed over the request.
_RADIUS = struct.Struct(">BBH16s")
_STATUS_SERVER = 12
_MESSAGE_AUTHENTICATOR = bytes([80, 18])


def _radius(secret: bytes) -> Question:
    number, authenticator = secrets.randbits(8), secrets.token_bytes(16)
    length = _RADIUS.size + 18
    head = _RADIUS.pack(_STATUS_SERVER, number, length, authenticator)
    signature = hmac.digest(secret, head + _MESSAGE_AUTHENTICATOR + bytes(16), "md5")

    def answered(reply: bytes) -> bool | None:
        if len(reply) < _RADIUS.size:
            return None
        _, identity, size, signed = _RADIUS.unpack_from(reply)
        if identity != number or not _RADIUS.size <= size <= len(reply):
            return None
        expected = md5(reply[:4] + authenticator + reply[20:size] + secret, usedforsecurity=False).digest()
        return True if hmac.compare_digest(expected, signed) else None

    return Question(head + _MESSAGE_AUTHENTICATOR + signature, answered)


PRESETS: Mapping[str, Callable[[bytes], Question]] = {"dns": _dns, "ntp": _ntp, "radius": _radius}
