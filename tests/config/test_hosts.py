from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pylb.config import hosts
from pylb.model import InetAddress, UnixAddress
from tests.config.tables import ANYTHING, Table


def server(value: object) -> object:
    return hosts.server_address(value, "/srv")


def place(value: object) -> object:
    return hosts.server_place(value, "/srv")


def listen(value: object) -> object:
    return hosts.listen_address(value, "/srv")


class Addresses(Table):
    def test_servers(self) -> None:
        """IPv4, IPv6 in brackets, names and Unix sockets; relative sockets are relative to the folder."""
        self.reads(
            server,
            [
                ("10.0.0.1:80", InetAddress("10.0.0.1", 80)),
                ("[2001:DB8::0:1]:65535", InetAddress("2001:db8::1", 65535)),
                ("[fe80::1%eth0]:1", InetAddress("fe80::1%eth0", 1)),
                ("app.example.com:8080", InetAddress("app.example.com", 8080)),
                ("APP.example.com.:8080", InetAddress("app.example.com.", 8080)),
                ("my_app-1:80", InetAddress("my_app-1", 80)),
                ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
                ("unix:app.sock", UnixAddress("/srv/app.sock")),
                ("unix:../a.sock", UnixAddress("/a.sock")),
            ],
        )

    def test_servers_refused(self) -> None:
        """What is wrong with an address is said, not only that something is."""
        self.refuses(
            server,
            [
                ("10.0.0.1", '"10.0.0.1" has no port'),
                ("[::1]", '"[::1]" has no port'),
                ("app.example.com", '"app.example.com" has no port'),
                (80, "80 is a port without a host"),
                (":80", '":80" has no host'),
                ("10.0.0.1:", '"" is no port'),
                ("10.0.0.1:http", '"http" is no port'),
                ("10.0.0.1:0", "port 0 is not from 1 to 65535"),
                ("10.0.0.1:65536", "port 65536 is not from 1 to 65535"),
                ("10.0.0.1:" + "9" * 100, "port " + "9" * 60 + "... is not from 1 to 65535"),
                ("10.0.0.1:\u0661", '"\u0661" is no port'),
                ("10.0.0.1:-80", '"-80" is no port'),
                ("10.0.0.256:80", '"10.0.0.256" is no IP address and no host name'),
                ("010.0.0.1:80", '"010.0.0.1" is no IP address and no host name'),
                ("::1:80", '"::1:80" is no address; an IPv6 address stands in brackets: [::1]:80'),
                ("[::g]:80", '"::g" is no IPv6 address'),
                ("[::1]80", '"[::1]80" is no address'),
                ("a b:80", '"a b" is no IP address and no host name'),
                ("-a:80", '"-a" is no IP address and no host name'),
                ("a..b:80", '"a..b" is no IP address and no host name'),
                ("x" * 64 + ":80", '"' + "x" * 60 + '..." is no IP address and no host name'),
                ("b\u00fccher.example:80", '"b\u00fccher.example" is no host name; write its ASCII form (xn--...)'),
                ("http://a:80", '"http://a:80" is no address'),
                ("unix:", '"unix:" has no path'),
                ("unix:/" + "x" * 107, 'the path "/' + "x" * 107 + '" is longer than 107 bytes'),
                (None, "must be text, not a NoneType"),
                (True, "must be text, not true"),
            ],
        )

    def test_listen(self) -> None:
        """A port alone is IPv4 on all addresses, as in nginx."""
        self.reads(
            listen,
            [
                (3306, InetAddress("0.0.0.0", 3306)),
                ("3306", InetAddress("0.0.0.0", 3306)),
                ("127.0.0.1:80", InetAddress("127.0.0.1", 80)),
                ("[0:0::0]:80", InetAddress("::", 80)),
                ("unix:/run/lb.sock", UnixAddress("/run/lb.sock")),
            ],
        )

    def test_listen_refused(self) -> None:
        """One listens on addresses, not on names, and on a port that exists."""
        self.refuses(
            listen,
            [
                (0, "port 0 is not from 1 to 65535"),
                (65536, "port 65536 is not from 1 to 65535"),
                (-1, '"-1" is no port'),
                ("localhost:80", '"localhost" is a name; listen on an IP address or on a port alone'),
                ("*:80", '"*" is no IP address and no host name'),
                ("127.0.0.1", '"127.0.0.1" has no port'),
                ("", 'must be text, not ""'),
                (True, "must be text, not true"),
            ],
        )

    @given(st.ip_addresses(v=4), st.integers(1, 65535))
    def test_ipv4_round_trip(self, host: Any, port: int) -> None:
        """An address reads back from its own text."""
        address = InetAddress(str(host), port)
        self.assertEqual(address, server(str(address)))

    @given(st.ip_addresses(v=6), st.integers(1, 65535))
    def test_ipv6_round_trip(self, host: Any, port: int) -> None:
        """However an IPv6 address was written, it is kept in its one short form."""
        address = InetAddress(str(host), port)
        self.assertEqual(address, server(str(address)))
        self.assertEqual(address, server(f"[{host.exploded}]:{port}"))

    @given(st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{1,10}){0,3}", fullmatch=True), st.integers(1, 65535))
    def test_name_round_trip(self, host: str, port: int) -> None:
        """A name reads back from its own text."""
        address = InetAddress(host, port)
        self.assertEqual(address, server(str(address)))


