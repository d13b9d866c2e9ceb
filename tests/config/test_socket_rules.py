from __future__ import annotations

from tests.config.files import ConfigTestCase

POOLS = "pools: {a: {servers: [10.0.0.1:80]}, b: {servers: [10.0.0.2:80]}}\n"


def tcp(*listens: str) -> str:
    """Listeners `w0`, `w1`, ... of one line each from line 3 on."""
    lines = [f"  w{place}: {{protocol: {listen}, pool: a}}" for place, listen in enumerate(listens)]
    return POOLS + "listeners:\n" + "\n".join(lines) + "\n"


class SocketTests(ConfigTestCase):
    def test_taken(self) -> None:
        """An address is taken by itself, and by all addresses of its family, for each of TCP and UDP."""
        for first, second, message in [
            (
                "tcp, listen: 80",
                "tcp, listen: 80",
                '4:31: listeners.w1.listen: 0.0.0.0:80 is taken by "w0", 0.0.0.0:80',
            ),
            (
                "tcp, listen: 80",
                "tcp, listen: 127.0.0.1:80",
                '4:31: listeners.w1.listen: 127.0.0.1:80 is taken by "w0", 0.0.0.0:80',
            ),
            (
                "tcp, listen: 127.0.0.1:80",
                "tcp, listen: 80",
                '4:31: listeners.w1.listen: 0.0.0.0:80 is taken by "w0", 127.0.0.1:80',
            ),
            (
                "tcp, listen: '[::]:80'",
                "tcp, listen: '[::1]:80'",
                '4:31: listeners.w1.listen: [::1]:80 is taken by "w0", [::]:80',
            ),
            (
                "udp, listen: 53",
                "udp, listen: 127.0.0.1:53",
                '4:31: listeners.w1.listen: 127.0.0.1:53 is taken by "w0", 0.0.0.0:53',
            ),
            (
                "udp, reuseport: true, listen: 53",
                "udp, reuseport: true, listen: 53",
                '4:48: listeners.w1.listen: 0.0.0.0:53 is taken by "w0", 0.0.0.0:53',
            ),
            (
                "tcp, listen: unix:/run/a",
                "tcp, listen: unix:/run/../run/a",
                '4:31: listeners.w1.listen: unix:/run/a is taken by "w0", unix:/run/a',
            ),
        ]:
            place = f"3:{message.split(':')[1]}"
            self.assertEqual([f"lb.yaml:{message} at lb.yaml:{place}"], self.mistakes(tcp(first, second)))

    def test_taken_by_http(self) -> None:
        """HTTP is TCP."""
        text = tcp("tcp, listen: 80", "http, listen: 80")
        message = '4:32: listeners.w1.listen: 0.0.0.0:80 is taken by "w0", 0.0.0.0:80 at lb.yaml:3:31'
        self.assertEqual([f"lb.yaml:{message}"], self.mistakes(text))

    def test_taken_by_itself(self) -> None:
        """A listener cannot listen twice on one address."""
        message = '3:38: listeners.w0.listen.1: 0.0.0.0:80 is taken by "w0", 0.0.0.0:80 at lb.yaml:3:32'
        self.assertEqual([f"lb.yaml:{message}"], self.mistakes(tcp("tcp, listen: [80,   80]")))

    def test_free(self) -> None:
        """TCP beside UDP, IPv6 beside IPv4, other ports and other addresses."""
        for first, second in [
            ("tcp, listen: 53", "udp, listen: 53"),
            ("tcp, listen: 80", "tcp, listen: '[::]:80'"),
            ("tcp, listen: 80", "tcp, listen: 127.0.0.1:81"),
            ("tcp, listen: 127.0.0.1:80", "tcp, listen: 127.0.0.2:80"),
            ("tcp, listen: unix:/run/a", "tcp, listen: unix:/run/b"),
        ]:
            self.assertEqual(2, len(self.load(tcp(first, second)).listeners))

    def test_loop(self) -> None:
        """A listener that is a server of its own pool would ask itself."""
        for protocol, listen, server in [
            ("tcp", "127.0.0.1:80", "127.0.0.1:80"),
            ("http", "10.0.0.1:80", "10.0.0.1:80"),
            ("udp", "'[2001:db8::1]:53'", "'[2001:DB8:0::1]:53'"),
            ("tcp", "80", "127.9.9.9:80"),
            ("udp", "'[::]:53'", "'[::1]:53'"),
            ("tcp", "unix:/run/a", "unix:/run/b/../a"),
        ]:
            text = (
                f"pools: {{a: {{servers: [10.0.0.9:9, {server}]}}}}\n"
                f"listeners:\n  w: {{listen: {listen}, protocol: {protocol}, pool: a}}\n"
            )
            expected = 'this is the listener "w" itself, at lb.yaml:3:15: it would ask itself without end'
            self.assertEqual([f"lb.yaml:1:35: pools.a.servers.1: {expected}"], self.mistakes(text))

    def test_loop_of_routes(self) -> None:
        """So would one of whose routes this is true; each place is told."""
        text = (
            "pools: {a: {servers: [10.0.0.9:9]}, b: {servers: [{address: 127.0.0.1:80, backup: true}, 10.0.0.9:9]}}\n"
            "listeners:\n"
            "  w: {protocol: http, listen: [81, 80], routes: [{path: /, pool: a}, {path: /b, pool: b}]}\n"
        )
        expected = 'this is the listener "w" itself, at lb.yaml:3:36: it would ask itself without end'
        self.assertEqual([f"lb.yaml:1:61: pools.b.servers.0.address: {expected}"], self.mistakes(text))

    def test_no_loop(self) -> None:
        """Listeners that ask others are fine; so is whatever may not be itself: other ports, addresses, families, names."""
        for first, second, servers in [
            ("tcp, listen: 80", "http, listen: 81", ("127.0.0.1:81", "10.0.0.1:80")),
            ("tcp, listen: 80", "tcp, listen: '[::]:80'", ("10.0.0.1:80", "'[2001:db8::1]:80'")),
            ("tcp, listen: 80", "tcp, listen: 81", ("localhost:80", "'[::1]:80'")),
            ("tcp, listen: 127.0.0.1:80", "tcp, listen: 81", ("127.0.0.2:80", "unix:/run/a")),
        ]:
            text = (
                f"pools: {{a: {{servers: [{servers[0]}]}}, b: {{servers: [{servers[1]}]}}}}\nlisteners:\n"
                f"  w: {{protocol: {first}, pool: a}}\n  x: {{protocol: {second}, pool: b}}\n"
            )
            self.assertEqual(2, len(self.load(text).listeners))
