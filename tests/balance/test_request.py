"""pylb.balance.request."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.request import compile_key, network


class Named:
    """A request with the variables that it is given."""

    def __init__(self, **values: bytes) -> None:
        self.values = values

    def variable(self, name: str) -> bytes:
        return self.values.get(name, b"")


class KeyTests(SynchronousTestCase):
    def test_templates(self) -> None:
        """A variable alone, with text around it, several of them; what a request does not have is empty."""
        request = Named(remote_addr=b"10.0.0.1", uri=b"/a")
        keys = [
            compile_key(text)(request)
            for text in ("$remote_addr", "${remote_addr}", "a$uri", "$uri b", "$remote_addr$uri-", "$arg_x", "<$arg_x>")
        ]
        self.assertEqual(keys, [b"10.0.0.1", b"10.0.0.1", b"a/a", b"/a b", b"10.0.0.1/a-", b"", b"<>"])

    def test_nobody(self) -> None:
        """Where there is no request there is no key."""
        self.assertEqual([compile_key(text)(None) for text in ("$uri", "a$uri")], [b"", b""])


class NetworkTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """Three bytes of IPv4, sixteen of IPv6 without its zone, a pseudo address for Unix sockets and for nobody."""
        networks = [network(Named(remote_addr=text)) for text in (b"10.1.2.3", b"::1", b"fe80::2%eth0", b"unix:")]
        expected = [bytes([10, 1, 2]), bytes(15) + b"\x01", b"\xfe\x80" + bytes(13) + b"\x02", bytes(3)]
        self.assertEqual([*networks, network(None)], [*expected, bytes(3)])
