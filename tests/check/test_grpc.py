"""pylb.check.grpc: the health service of gRPC, over HTTP/2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory

from pylb.check.kinds import make_check
from pylb.model import GrpcCheck, UpstreamTLS
from pylb.proxy.tls import ClientTLS
from tests.check.asking import Asking, says

#: What `Health/Check` answers: a message of which field 1 is the state.
SERVING, NOT_SERVING = b"\0\0\0\0\2\x08\1", b"\0\0\0\0\2\x08\2"
UNKNOWN = b"\0\0\0\0\0"

HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
Answer = Callable[[H2Connection], None]


class Health(Protocol):
    """A server of HTTP/2 that answers its first request as a test says."""

    def __init__(self, answer: Answer) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self._answer = answer
        self._connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))

    def connectionMade(self) -> None:
        self._connection.initiate_connection()
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        for event in self._connection.receive_data(data):
            if isinstance(event, RequestReceived):
                self.headers = dict(event.headers)
            elif isinstance(event, DataReceived):
                self.body += event.data
            elif isinstance(event, StreamEnded):
                self._answer(self._connection)
        self._flush()

    def _flush(self) -> None:
        self.transport.write(self._connection.data_to_send())


class Server(Factory):
    noisy = False

    def __init__(self, answer: Answer) -> None:
        self.calls: list[Health] = []
        self._answer = answer

    def buildProtocol(self, addr: Any) -> Health:
        self.calls.append(Health(self._answer))
        return self.calls[-1]


def answers(message: bytes, status: int = 0) -> Answer:
    """A whole answer, with the status where it belongs."""

    def answer(connection: H2Connection) -> None:
        connection.send_headers(1, HEADERS)
        for byte in message:
            connection.send_data(1, bytes([byte]))
        connection.send_headers(1, [("grpc-status", str(status))], end_stream=True)

    return answer


def refuses(status: int) -> Answer:
    """An answer without a message."""
    return lambda connection: connection.send_headers(1, [*HEADERS, ("grpc-status", str(status))], end_stream=True)


class GrpcTests(Asking):
    async def says_of(self, answer: Answer, **asked: Any) -> Any:
        return await self.verdict(GrpcCheck(**asked), self.tcp(Server(answer)), 2.0)

    async def test_serving(self):
        self.assertIsNone(await self.says_of(answers(SERVING)))

    async def test_not_serving(self):
        for message, state in (
            (NOT_SERVING, "not serving"),
            (UNKNOWN, "unknown"),
            (b"", "unknown"),
            (b"\0\0\0\0\2\x08\3", "of an unknown service"),
            (b"\0\0\0\0\2\x08\x09", "in the state 9"),
            (b"\0\0\0\0\2\x12\1", "unknown"),
        ):
            self.assertEqual(await self.says_of(answers(message)), f"it says that it is {state}")

    async def test_request(self):
        """As the protocol has it: the whole server's health, or a service's."""
        await self.says_of(answers(SERVING))
        [call] = self.server.calls
        expected = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": b"/grpc.health.v1.Health/Check",
            b"content-type": b"application/grpc",
            b"te": b"trailers",
        }
        self.assertEqual({name: call.headers[name] for name in expected}, expected)
        self.assertTrue(call.headers[b":authority"].startswith(b"127.0.0.1:"))
        self.assertEqual(call.body, b"\0\0\0\0\0")
        name = "a" * 200
        await self.says_of(answers(SERVING), service=name)
        self.assertEqual(self.server.calls[0].body, b"\0\0\0\0\xcb\x0a\xc8\x01" + name.encode())

    async def test_unimplemented(self):
        """A server without the health service is unhealthy, unless its status is said to be good."""
        self.assertEqual(await self.says_of(refuses(12)), "gRPC status 12")
        self.assertIsNone(await self.says_of(refuses(12), status=12))
        self.assertEqual(await self.says_of(refuses(5), status=12), "gRPC status 5")

    async def test_status_is_no_licence(self):
        """Where a status would be good, a server that answers must still be serving."""
        self.assertEqual(await self.says_of(answers(NOT_SERVING), status=12), "it says that it is not serving")

    async def test_status_counts(self):
        """A message that is followed by an error is none."""
        self.assertEqual(await self.says_of(answers(SERVING, status=13)), "gRPC status 13")

    async def test_no_grpc(self):
        """A server of HTTP/2 that knows nothing of it."""

        def not_found(connection):
            connection.send_headers(1, [(":status", "404")], end_stream=True)

        def page(connection):
            connection.send_headers(1, [(":status", "200")])
            connection.send_data(1, b"page", end_stream=True)

        self.assertEqual(await self.says_of(not_found), "HTTP status 404")
        self.assertEqual(await self.says_of(page), "its answer has no gRPC status")

    async def test_reset(self):
        """The call, or the connection, is ended before there is an answer."""
        self.assertEqual(
            await self.says_of(lambda connection: connection.reset_stream(1, ErrorCodes.REFUSED_STREAM)),
            "ended the call: REFUSED_STREAM",
        )
        self.assertEqual(
            await self.says_of(lambda connection: connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)),
            "ended the call: ENHANCE_YOUR_CALM",
        )

    async def test_ended_behind_the_answer(self):
        """What a server does with the connection afterwards says nothing of its health."""

        def and_goes(connection):
            answers(SERVING)(connection)
            connection.close_connection()

        self.assertIsNone(await self.says_of(and_goes))

    async def test_garbage(self):
        spec = GrpcCheck()
        reason = await self.verdict(spec, self.tcp(says(b"HTTP/1.1 400 Bad Request\r\n\r\n")), 2.0)
        self.assertEqual(reason, "its answer is not HTTP/2")
        reason = await self.verdict(spec, self.tcp(says(b"\0\0\0\4\0\0\0\0\0" + bytes(9))), 2.0)
        self.assertRegex(reason, "^its answer is not HTTP/2: ")
        self.assertEqual(await self.verdict(spec, self.tcp(says(b"", close=True)), 2.0), "closed the connection")

    async def test_silence(self):
        self.assertEqual(await self.verdict(GrpcCheck(), self.tcp(Server(lambda connection: None)), 0.05), "late")

    async def test_tls(self):
        """Over TLS HTTP/2 is asked for, without which many servers would not speak it."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        trustme.CA().issue_cert("app.internal").configure_cert(context)
        offered = []
        context.set_alpn_select_callback(lambda connection, names: offered.extend(names) or names[0])
        options = CertificateOptions()
        options._context = context
        server = Server(answers(SERVING))
        where = self.tcp(TLSMemoryBIOFactory(options, False, server, reactor))
        target = self.target(where, ClientTLS(UpstreamTLS(verify=False), protocols=[b"h2"]))
        self.assertIsNone(await self.ask(make_check(GrpcCheck()), target))
        self.assertEqual((offered, server.calls[0].headers[b":scheme"]), ([b"h2"], b"https"))
