from __future__ import annotations

import os
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from pylb.model import Certificate, ListenerTLS, TcpListener, UpstreamTLS
from tests.config.files import ConfigTestCase

TEXT = (
    "pools: {a: {servers: [10.0.0.1:80]}}\n"
    "listeners:\n"
    "  w: {protocol: tcp, listen: 1, pool: a, tls: {certificates: [{cert: %s, key: %s}]}}\n"
)
POOL = "listeners: {w: {protocol: tcp, listen: 1, pool: a}}\npools: {a: {servers: [10.0.0.1:80], tls: {%s}}}\n"


class TowardsClients(ConfigTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.write_certificate("site", "site.example")

    def test_pair(self) -> None:
        """A pair that fits is kept by absolute paths."""
        listener = self.load(TEXT % ("site.pem", "site.key")).listeners["w"]
        assert isinstance(listener, TcpListener)
        pair = Certificate(cert=f"{self.folder}/site.pem", key=f"{self.folder}/site.key")
        self.assertEqual(ListenerTLS(certificates=(pair,)), listener.tls)

    def test_missing(self) -> None:
        """Each file that cannot be read is named."""
        self.assertEqual(
            [
                'lb.yaml:3:70: listeners.w.tls.certificates.0.cert: "no.pem" cannot be read: No such file or directory',
                'lb.yaml:3:83: listeners.w.tls.certificates.0.key: "no.key" cannot be read: No such file or directory',
            ],
            self.mistakes(TEXT % ("no.pem", "no.key")),
        )

    def test_rubbish(self) -> None:
        """What is no PEM file of the right kind is named; the key in the certificate's place is the usual way."""
        self.write("rubbish.pem", b"\x00\xff")
        place = "lb.yaml:3:70: listeners.w.tls.certificates.0.cert: "
        for file in ["rubbish.pem", "site.key"]:
            self.assertEqual(
                [f'{place}"{file}" holds no readable PEM certificate'], self.mistakes(TEXT % (file, "site.key"))
            )
        self.assertEqual(
            ['lb.yaml:3:85: listeners.w.tls.certificates.0.key: "site.pem" holds no readable PEM private key'],
            self.mistakes(TEXT % ("site.pem", "site.pem")),
        )

    def test_another_key(self) -> None:
        """A key that does not belong to the certificate."""
        self.write_certificate("other", "other.example")
        self.assertEqual(
            [
                "lb.yaml:3:85: listeners.w.tls.certificates.0.key:"
                ' "other.key" is not the key of the certificate "site.pem"'
            ],
            self.mistakes(TEXT % ("site.pem", "other.key")),
        )

    def test_encrypted_key(self) -> None:
        """Nobody is there to type a pass phrase."""
        key = ec.generate_private_key(ec.SECP256R1())
        secret = BestAvailableEncryption(b"secret")
        self.write("secret.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
        self.assertEqual(
            [
                "lb.yaml:3:85: listeners.w.tls.certificates.0.key:"
                ' the key "secret.key" is encrypted; there is nobody to ask for its pass phrase'
            ],
            self.mistakes(TEXT % ("site.pem", "secret.key")),
        )

    def test_other_keys(self) -> None:
        """The other keys of `tls`."""
        text = TEXT.replace("}]}}", "}], %s}}")
        listener = self.load(text % ("site.pem", "site.key", "min_version: 1.3")).listeners["w"]
        assert isinstance(listener, TcpListener) and listener.tls
        self.assertEqual("1.3", listener.tls.min_version)
        for more, message in [
            ('min_version: "1.1"', '110: listeners.w.tls.min_version: must be "1.2" or "1.3", not "1.1"'),
            ("client_ca: ca.pem", "97: listeners.w.tls.client_ca: not supported yet"),
        ]:
            self.assertEqual([f"lb.yaml:3:{message}"], self.mistakes(text % ("site.pem", "site.key", more)))


class TowardsServers(ConfigTestCase):
    def test_bundle(self) -> None:
        """A bundle of one's own is kept by its absolute path."""
        self.write_certificate("site", "site.example")
        pool = self.load(POOL % "ca: ca.pem").pools["a"]
        self.assertEqual(UpstreamTLS(ca=f"{self.folder}/ca.pem"), pool.tls)

    def test_wrong_bundle(self) -> None:
        """A bundle that is missing, empty, no file or no certificates."""
        self.write("empty.pem", "")
        self.write("text.pem", "hello")
        for file, text in [
            ("no.pem", "cannot be read: No such file or directory"),
            (".", "cannot be read: Is a directory"),
            ("empty.pem", "holds no readable PEM certificate"),
            ("text.pem", "holds no readable PEM certificate"),
        ]:
            [message] = self.mistakes(POOL % f"verify: false, ca: {file}")
            self.assertTrue(message.startswith("lb.yaml:2:62: pools.a.tls.ca: "), message)
            self.assertTrue(message.endswith(text), message)

    def test_no_system_bundle(self) -> None:
        """Verification without anything to verify with is refused; without verification nothing is needed."""
        nothing = {"SSL_CERT_FILE": str(self.folder / "no.pem"), "SSL_CERT_DIR": str(self.folder / "no")}
        with mock.patch.dict(os.environ, nothing):
            self.assertEqual(
                ['lb.yaml:2:42: pools.a.tls: the system has no CA bundle to verify servers with; name one as "ca"'],
                self.mistakes(POOL % "verify: true"),
            )
            self.assertEqual(UpstreamTLS(verify=False), self.load(POOL % "verify: false").pools["a"].tls)

    def test_system_bundle(self) -> None:
        """The system's bundle, a file or a folder with something in it, is enough."""
        self.write_certificate("site", "site.example")
        for bundle in [
            {"SSL_CERT_FILE": str(self.folder / "ca.pem"), "SSL_CERT_DIR": "/nowhere"},
            {"SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": str(self.folder)},
        ]:
            with mock.patch.dict(os.environ, bundle):
                self.assertEqual(UpstreamTLS(), self.load(POOL % "").pools["a"].tls)
