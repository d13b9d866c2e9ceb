from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.config import scalars
from pylb.model import InetAddress, UnixAddress

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(), st.integers(), max_size=2),
    st.text("0123456789dhmskg.:[]/-uni", max_size=20),
)


def server(value: object) -> object:
    return scalars.server_address(value, "/srv")


def place(value: object) -> object:
    return scalars.server_place(value, "/srv")


def listen(value: object) -> object:
    return scalars.listen_address(value, "/srv")


class _Table(SynchronousTestCase):
    def reads(self, read: Callable[[object], object], table: list[tuple[object, object]]) -> None:
        for written, meant in table:
            self.assertEqual((type(meant), meant), (type(read(written)), read(written)), repr(written))

    def refuses(self, read: Callable[[object], object], table: list[tuple[object, str]]) -> None:
        for written, text in table:
            error = self.assertRaises(ValueError, read, written)
            self.assertEqual(text, str(error))


class Words(_Table):
    def test_text(self) -> None:
        """Text is any text but the empty one."""
        self.reads(scalars.text, [("a", "a"), ("a b", "a b")])
        self.refuses(
            scalars.text,
            [
                ("", 'must be text, not ""'),
                (5, "must be text, not 5"),
                (True, "must be text, not true"),
                ([], "must be text, not a list"),
                ({}, "must be text, not a mapping"),
                (1.5, "must be text, not 1.5"),
                (b"x", "must be text, not a bytes"),
            ],
        )

    def test_flag(self) -> None:
        """Booleans are true and false; other words that YAML 1.1 takes for booleans are told what to write."""
        self.reads(scalars.flag, [(True, True), (False, False)])
        self.refuses(
            scalars.flag,
            [
                ("off", 'must be true or false, not "off", write false'),
                ("Yes", 'must be true or false, not "Yes", write true'),
                ("true", 'must be true or false, not "true", write true'),
                ("x", 'must be true or false, not "x"'),
                (1, "must be true or false, not 1"),
            ],
        )

    def test_choice(self) -> None:
        """One of the words known."""
        read = scalars.choice("1.2", "1.3")
        self.reads(read, [("1.3", "1.3")])
        self.refuses(read, [("1.1", 'must be "1.2" or "1.3", not "1.1"'), (1.2, 'must be "1.2" or "1.3", not 1.2')])

    def test_long_and_strange_values_are_shown_short_and_printable(self) -> None:
        """A message is one printable line of bounded length, whatever was written."""
        self.refuses(
            scalars.flag,
            [
                ("x" * 100, 'must be true or false, not "' + "x" * 60 + '..."'),
                ("a\nb", 'must be true or false, not "a\\nb"'),
                (10**5000, "must be true or false, not a number that large"),
            ],
        )


class Numbers(_Table):
    def test_whole(self) -> None:
        """Whole numbers, bounded below as asked and above by 31 bits."""
        self.reads(scalars.whole(0), [(0, 0), (7, 7), (2**31 - 1, 2**31 - 1)])
        self.refuses(
            scalars.whole(1),
            [
                (0, "must be from 1 to 2147483647, not 0"),
                (-3, "must be from 1 to 2147483647, not -3"),
                (2**31, "must be from 1 to 2147483647, not 2147483648"),
                ("5", 'must be a whole number, not "5"'),
                (True, "must be a whole number, not true"),
                (1.0, "must be a whole number, not 1.0"),
            ],
        )

    def test_factor(self) -> None:
        """Factors are from 1 to 1000, with or without a fraction."""
        self.reads(
            scalars.factor, [(1, 1.0), (2, 2.0), ("1.25", 1.25), ("2", 2.0), (1.5, 1.5), (1000, 1000.0), ("1.0", 1.0)]
        )
        self.refuses(
            scalars.factor,
            [
                (0, "must be from 1 to 1000, not 0"),
                ("0.99", 'must be from 1 to 1000, not "0.99"'),
                (1001, "must be from 1 to 1000, not 1001"),
                (10**400, "must be from 1 to 1000, not a number that large"),
                (float("nan"), "must be from 1 to 1000, not nan"),
                ("1,5", 'must be a number such as 1.25, not "1,5"'),
                ("125%", 'must be a number such as 1.25, not "125%"'),
                ("1e2", 'must be a number such as 1.25, not "1e2"'),
                (True, "must be a number such as 1.25, not true"),
                (None, "must be a number such as 1.25, not a NoneType"),
            ],
        )

    def test_size(self) -> None:
        """Sizes are bytes, k, m and g by 1024."""
        self.reads(
            scalars.size,
            [
                (0, 0),
                (512, 512),
                ("512", 512),
                ("16k", 16384),
                ("16K", 16384),
                ("10m", 10 * 1024**2),
                ("1g", 1024**3),
            ],
        )
        suffix = "must be a size such as 512, 16k, 10m or 1g, not "
        self.refuses(
            scalars.size,
            [
                ("10q", suffix + '"10q"'),
                ("1.5m", suffix + '"1.5m"'),
                ("", suffix + '""'),
                ("\u0661k", suffix + '"\u0661k"'),
                (-1, suffix + "-1"),
                (True, suffix + "true"),
                ("999999999999999999g", 'must be below 8 EiB, not "999999999999999999g"'),
            ],
        )

    def test_permissions(self) -> None:
        """Permission bits are four octal digits, quoted or not; a number is not guessed at."""
        self.reads(scalars.permissions, [("0660", 0o660), ("0777", 0o777)])
        suffix = 'must be four octal digits such as "0660", not '
        self.refuses(
            scalars.permissions, [(660, suffix + "660"), ("660", suffix + '"660"'), ("0680", suffix + '"0680"')]
        )

    @given(st.integers(0, 2**32), st.sampled_from(["", "k", "m", "g"]))
    def test_size_round_trip(self, count: int, unit: str) -> None:
        """A size is its digits times its unit."""
        self.assertEqual(count * 1024 ** ["", "k", "m", "g"].index(unit), scalars.size(f"{count}{unit}"))


