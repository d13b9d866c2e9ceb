"""Can these files serve TLS?

Every function raises ValueError with what is wrong.  Whether a certificate is trusted or expired is for its reader to say,
not for a configuration.
"""

from __future__ import annotations

import os
import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pylb.words import quoted_path

__all__ = ["certificate", "key_of", "public_half", "system_bundle"]

_LARGEST_FILE = 4 * 1024 * 1024


def certificate(path: str) -> x509.Certificate:
    """The first certificate of a PEM file, every one of which must be readable."""
    data = _contents(path)
    try:
        first = x509.load_pem_x509_certificates(data)[0]
        first.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{quoted_path(path)} holds no readable PEM certificate") from error
    return first


def public_half(path: str) -> PublicKeyTypes:
    """What a certificate must hold to belong to the private key in a PEM file."""
    data = _contents(path)
    try:
        # To prove that an RSA key is one takes 40 ms, while nobody is served; OpenSSL uses it whether it is or not.
        return load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True).public_key()
    except TypeError as error:
        raise ValueError(
            f"the key {quoted_path(path)} is encrypted; there is nobody to ask for its pass phrase"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{quoted_path(path)} holds no readable PEM private key") from error


def key_of(path: str, chain: str) -> None:
    """Check that a PEM file holds the private key of the first certificate of `chain`."""
    if _spelled(public_half(path)) != _spelled(certificate(chain).public_key()):
        raise ValueError(f"{quoted_path(path)} is not the key of the certificate {quoted_path(chain)}")


def system_bundle() -> None:
    """Check that the system has a CA bundle to verify with."""
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not _has_entries(paths.capath):
        raise ValueError('the system has no CA bundle to verify servers with; name one as "ca"')


def _has_entries(folder: str | None) -> bool:
    try:
        return bool(folder and os.listdir(folder))
    except OSError:
        return False


def _spelled(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_FILE)
    except OSError as error:
        raise ValueError(f"{quoted_path(path)} cannot be read: {error.strerror}") from error
