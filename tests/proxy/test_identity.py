"""Is a server who it should be?"""

from __future__ import annotations

import trustme
from OpenSSL import SSL, crypto
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.identity import RESUMED, CertificateRefused, Identity, ServerConnection

CA = trustme.CA()


def certificate(*names: str) -> crypto.X509:
    return crypto.load_certificate(crypto.FILETYPE_PEM, CA.issue_cert(*names).cert_chain_pems[0].bytes())


class IdentityTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Addresses, names with underscores and names in other scripts can be verified; addresses are not asked for."""
        for name, asked in {
            "192.0.2.1": None,
            "::1": None,
            "my_service": b"my_service",
            "b\u00fccher.test": b"xn--bcher-kva.test",
        }.items():
            self.assertEqual(Identity(name, Clock().seconds).asked, asked)

    def test_no_names(self) -> None:
        """What is no name is an error."""
        for name in ("a..b", "x" * 64 + ".test"):
            self.assertRaises(ValueError, Identity, name, Clock().seconds)

    def test_check(self) -> None:
        """A certificate must be for the name; wildcards stand for one label."""
        Identity("a.site.test", Clock().seconds).check(certificate("*.site.test"))
        Identity("192.0.2.1", Clock().seconds).check(certificate("192.0.2.1"))
        for name in ("site.test", "a.b.site.test", "192.0.2.1"):
            self.assertRaises(CertificateRefused, Identity(name, Clock().seconds).check, certificate("*.site.test"))

    def test_session(self) -> None:
        """A session is good for an hour after its server was verified, and never if it was not."""
        clock = Clock()
        identity = Identity("site.test", clock.seconds)
        session = SSL.Session()
        identity.keep(session, clock.seconds())
        clock.advance(RESUMED - 1)
        self.assertIs(identity.session, session)
        clock.advance(1)
        self.assertIsNone(identity.session)


class ServerConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.connection = ServerConnection(context, None, Identity("site.test", Clock().seconds))

    def test_believes(self) -> None:
        """Its certificate is looked at, those above it are OpenSSL's business."""
        other, its = certificate("other.test"), certificate("site.test")
        self.assertEqual([self.connection.believes(other, 0, 1), self.connection.believes(its, 0, 0)], [True, True])
        self.assertFalse(self.connection.believes(other, 0, 0))
        self.assertEqual(str(self.connection.refused), "its certificate is not for site.test")

    def test_reasons(self) -> None:
        """What OpenSSL has against a certificate is told in words if it is common, and as a number if not."""
        for code, text in {10: "its certificate has expired", 42: "its certificate was refused, X509 error 42"}.items():
            self.assertFalse(self.connection.believes(certificate("site.test"), code, 1))
            self.assertEqual(str(self.connection.refused), text)

    def test_accident(self) -> None:
        """What cannot be looked at is not believed."""
        self.assertFalse(self.connection.believes(None, 0, 0))
        self.assertIsNotNone(self.connection.refused)
