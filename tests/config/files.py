"""Configuration files for the tests of pylb.config, in a folder of their own."""

from __future__ import annotations

import os
from pathlib import Path

import trustme
from twisted.trial.unittest import SynchronousTestCase

from pylb.config import ConfigError, load
from pylb.model import Config

__all__ = ["ConfigTestCase"]


class ConfigTestCase(SynchronousTestCase):
    """Loads configurations; messages are compared without the folder's name."""

    def setUp(self) -> None:
        self.folder = Path(os.path.abspath(self.mktemp()))
        self.folder.mkdir()

    def write(self, name: str, content: str | bytes) -> str:
        """The path of a new file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def load(self, text: str | bytes) -> Config:
        """The configuration in a file `lb.yaml`."""
        return load(self.write("lb.yaml", text))

    def mistakes(self, text: str | bytes) -> list[str]:
        """The messages about a file `lb.yaml`."""
        error = self.assertRaises(ConfigError, self.load, text)
        return str(error).replace(f"{self.folder}/", "").split("\n")

    def write_certificate(self, name: str, *hosts: str) -> None:
        """`NAME.pem` and `NAME.key`, and the authority that signed them as `ca.pem`."""
        authority = trustme.CA()
        issued = authority.issue_cert(*hosts)
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        self.write(f"{name}.key", issued.private_key_pem.bytes())
        self.write(f"{name}.pem", b"".join(blob.bytes() for blob in issued.cert_chain_pems))
