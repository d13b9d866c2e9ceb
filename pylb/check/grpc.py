"""Does a gRPC server say that it serves?

One call of grpc.health.v1.Health/Check (https://github.com/grpc/grpc/blob/master/doc/health-checking.md), over HTTP/2 with
prior knowledge.  Of protobuf two messages of one field each are needed; they are written and read here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from zope.interface import implementer

from pylb.check.interface import IHealthCheck, Unhealthy
from pylb.check.target import Target
from pylb.model import GrpcCheck

__all__ = ["GrpcProbe"]

#: The prefix of a message: not compressed, and its length.
_PREFIX = struct.Struct(">BI")
#: The type of the first frame that a server of HTTP/2 sends (RFC 9113, 3.4); h2 would wait for the rest of what is none.
_SETTINGS = b"\x04"
#: Field 1, of the types varint and bytes.
_FIELD_1_NUMBER, _FIELD_1_BYTES = 0x08, 0x0A
_SERVING = 1
_STATES = {0: "unknown", 2: "not serving", 3: "of an unknown service"}


@implementer(IHealthCheck)
class GrpcProbe:
    """Asks the health service."""

    def __init__(self, spec: GrpcCheck) -> None:
        self._spec = spec

    async def check(self, target: Target) -> None:
        conversation = await target.connect()
        call = _Call(conversation.write)
        call.begin(target, _question(self._spec.service))
        try:
            await conversation.until(call.read)
        except ProtocolError as error:
            raise Unhealthy(f"its answer is not HTTP/2: {error}") from None
        self._judge(call)

    def _judge(self, call: _Call) -> None:
        if call.status != b"200":
            raise Unhealthy(f"HTTP status {call.status.decode('latin-1')}")
        if not call.grpc_status.isdigit():
            raise Unhealthy("its answer has no gRPC status")
        code = int(call.grpc_status)
        if code:
            if code != self._spec.status:
                raise Unhealthy(f"gRPC status {code}")
            return
        state = _state(call.message)
        if state != _SERVING:
            raise Unhealthy(f"it says that it is {_STATES.get(state, f'in the state {state}')}")


class _Call:
    """One call on a connection of its own."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.status = self.grpc_status = self.message = b""
        self._write = write
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._read = 0
        self._over = False

    def begin(self, target: Target, question: bytes) -> None:
        self._connection.initiate_connection()
        headers = [
            (":method", "POST"),
            (":scheme", "https" if target.encrypted else "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", target.host),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "pylb"),
        ]
        self._connection.send_headers(1, headers)
        self._connection.send_data(1, question, end_stream=True)
        self._write(self._connection.data_to_send())

    def read(self, data: bytes) -> bool | None:
        """True once all of `data` that has come is the whole answer."""
        if data[3:4] not in (b"", _SETTINGS):
            raise Unhealthy("its answer is not HTTP/2")
        new, self._read = data[self._read :], len(data)
        for event in self._connection.receive_data(new):
            self._happened(event)
        if out := self._connection.data_to_send():
            self._write(out)
        return self._over or None

    def _happened(self, event: Event) -> None:
        if self._over:
            return  # such as the end of a connection that is not needed any more
        if isinstance(event, ResponseReceived | TrailersReceived):
            fields = dict(event.headers or ())
            self.status = fields.get(b":status", self.status)
            self.grpc_status = fields.get(b"grpc-status", self.grpc_status)
        elif isinstance(event, DataReceived):
            self.message += event.data or b""
        elif isinstance(event, StreamEnded):
            self._over = True
        elif isinstance(event, StreamReset | ConnectionTerminated):
            code = event.error_code
            raise Unhealthy(f"ended the call: {code.name if isinstance(code, ErrorCodes) else code}")


def _question(service: str) -> bytes:
    name = service.encode()
    message = bytes([_FIELD_1_BYTES]) + _varint(len(name)) + name if name else b""
    return _PREFIX.pack(0, len(message)) + message


def _state(message: bytes) -> int:
    """The state in a HealthCheckResponse; one that is not said is 0."""
    body = message[_PREFIX.size :]
    if len(body) < 2 or body[0] != _FIELD_1_NUMBER:
        return 0
    return body[1]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
