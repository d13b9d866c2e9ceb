"""Which certificate does a client see, and what must a server show?

- Towards clients: one context a certificate, chosen by the server name that the client asks for; a client that asks for
  none, or for an unknown one, gets the first.
- Towards servers: verified with the system's authorities, or the operator's, and service-identity; what cannot be
  verified is refused while connecting.
- Contexts are made once and never changed while in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from zope.interface import implementer

from pylb.balance.server import Server
from pylb.model import Certificate as CertificateSpec
from pylb.model import InetAddress, ListenerTLS, UpstreamTLS

__all__ = ["ClientTLS", "ServerTLS"]

_MIN_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_CIPHERS = b"HIGH:!aNULL:!MD5"
#: A fixed name for the session cache of every context; sessions are not shared between contexts.
_SESSION_ID = b"pylb"


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """TLS towards clients, for a `TLSMemoryBIOFactory`.

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

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._first, None)

    def _make_context(self, certificate: CertificateSpec, min_version: str) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(_MIN_VERSIONS[min_version])
        context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_cipher_list(_CIPHERS)
        context.set_session_id(_SESSION_ID)
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
    """TLS towards the servers of a pool.  Raises OSError or ValueError when the authorities cannot be read."""

    def __init__(self, spec: UpstreamTLS) -> None:
        self._spec = spec
        self._options: dict[str, IOpenSSLClientConnectionCreator] = {}
        if spec.ca is None:
            self._trust = platformTrust()
        else:
            pem = x509.load_pem_x509_certificates(Path(spec.ca).read_bytes())
            self._trust = trustRootFromCertificates(
                [Certificate.loadPEM(authority.public_bytes(Encoding.PEM)) for authority in pem]
            )

    def options_for(self, server: Server) -> IOpenSSLClientConnectionCreator:
        """What makes a TLS connection to `server` and verifies it."""
        name = self._spec.server_name or _host(server)
        options = self._options.get(name)
        if options is None:
            options = optionsForClientTLS(name, self._trust) if self._spec.verify else _Unverified(name)
            self._options[name] = options
        return options


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """Encrypts and believes whatever the server shows (`verify: false`); still sends the server name."""

    def __init__(self, name: str) -> None:
        self._context = CertificateOptions(verify=False).getContext()
        self._name = None if isIPAddress(name) or isIPv6Address(name) else name.encode("idna")

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        return connection


def _host(server: Server) -> str:
    """The name in the certificate of a server is the one that the operator wrote, not what it resolved to."""
    address = server.spec.address
    return address.host if isinstance(address, InetAddress) else "localhost"
