"""Which certificate does a client see, and what must a server show?

- Towards clients: one context a certificate, chosen by the server name that the client asks for; a client that asks for
  none, or for an unknown one, gets the first.
- Towards servers: verified with the system's authorities, or the operator's, and service-identity; what cannot be
  verified is refused while connecting.
- A client may come back with its session, and with a new one each time, to the same listener of the same process.
- Contexts are made once and never changed while in use.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.balance.server import Server
from pylb.model import Certificate as CertificateSpec
from pylb.model import InetAddress, ListenerTLS, UpstreamTLS
from pylb.proxy.identity import Identity, ServerConnection, verify
from pylb.proxy.tls_stream import IMeetsPlain, TLSStream, begins_tls

if TYPE_CHECKING:
    from pylb.proxy.streams import Streams

__all__ = ["ClientTLS", "ServerTLS", "TLSTransport"]

_MIN_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_CIPHERS = b"HIGH:!aNULL:!MD5"
#: Servers that are remembered; beyond, all are forgotten, which costs each a full handshake.
_PEERS = 1024
_BUFFER_SIZE = 32 * 1024
#: pyOpenSSL sets it and does not name it (ssl.h): a write would then be one record.
_MODE_ENABLE_PARTIAL_WRITE = 1
#: A fixed name for the session cache of every context; sessions are not shared between contexts.
_SESSION_ID = b"pylb"
#: Seconds for which a client may come back with its session, nginx's.
_SESSION_TIMEOUT = 300


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """TLS towards clients.

    Raises OSError or `OpenSSL.SSL.Error` when a certificate or key cannot be used.
    """

    def __init__(self, spec: ListenerTLS) -> None:
        self._by_name: dict[str, SSL.Context] = {}
        contexts = []
        for certificate in spec.certificates:
            context = self._make_context(certificate, spec.min_version)
            contexts.append(context)
            for name in _names(certificate.cert):
                self._by_name.setdefault(name, context)
        self._first = contexts[0]
        self._first.set_tlsext_servername_callback(self._choose)

    def over(self, factory: IProtocolFactory, reactor: IReactorTime) -> IProtocolFactory:
        """What speaks TLS to clients for `factory`."""
        return _TLSFactory(self, False, factory, reactor)

    def connection(self, sock: socket.socket | None) -> SSL.Connection:
        """OpenSSL's side of a connection from a client."""
        connection = SSL.Connection(self._first, sock)
        connection.set_accept_state()
        return connection

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return self.connection(None)

    def _make_context(self, certificate: CertificateSpec, min_version: str) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        _harden(context, min_version)
        context.set_session_id(_SESSION_ID)
        context.set_timeout(_SESSION_TIMEOUT)
        context.use_certificate_chain_file(certificate.cert)
        context.use_privatekey_file(certificate.key)
        context.check_privatekey()
        return context

    def _choose(self, connection: SSL.Connection) -> None:
        # An exception here would be swallowed and leave the first certificate in place, which is what a name that is
        # no name gets anyway.
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        context = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        if context is not None:
            connection.set_context(context)


