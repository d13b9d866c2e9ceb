"""Tests of pylb.balance.server."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.server import Server
from pylb.model import InetAddress, UnixAddress
from tests.balance.fakes import make_server, server_spec


class AddressTests(SynchronousTestCase):
    def test_as_written(self) -> None:
        """A server is named after its address, as it stands in the log."""
        server = make_server("10.0.0.1")
        self.assertEqual((server.name, server.address), ("10.0.0.1:80", InetAddress("10.0.0.1", 80)))

    def test_one_of_a_name(self) -> None:
        """A server that was found by its host name has an address of its own and the name's spec."""
        spec = server_spec("app.example.com")
        server = Server(spec, InetAddress("10.0.0.9", 80))
        self.assertEqual((server.name, server.spec), ("10.0.0.9:80", spec))

    def test_unix(self) -> None:
        """The address may be of another kind than the spec's."""
        self.assertEqual(Server(server_spec("a"), UnixAddress("/run/a.sock")).name, "unix:/run/a.sock")

    def test_health_as_specified(self) -> None:
        """max_fails and fail_timeout are those of the spec."""
        health = make_server("a", max_fails=4, fail_timeout=3.0).health
        self.assertEqual((health.max_fails, health.fail_timeout), (4, 3.0))

    def test_weight(self) -> None:
        """The weight is that of the spec."""
        self.assertEqual(make_server("a", 7).weight, 7)


class AvailableTests(SynchronousTestCase):
    def test_up(self) -> None:
        """A fresh server can be used."""
        self.assertTrue(make_server("a").available(0.0))

    def test_down_in_the_spec(self) -> None:
        """One that the operator marked down cannot."""
        self.assertFalse(make_server("a", down=True).available(0.0))

    def test_down_because_its_name_was_not_found(self) -> None:
        """Nor can one whose name has no address."""
        self.assertFalse(Server(server_spec("app.example.com"), missing=True).available(0.0))

    def test_full(self) -> None:
        """max_conns leases fill a server, and one less does not."""
        server = make_server("a", max_conns=2)
        seen = []
        for server.active in (0, 1, 2, 3):
            seen.append(server.available(0.0))
        self.assertEqual(seen, [True, True, False, False])

    def test_no_limit(self) -> None:
        """max_conns 0 is no limit."""
        server = make_server("a", max_conns=0)
        server.active = 1_000_000
        self.assertEqual((server.full, server.available(0.0)), (False, True))

    def test_ejected(self) -> None:
        """An ejected server can be used after its pause, not before."""
        server = make_server("a", fail_timeout=10.0)
        server.health.failed(0, 0.0)
        self.assertEqual([server.available(now) for now in (0.0, 10.0, 10.5)], [False, False, True])

    def test_after_the_pause_the_other_reasons_hold(self) -> None:
        """The end of the pause does not make a server usable that is full."""
        server = make_server("a", max_conns=1)
        server.health.failed(0, 0.0)
        server.active = 1
        self.assertFalse(server.available(11.0))

    def test_unhealthy(self) -> None:
        """Nor can one that active checks have found wrong, or have not seen yet; not even for those that belong to it."""
        server = make_server("a")
        for server.checked in ("checking", "unhealthy"):
            self.assertEqual([server.available(0.0, bound) for bound in (False, True)], [False, False])
        server.checked = "passed"
        self.assertTrue(server.available(0.0))

    def test_drains(self) -> None:
        """One that drains, or counts for nothing, can be used by those that belong to it."""
        for server in (make_server("a", drain=True), make_server("a")):
            server.share = 0.0
            self.assertEqual([server.available(0.0, bound) for bound in (False, True)], [False, True])

    def test_down_and_of_no_share(self) -> None:
        """What is down does not drain."""
        server = make_server("a", down=True)
        server.share = 0.0
        self.assertEqual((server.drains, server.available(0.0, bound=True)), (False, False))


class StatusTests(SynchronousTestCase):
    """The six words of nginx's API (ngx_http_api_module, "state" of a peer)."""

    def test_each(self) -> None:
        """What waiting does not change comes first, then what checks say, then what clients found out."""
        server = make_server("a")
        seen = [server.status]
        server.share = 0.0
        seen.append(server.status)
        server.health.failed(0, 0.0)
        seen.append(server.status)
        for server.checked in ("checking", "unhealthy"):
            seen.append(server.status)
        server.switch = "down"
        seen.append(server.status)
        self.assertEqual(seen, ["up", "draining", "unavail", "checking", "unhealthy", "down"])

    def test_not_found(self) -> None:
        """A name without an address is down."""
        self.assertEqual(Server(server_spec("app.example.com"), missing=True).status, "down")

    def test_full(self) -> None:
        """A server that is full is up: it serves."""
        server = make_server("a", max_conns=1)
        server.active = 1
        self.assertEqual(server.status, "up")

    def test_after_the_pause(self) -> None:
        """Unavailable until somebody has succeeded, not only while the pause lasts."""
        server = make_server("a", fail_timeout=1.0)
        server.health.failed(0, 0.0)
        self.assertEqual((server.available(2.0), server.status), (True, "unavail"))


class WordsTests(SynchronousTestCase):
    def ejected(self, **asked: int | bool) -> Server:
        server = make_server("a", **asked)
        server.health.failed(0, 0.0)
        return server

    def test_up(self) -> None:
        """A usable server is up."""
        self.assertEqual(make_server("a").state(0.0), "up")

    def test_down(self) -> None:
        """Down is said before anything else, because waiting does not help."""
        self.assertEqual(self.ejected(down=True).state(0.0), "down")

    def test_checked(self) -> None:
        """What checks say is said before what clients found out."""
        server = self.ejected()
        for server.checked in ("checking", "unhealthy"):
            self.assertEqual(
                (server.state(0.0), repr(server)), (server.checked, f"<Server a:80 {server.checked}, 0 active>")
            )

    def test_full(self) -> None:
        """A server without a free place is full."""
        server = make_server("a", max_conns=1)
        server.active = 1
        self.assertEqual(server.state(0.0), "full")

    def test_ejected(self) -> None:
        """An ejected server says for how long, while there is something left."""
        server = self.ejected()
        self.assertEqual([server.state(now) for now in (2.0, 9.25, 10.0)], ["ejected 8s", "ejected 1s", "ejected"])

    def test_ejected_and_full(self) -> None:
        """Ejected is said before full: the fuller reason."""
        server = self.ejected(max_conns=1)
        server.active = 1
        self.assertEqual(server.state(2.0), "ejected 8s")

    def test_trial_abandoned(self) -> None:
        """A server that waits for its next trial is still ejected."""
        server = self.ejected()
        server.health.trial_started(11.0)
        server.health.abandoned(server.health.epoch, 11.0)
        self.assertEqual(server.state(11.0), "ejected")

    def test_repr(self) -> None:
        """The repr tells a server's fortune at a glance."""
        busy = make_server("a")
        busy.active = 3
        self.assertEqual(
            [repr(server) for server in (busy, self.ejected(), self.ejected(down=True))],
            ["<Server a:80 3 active>", "<Server a:80 ejected, 0 active>", "<Server a:80 down, 0 active>"],
        )
