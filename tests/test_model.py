"""Tests of pylb.model."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

from twisted.trial.unittest import SynchronousTestCase

from pylb.model import (
    AccessLog,
    Config,
    HttpListener,
    InetAddress,
    PoolSpec,
    Route,
    ServerSpec,
    TcpListener,
    UdpListener,
    UnixAddress,
)
from pylb.model.changes import changes

WEB = InetAddress("10.0.0.1", 80)


def asked_for(port: int = 80, origin: str = "") -> Config:
    """A whole configuration, made anew at each call."""
    return Config(
        pools={"web": PoolSpec(name="web", servers=(ServerSpec(address=InetAddress("10.0.0.1", port)),))},
        listeners={
            "in": TcpListener(name="in", listen=(InetAddress("0.0.0.0", 8080),), pool="web", origin=origin),
        },
        access_log=AccessLog(),
    )


class AddressTests(SynchronousTestCase):
    def test_ipv4_as_written_in_the_log(self) -> None:
        """An IPv4 address is written as host:port."""
        self.assertEqual(str(WEB), "10.0.0.1:80")

    def test_ipv6_as_written_in_the_log(self) -> None:
        """An IPv6 address gets its brackets, so that the port can be told from it."""
        self.assertEqual(str(InetAddress("::1", 80)), "[::1]:80")

    def test_name_as_written_in_the_log(self) -> None:
        """A host name is written as host:port."""
        self.assertEqual(str(InetAddress("app.example.com", 80)), "app.example.com:80")

    def test_without_a_port_as_written_in_the_log(self) -> None:
        """The port that is not known yet, of a service that is looked up, is left out."""
        self.assertEqual(str(InetAddress("app.example.com", 0)), "app.example.com")

    def test_unix_as_written_in_the_log(self) -> None:
        """A Unix socket is written as nginx writes it."""
        self.assertEqual(str(UnixAddress("/run/app.sock")), "unix:/run/app.sock")

    def test_what_needs_no_look_up(self) -> None:
        """Addresses are literals, with a zone too; names, and what only resembles an address, must be looked up."""
        hosts = ("127.0.0.1", "::1", "fe80::1%eth0", "localhost", "1.2.3", "")
        self.assertEqual(
            {host: InetAddress(host, 80).is_literal for host in hosts},
            {"127.0.0.1": True, "::1": True, "fe80::1%eth0": True, "localhost": False, "1.2.3": False, "": False},
        )

    def test_a_path_needs_no_look_up(self) -> None:
        """A Unix socket is where it is written."""
        self.assertTrue(UnixAddress("/run/app.sock").is_literal)


class ValueTests(SynchronousTestCase):
    def test_same_wish_is_equal(self) -> None:
        """Two configurations that ask for the same thing are equal."""
        self.assertEqual(asked_for(), asked_for())

    def test_another_wish_differs(self) -> None:
        """A difference deep inside is a difference of the whole."""
        self.assertNotEqual(asked_for(port=80), asked_for(port=81))

    def test_where_it_is_written_does_not_count(self) -> None:
        """A listener that moved to another line of the file is the same listener."""
        self.assertEqual(asked_for(origin="lb.yaml:3:1"), asked_for(origin="lb.yaml:9:1"))

    def test_where_it_is_written_is_not_shown(self) -> None:
        """The repr of a listener shows its value, of which the origin is no part."""
        self.assertNotIn("lb.yaml", repr(asked_for(origin="lb.yaml:3:1")))

    def test_unknown_place_in_the_file_by_default(self) -> None:
        """What was not read from a file has no origin."""
        self.assertEqual(UdpListener(name="in", listen=(WEB,), pool="web").origin, "")

    def test_frozen(self) -> None:
        """What was asked for cannot be changed behind the back of those who compare it."""
        with self.assertRaises(FrozenInstanceError):
            asked_for().pools["web"].name = "other"  # type: ignore[misc]

    def test_equal_servers_are_one_key(self) -> None:
        """Server specs can be looked up by value."""
        spec = ServerSpec(address=WEB)
        self.assertEqual({spec: 1}[replace(spec, weight=1)], 1)


class DefaultsTests(SynchronousTestCase):
    """The defaults here are those of the configuration file."""

    def test_server(self) -> None:
        """As in nginx: weight 1, one failure ejects for 10 seconds, no limit of connections."""
        self.assertEqual(
            ServerSpec(address=WEB),
            ServerSpec(address=WEB, weight=1, backup=False, down=False, max_fails=1, fail_timeout=10.0, max_conns=0),
        )

    def test_protocols(self) -> None:
        """Every kind of listener says which protocol it speaks."""
        listeners = (
            TcpListener(name="a", listen=(WEB,), pool="web"),
            UdpListener(name="b", listen=(WEB,), pool="web"),
            HttpListener(name="c", listen=(WEB,), routes=(Route(pool="web", path="/"),)),
        )
        self.assertEqual([listener.protocol for listener in listeners], ["tcp", "udp", "http"])

    def test_retries(self) -> None:
        """Streams are retried while connecting, HTTP after an error or a timeout, at every server once."""
        tcp = TcpListener(name="a", listen=(WEB,), pool="web")
        http = HttpListener(name="c", listen=(WEB,), routes=())
        self.assertEqual(
            (tcp.next_upstream, tcp.next_upstream_tries, http.next_upstream, http.next_upstream_tries),
            (True, 0, frozenset({"error", "timeout"}), 0),
        )


class ChangesTests(SynchronousTestCase):
    def test_none(self) -> None:
        """The same words are the same, wherever in the file they stand."""
        self.assertEqual(list(changes(asked_for(origin="lb.yaml:3:5"), asked_for(origin="lb.yaml:7:5"))), [])

    def test_parts(self) -> None:
        """Pools and listeners by their names: changed, removed, added; other keys by theirs."""
        before, after = asked_for(), asked_for(81)
        listener = next(iter(after.listeners.values()))
        pool = PoolSpec(name="new", servers=())
        after = replace(
            after,
            pools={"new": pool, **after.pools},
            listeners={"other": listener},
            access_log=AccessLog(path="/x"),
            workers=before.workers + 1,
        )
        gone = [f"listeners.{name} removed" for name in before.listeners]
        self.assertEqual(
            list(changes(before, after)),
            [
                "pools.web changed",
                "pools.new added",
                *gone,
                "listeners.other added",
                "workers changed",
                "access_log changed",
            ],
        )
