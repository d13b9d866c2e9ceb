"""What a server is told about the client."""

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.http.forwarded import Forwarded, TrustedProxies, own_host
from pylb.proxy.http.head import parse_request

CLAIMS = (
    b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\n"
)


def lines(trusted, block=CLAIMS, line=b"GET / HTTP/1.1", host=b"Host: seen\r\n"):
    return Forwarded("9.9.9.9", b"http", trusted).lines(parse_request(line + b"\r\n" + host + block))


class ForwardedTests(SynchronousTestCase):
    def test_stranger(self):
        """What a stranger claims is replaced."""
        ours = b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: seen\r\n"
        self.assertEqual([lines(False), lines(False, b"")], [ours, ours])

    def test_trusted(self):
        """A trusted proxy's list is continued, and its Proto and Host stay."""
        self.assertEqual(
            lines(True),
            b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\n",
        )

    def test_trusted_that_says_nothing(self):
        """A trusted proxy that says nothing is the client."""
        self.assertEqual(lines(True, b""), lines(False))

    def test_nominated(self):
        """A Connection header cannot take a trusted proxy's list away."""
        self.assertEqual(lines(True, CLAIMS + b"Connection: x-forwarded-for\r\n"), lines(True))

    def test_without_host(self):
        """An HTTP/1.0 request without Host has no X-Forwarded-Host."""
        for trusted in (False, True):
            self.assertEqual(
                lines(trusted, b"", b"GET / HTTP/1.0", b""),
                b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: http\r\n",
            )


class At:
    """A transport at an address."""

    def __init__(self, address):
        self.getHost = lambda: address


class OwnHostTests(SynchronousTestCase):
    def test_address(self):
        """A request that names no host is told the address it came to, and on a Unix socket "localhost"."""
        at = [IPv4Address("TCP", "10.0.0.1", 80), IPv6Address("TCP", "::1", 8080), UNIXAddress("/run/a")]
        self.assertEqual([own_host(At(address)) for address in at], [b"10.0.0.1:80", b"[::1]:8080", b"localhost"])


class TrustedProxiesTests(SynchronousTestCase):
    def test_networks(self):
        """Peers are trusted by network, IPv4 and IPv6, and Unix sockets by name."""
        trusted = TrustedProxies(["10.0.0.0/8", "::1", "fe80::/10", "unix:"])
        peers = ["10.1.2.3", "11.0.0.1", "::1", "::2", "fe80::1%eth0", "::ffff:10.0.0.1", "unix:"]
        self.assertEqual([peer in trusted for peer in peers], [True, False, True, False, True, True, True])

    def test_nobody(self):
        """By default nobody is."""
        self.assertEqual([peer in TrustedProxies() for peer in ("127.0.0.1", "::1", "unix:")], [False] * 3)