def _names(path: str) -> Iterator[str]:
    """The host names that the first certificate of a PEM file is for."""
    certificate = x509.load_pem_x509_certificates(Path(path).read_bytes())[0]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        yield from (name.lower() for name in names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            yield str(attribute.value).lower()


class ClientTLS:
    """TLS towards the servers of a pool, who are offered `protocols` (ALPN).

    Raises `OpenSSL.SSL.Error` when the authorities cannot be read.
    """

    def __init__(
        self, spec: UpstreamTLS, clock: Callable[[], float] = time.monotonic, protocols: Sequence[bytes] = ()
    ) -> None:
        self._spec = spec
        self._clock = clock
        #: By name and address: servers may have a name in common, but have no sessions in common.
        self._peers: dict[tuple[str, object], _Peer] = {}
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if protocols:
            self._context.set_alpn_protos(list(protocols))
        _harden(self._context, "1.2")
        if spec.verify:
            self._context.set_verify(SSL.VERIFY_PEER, verify)
        if spec.ca is None:
            self._context.set_default_verify_paths()
        else:
            self._context.load_verify_locations(spec.ca)

    def over(self, factory: IProtocolFactory, server: Server, reactor: IReactorTime) -> IProtocolFactory:
        """What speaks TLS to `server` for `factory`.  Raises ValueError for what cannot be a server's name."""
        name = self._spec.server_name or _host(server)
        key = name, server.address
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= _PEERS:
                self._peers.clear()
            peer = self._peers[key] = _Peer(self._context, Identity(name, self._clock))
        return _TLSFactory(peer, True, factory, reactor)


@implementer(IOpenSSLClientConnectionCreator)
class _Peer:
    """A server as connections to it are made."""

    def __init__(self, context: SSL.Context, identity: Identity) -> None:
        self._context = context
        self._identity = identity

    def connection(self, sock: socket.socket | None) -> SSL.Connection:
        """OpenSSL's side of a connection to it."""
        return ServerConnection(self._context, sock, self._identity)

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return self.connection(None)


def _host(server: Server) -> str:
    """The name in the certificate of a server is the one that the operator wrote, not what it resolved to."""
    address = server.spec.address
    return address.host if isinstance(address, InetAddress) else "localhost"


def _harden(context: SSL.Context, min_version: str) -> None:
    context.set_min_proto_version(_MIN_VERSIONS[min_version])
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    context.set_cipher_list(_CIPHERS)


class TLSTransport(TLSMemoryBIOProtocol):
    """Twisted's TLS with tidings of the end, for protocols that are IHalfCloseableProtocol.

    Their `readConnectionLost` is called once the peer has ended its side: by a close_notify as soon as that is read, where
    Twisted first flushes and, while a producer is paused, may never come to tell; or by merely closing, which Twisted
    tells as it tells a reset.  What is left for `connectionLost` to tell as a loss is one.  A protocol that is an
    IMeetsPlain has the transport below if the peer does not speak TLS.
    """

    #: Whether the peer speaks TLS; None before it has spoken.
    _is_plain: bool | None = None

    def makeConnection(self, transport: ITransport) -> None:
        # A read and a full buffer of ciphertext, and what OpenSSL holds, are not to exceed what plain connections hold.
        transport.bufferSize = _BUFFER_SIZE
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        if self._is_plain is None:
            self._is_plain = not begins_tls(data) and IMeetsPlain.providedBy(self.wrappedProtocol)
            if self._is_plain:
                self._step_aside()
        if self._is_plain:
            self.wrappedProtocol.dataReceived(data)
            return
        super().dataReceived(data)
        if self.getHandle().get_shutdown() & SSL.RECEIVED_SHUTDOWN:
            self._ended()

    def _step_aside(self) -> None:
        self.unregisterProducer()
        self.wrappedProtocol.transport = self.transport
        self.wrappedProtocol.spoke_plainly()

    def connectionLost(self, reason: Failure) -> None:
        if self._is_plain:
            ProtocolWrapper.connectionLost(self, reason)
            return
        # If it is disconnecting it is we who close, perhaps over what was not TLS.
        if reason.check(ConnectionDone) and not self.transport.disconnecting:
            self._ended()
        connection = self.getHandle()
        if isinstance(connection, ServerConnection) and connection.refused is not None:
            self.failVerification(Failure(connection.refused))
        super().connectionLost(reason)

    def _ended(self) -> None:
        protocol = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if protocol is not None:
            protocol.readConnectionLost()


class _TLSFactory(TLSMemoryBIOFactory):
    """Makes TLS for the protocols of another factory: streams of its own, and Twisted's TLS on all other transports."""

    # Not the one that gathers 64 kB before it writes: nobody would count them.
    protocol = TLSTransport

    def __init__(self, creator: ServerTLS | _Peer, is_client: bool, factory: IProtocolFactory, reactor: IReactorTime):
        super().__init__(creator, is_client, factory, reactor)
        self._creator = creator

    def make_stream(self, sock: Any, reactor: Streams, where: Any) -> TLSStream:
        protocol = self.wrappedFactory.buildProtocol(None)
        return TLSStream(sock, protocol, reactor, where, self._creator.connection(sock))