class Durations(_Table):
    def test_durations(self) -> None:
        """Units from large to small; a bare number is seconds."""
        self.reads(
            scalars.duration,
            [
                (5, 5.0),
                (0, 0.0),
                (0.25, 0.25),
                ("5", 5.0),
                ("0.5", 0.5),
                ("500ms", 0.5),
                ("1ms", 0.001),
                ("5s", 5.0),
                ("1m", 60.0),
                ("1m30s", 90.0),
                ("1h", 3600.0),
                ("2d", 172800.0),
                ("1d2h3m4s5ms", 93784.005),
                ("1m5ms", 60.005),
            ],
        )

    def test_refused(self) -> None:
        """What is no duration, is negative or longer than a year."""
        form = "must be a duration such as 500ms, 5s or 1m30s, not "
        self.refuses(
            scalars.duration,
            [
                ("", form + '""'),
                ("5 s", form + '"5 s"'),
                ("5x", form + '"5x"'),
                ("1s1m", form + '"1s1m"'),
                ("1s1s", form + '"1s1s"'),
                ("1.5s", form + '"1.5s"'),
                ("-1", form + '"-1"'),
                ("\u0661s", form + '"\u0661s"'),
                (True, form + "true"),
                ([], form + "a list"),
                (-1, "must be from 0 to 365d, not -1"),
                ("366d", 'must be from 0 to 365d, not "366d"'),
                (10**400, "must be from 0 to 365d, not a number that large"),
                (float("nan"), "must be from 0 to 365d, not nan"),
                (float("inf"), "must be from 0 to 365d, not inf"),
            ],
        )

    @given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 999))
    def test_round_trip(self, days: int, hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
        """The parts of a duration add up, to the millisecond."""
        total = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + milliseconds
        written = f"{days}d{hours}h{minutes}m{seconds}s{milliseconds}ms"
        self.assertEqual(total, round(scalars.duration(written) * 1000))


class Addresses(_Table):
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


class Names(_Table):
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
        self.reads(scalars.service, [("http", "http"), ("_HTTP._tcp", "_http._tcp"), ("x" * 62, "x" * 62)])
        for wrong in ["a b", "_http._tcp.", ".a"]:
            self.refuses(scalars.service, [(wrong, f'"{wrong}" is no service such as http or _http._tcp')])
        for long in ["x" * 63, "a." + "x" * 64]:
            self.assertRaises(ValueError, scalars.service, long)

    def test_name_server(self) -> None:
        """IP addresses, with the port of DNS or their own."""
        self.reads(
            scalars.name_server,
            [
                ("127.0.0.53", InetAddress("127.0.0.53", 53)),
                ("127.0.0.53:5353", InetAddress("127.0.0.53", 5353)),
                ("[::1]", InetAddress("::1", 53)),
                ("[::1]:5353", InetAddress("::1", 5353)),
            ],
        )
        self.refuses(
            scalars.name_server,
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
            scalars.server_name,
            [("App.internal", "app.internal"), ("10.0.0.1", "10.0.0.1"), ("0::1", "::1")],
        )
        self.refuses(scalars.server_name, [("a:b", '"a:b" is no IP address and no host name')])

    def test_network(self) -> None:
        """Networks are CIDR, an address alone is a network of one, unix: is every Unix peer."""
        self.reads(
            scalars.network,
            [
                ("10.0.0.0/8", "10.0.0.0/8"),
                ("127.0.0.1", "127.0.0.1/32"),
                ("::1", "::1/128"),
                ("fd00::/8", "fd00::/8"),
                ("unix:", "unix:"),
            ],
        )
        self.refuses(
            scalars.network,
            [
                ("10.0.0.1/8", '"10.0.0.1/8" is an address inside a network, did you mean "10.0.0.0/8"?'),
                ("10.0.0.0/33", '"10.0.0.0/33" is no IP address and no network such as 10.0.0.0/8'),
                (10, "must be text, not 10"),
            ],
        )


class Anything(SynchronousTestCase):
    @given(ANYTHING)
    def test_only_value_error(self, value: object) -> None:
        """Whatever is written, a reader answers or raises ValueError with a text of one line."""
        readers = [read for name in scalars.__all__ if callable(read := getattr(scalars, name))]
        readers.remove(scalars.choice)
        readers.remove(scalars.whole)
        readers.remove(scalars.server_address)
        readers.remove(scalars.listen_address)
        readers.remove(scalars.server_place)
        for read in [*readers, server, listen, place, scalars.whole(0), scalars.choice("on")]:
            try:
                read(value)
            except ValueError as error:
                self.assertEqual(1, len(str(error).splitlines()))
