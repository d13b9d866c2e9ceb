"""Is a server who it should be?

- Its certificate, and those above it, must please OpenSSL, which knows the authorities; and its own must be for the name, or
  the address, that the operator wrote.
- Whatever goes wrong while that is looked at is a no.  Why is told, where OpenSSL would tell that verification failed.
- A server that comes back with a session of its own shows no certificate, and need not: it was verified when the session
  began.  An hour later it must be again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from math import inf

from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns

__all__ = ["RESUMED", "CertificateRefused", "Identity", "ServerConnection", "verify"]

#: Seconds for which a server that was verified is believed to be who has its session.
RESUMED = 3600.0
#: What OpenSSL's commonest verification errors mean for a certificate (x509_vfy.h).
_MISTRUST = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed (tls.ca can name its authority)",
    19: "is of an unknown authority",
    20: "is of an unknown authority",
    21: "is of an unknown authority",
}


class CertificateRefused(Exception):
    """What a server showed is not to be believed."""


class Identity:
    """The name that a server's certificate must bear, and the session of who bore it last.

    Raises ValueError for what cannot be a name.  `clock` reads seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        #: What the server is asked for (SNI); nothing if it is known by address.
        self.asked: bytes | None = None
        self.now = clock
        #: When the server was verified that has the session.
        self.verified_at = -inf
        self._session: SSL.Session | None = None
        self._id: DNS_ID | IPAddress_ID
        try:
            self._id = IPAddress_ID(name)
        except ValueError:
            self.asked = name.encode("idna")
            self._id = DNS_ID(self.asked.decode())

    @property
    def session(self) -> SSL.Session | None:
        """What the next connection may go on with."""
        return self._session if self.now() < self.verified_at + RESUMED else None

    def check(self, certificate: X509) -> None:
        """Raises CertificateRefused if a certificate is not for it."""
        try:
            verify_service_identity(extract_patterns(certificate), [self._id], [])
        except (VerificationError, CertificateError) as error:
            raise CertificateRefused(f"its certificate is not for {self.name}") from error

    def keep(self, session: SSL.Session | None, verified_at: float) -> None:
        """The session of a server that was verified then."""
        self._session = session
        self.verified_at = verified_at


class ServerConnection(SSL.Connection):
    """OpenSSL's side of a connection to a server, on a socket or, without one, in memory."""

    def __init__(self, context: SSL.Context, sock: socket.socket | None, identity: Identity) -> None:
        super().__init__(context, sock)
        #: Why the server is not believed, if it is not.
        self.refused: Exception | None = None
        self._identity = identity
        self.set_connect_state()
        if identity.asked is not None:
            self.set_tlsext_host_name(identity.asked)
        self._verified_at = -inf
        session = identity.session
        if session is not None:
            self.set_session(session)
            self._verified_at = identity.verified_at

    def over(self) -> None:
        """It has ended, after its handshake: another one may go on with its session."""
        self._identity.keep(self.get_session(), self._verified_at)

    def believes(self, certificate: X509, code: int, depth: int) -> bool:
        """Whether a certificate, so many steps above the server's own, will do; `code` is what OpenSSL has against it."""
        try:
            if code:
                raise CertificateRefused(f"its certificate {_MISTRUST.get(code, f'was refused, X509 error {code}')}")
            if depth == 0:
                self._identity.check(certificate)
                self._verified_at = self._identity.now()
        except Exception as error:
            self.refused = error
            return False
        return True


def verify(connection: SSL.Connection, certificate: X509, code: int, depth: int, ok: int) -> bool:
    """What `SSL.Context.set_verify` takes for a context of ServerConnections."""
    assert isinstance(connection, ServerConnection)
    return connection.believes(certificate, code, depth)