class Names(Table):
    def test_place(self) -> None:
        """A name may stand without a port; whatever else is an address like any other."""
        self.reads(
            place,
            [
                ("APP.example", InetAddress("app.example", 0)),
                ("app.example:80", InetAddress("app.example", 80)),
                ("unix:a", UnixAddress("/srv/a")),
            ],
        )
        self.refuses(place, [("10.0.0.1", '"10.0.0.1" has no port'), ("a b", '"a b" has no port')])

    def test_service(self) -> None:
        """A word, or labels with a dot between; with its underscore and with what is behind it a label has 63 letters."""
        self.reads(hosts.service, [("http", "http"), ("_HTTP._tcp", "_http._tcp"), ("x" * 62, "x" * 62)])
        for wrong in ["a b", "_http._tcp.", ".a"]:
            self.refuses(hosts.service, [(wrong, f'"{wrong}" is no service such as http or _http._tcp')])
        for long in ["x" * 63, "a." + "x" * 64]:
            self.assertRaises(ValueError, hosts.service, long)

    def test_name_server(self) -> None:
        """IP addresses, with the port of DNS or their own."""
        self.reads(
            hosts.name_server,
            [
                ("127.0.0.53", InetAddress("127.0.0.53", 53)),
                ("127.0.0.53:5353", InetAddress("127.0.0.53", 5353)),
                ("[::1]", InetAddress("::1", 53)),
                ("[::1]:5353", InetAddress("::1", 5353)),
            ],
        )
        self.refuses(
            hosts.name_server,
            [
                ("::1", '"::1" is no address; an IPv6 address stands in brackets: [::1]:80'),
                ("dns.example", '"dns.example" is a name; write the IP address of the DNS server'),
                ("10.0.0.1:0", "port 0 is not from 1 to 65535"),
                (53, "must be text, not 53"),
            ],
        )

    def test_server_name(self) -> None:
        """A certificate names hosts or IP addresses."""
        self.reads(
            hosts.server_name,
            [("App.internal", "app.internal"), ("10.0.0.1", "10.0.0.1"), ("0::1", "::1")],
        )
        self.refuses(hosts.server_name, [("a:b", '"a:b" is no IP address and no host name')])

    def test_network(self) -> None:
        """Networks are CIDR, an address alone is a network of one, unix: is every Unix peer."""
        self.reads(
            hosts.network,
            [
                ("10.0.0.0/8", "10.0.0.0/8"),
                ("127.0.0.1", "127.0.0.1/32"),
                ("::1", "::1/128"),
                ("fd00::/8", "fd00::/8"),
                ("unix:", "unix:"),
            ],
        )
        self.refuses(
            hosts.network,
            [
                ("10.0.0.1/8", '"10.0.0.1/8" is an address inside a network, did you mean "10.0.0.0/8"?'),
                ("10.0.0.0/33", '"10.0.0.0/33" is no IP address and no network such as 10.0.0.0/8'),
                (10, "must be text, not 10"),
            ],
        )


class Anything(Table):
    @given(ANYTHING)
    def test_only_value_error(self, value: object) -> None:
        """Whatever is written, a reader answers or raises ValueError with a text of one line."""
        alone = [hosts.host_name, hosts.name_server, hosts.network, hosts.server_name, hosts.service]
        for read in [*alone, server, listen, place]:
            self.reads_or_refuses(read, value)
