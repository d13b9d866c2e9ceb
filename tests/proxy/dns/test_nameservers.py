"""pylb.proxy.dns.nameservers."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pylb.model import InetAddress
from pylb.proxy.dns.nameservers import nameservers


class NameserversTests(SynchronousTestCase):
    def written(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text)
        return path

    def test_addresses(self) -> None:
        """What stands behind "nameserver", at the port of DNS; other lines and what is no address do not count."""
        path = self.written(
            "# nameserver 10.0.0.1\n;nameserver 10.0.0.2\nsearch a.test\nnameserver\n"
            "nameserver 10.0.0.53 # ours\n  nameserver\tfe80::1%eth0\nnameserver dns.test\noptions ndots:1\n"
        )
        self.assertEqual(nameservers(path), (InetAddress("10.0.0.53", 53), InetAddress("fe80::1%eth0", 53)))

    def test_the_first_three(self) -> None:
        path = self.written("".join(f"nameserver 10.0.0.{host}\n" for host in range(1, 6)))
        self.assertEqual([address.host for address in nameservers(path)], ["10.0.0.1", "10.0.0.2", "10.0.0.3"])

    def test_none(self) -> None:
        """Says what to do."""
        path = self.written("search a.test\n")
        text = 'no DNS servers for "resolve": name them in resolver.addresses'
        self.assertEqual(str(self.assertRaises(ValueError, nameservers, path)), f"{text} ({path} names none)")
        missing = self.mktemp()
        error = self.assertRaises(ValueError, nameservers, missing)
        self.assertEqual(str(error), f"{text} ({missing}: No such file or directory)")
