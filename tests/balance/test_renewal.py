"""pylb.balance.renewal: who is the same, and what stays of whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.renewal import renew, same
from pylb.balance.server import Server
from pylb.model import AgentCheck, InetAddress, Outlier, PoolSpec, TcpCheck
from tests.balance.fakes import make_server, server_spec

#: Pools without checks, and with two different ones.
PLAIN = PoolSpec(name="web", servers=())
CHECKED = replace(PLAIN, health_check=(TcpCheck(),))
AGENT = replace(PLAIN, health_check=(AgentCheck(),))
SLIDING = replace(PLAIN, failure_window="sliding")
OUTLIER = replace(PLAIN, outlier=Outlier(consecutive_errors=5, base_ejection_time=30.0))


class SameTests(SynchronousTestCase):
    def known(self, present: str, wanted: str) -> list[int | None]:
        """For each of the wanted, as which of the present it is known."""
        here, asked = ([make_server(letter) for letter in letters] for letters in (present, wanted))
        stay = same(here, asked)
        return [here.index(stay[server]) if server in stay else None for server in asked]

    def test_order(self) -> None:
        """It is the address that counts, not the place."""
        self.assertEqual(self.known("abc", "cab"), [2, 0, 1])

    def test_come_and_gone(self) -> None:
        self.assertEqual(self.known("ab", "bc"), [1, None])
        self.assertEqual((self.known("", "a"), self.known("a", "")), ([None], []))

    def test_twice(self) -> None:
        """Where an address stands twice the first is the first, and nobody is two."""
        self.assertEqual(self.known("aba", "aa"), [0, 2])
        self.assertEqual(self.known("a", "aa"), [0, None])
        self.assertEqual(self.known("aa", "ba"), [None, 0])

    def test_port(self) -> None:
        """Another port is another server."""
        other = Server(replace(server_spec("a"), address=InetAddress("a", 81)))
        self.assertEqual(same([make_server("a")], [other]), {})

    def test_found(self) -> None:
        """What a name stands for goes by its own address, and not by that of its line."""
        found = Server(server_spec("app.test"), InetAddress("10.0.0.1", 80))
        wanted = Server(server_spec("10.0.0.1"))
        missing = Server(server_spec("app.test"), missing=True)
        self.assertEqual(same([found], [missing, wanted]), {wanted: found})


class Renewing(SynchronousTestCase):
    def renew(
        self, server: Server, before: PoolSpec = PLAIN, spec: PoolSpec = PLAIN, *, missing: bool = False, **asked: Any
    ) -> None:
        """Let it be as is `asked`, which is the same as before where nothing is said."""
        renew(server, Server(replace(server.spec, **asked), missing=missing), before, spec)


class RenewTests(Renewing):
    def test_kept(self) -> None:
        """Leases, counts and whom others had to stand in for are of the server, whatever is asked of it."""
        server = make_server("a", max_fails=3)
        server.active, server.picked, server.failures, server.lost = 2, 7, 3, {True: 1}
        server.health.failed(0, 1.0)
        self.renew(server, weight=5, max_conns=1)
        self.assertEqual((server.active, server.picked, server.failures, server.lost), (2, 7, 3, {True: 1}))
        self.assertEqual((server.health.fails, server.spec.weight, server.spec.max_conns), (1, 5, 1))

    def test_missing(self) -> None:
        """Whether it has been found is as it is now."""
        server = make_server("a")
        self.renew(server, missing=True)
        self.assertTrue(server.missing)
        self.renew(server)
        self.assertFalse(server.missing)


class SwitchTests(Renewing):
    def switched(self, spec: PoolSpec = PLAIN, before: PoolSpec = PLAIN, **asked: Any) -> str:
        """What becomes of one that the operator lets drain."""
        server = make_server("a")
        server.switch, server.share = "drain", 0.5
        self.renew(server, before, spec, **asked)
        return f"{server.switch} {server.share}"

    def test_kept(self) -> None:
        """A switch is the operator's, and stays while the file says what it said."""
        self.assertEqual(self.switched(weight=5), "drain 0.5")

    def test_said_otherwise(self) -> None:
        """The file counts if it says something else than before, also that a server is to serve again."""
        self.assertEqual(self.switched(down=True), "down 0.5")
        server = make_server("a", drain=True)
        server.switch = "down"
        self.renew(server, drain=False)
        self.assertEqual(server.switch, "up")

    def test_written(self) -> None:
        """What counts is the file, whatever the server that was made for it has become meanwhile."""
        server = make_server("a")
        wanted = make_server("a", down=True)
        wanted.switch = "up"
        renew(server, wanted, PLAIN, PLAIN)
        self.assertEqual(server.switch, "down")

    def test_other_checks(self) -> None:
        """What an agent has said is forgotten with it; other settings, or the same checks, are no reason."""
        self.assertEqual(self.switched(AGENT, AGENT), "drain 0.5")
        for before, spec in ((AGENT, CHECKED), (AGENT, PLAIN), (PLAIN, AGENT)):
            self.assertEqual(self.switched(spec, before), "up 1.0")
        server = make_server("a", down=True)
        server.switch = "up"
        self.renew(server, AGENT, PLAIN)
        self.assertEqual(server.switch, "down")


class CheckedTests(Renewing):
    def test_checks(self) -> None:
        """What checks said stays while there are any; without them everybody has passed."""
        for before, spec, status in (
            (CHECKED, CHECKED, "unhealthy"),
            (CHECKED, AGENT, "unhealthy"),
            (CHECKED, PLAIN, "up"),
        ):
            server = make_server("a")
            server.checked = "unhealthy"
            self.renew(server, before, spec)
            self.assertEqual(server.status, status)


class SlowStartTests(Renewing):
    def warmth(self, slow_start: float) -> float:
        """After 5 seconds, where 10 were asked for."""
        server = make_server("a", slow_start=10.0)
        server.warming_since = 0.0
        self.renew(server, slow_start=slow_start)
        return server.warmth(5.0)

    def test_changed(self) -> None:
        """A slow start that is under way goes on, by the new length; or ends if there is none."""
        self.assertEqual([self.warmth(seconds) for seconds in (10.0, 20.0, 0.0)], [0.5, 0.25, 1.0])


class HealthTests(Renewing):
    def ejected(self, **asked: Any) -> Server:
        server = make_server("a", **asked)
        for _ in range(server.spec.max_fails):
            server.health.failed(0, 0.0)
        self.assertTrue(server.health.ejected)
        return server

    def test_ejected(self) -> None:
        """It stays out, until the moment that was said, whatever is asked from then on."""
        for asked in ({}, {"max_fails": 5}, {"max_fails": 1}, {"fail_timeout": 60.0}):
            server = self.ejected(max_fails=2)
            self.renew(server, **asked)
            self.assertEqual(server.health.retry_at, 10.0)

    def test_limits(self) -> None:
        """What failures are measured by is what the file says now."""
        server = make_server("a", max_fails=3, fail_timeout=8.0)
        self.renew(server, max_fails=2, fail_timeout=20.0)
        health = server.health
        self.assertEqual((health.max_fails, health.fail_timeout, health.pause), (2, 20.0, 20.0))

    def test_spared(self) -> None:
        """Whom nothing ejects, as a lone one, that stays for the pool to say."""
        server = make_server("a")
        server.health.max_fails = 0
        self.renew(server, max_fails=4)
        self.assertEqual(server.health.max_fails, 0)
        server = self.ejected()
        self.renew(server, max_fails=0)
        self.assertEqual(server.health.max_fails, 1)

    def test_outlier(self) -> None:
        """The errors in a row of outlier detection take the place of max_fails, and its pause is its own affair."""
        server = make_server("a")
        server.health.max_fails, server.health.in_a_row, server.health.pause = 5, True, 90.0
        self.renew(server, OUTLIER, OUTLIER)
        self.assertEqual((server.health.max_fails, server.health.pause), (5, 90.0))
        self.renew(server, OUTLIER, PLAIN)
        health = server.health
        self.assertEqual((health.max_fails, health.in_a_row, health.pause), (1, False, 10.0))

    def test_window(self) -> None:
        """Moments are kept only while the window slides."""
        server = make_server("a", max_fails=3)
        server.health.slide(3)
        server.health.failed(0, 1.0)
        self.renew(server, SLIDING, SLIDING)
        self.assertEqual(list(server.health.recent or ()), [1.0])
        self.renew(server, SLIDING, PLAIN)
        self.assertIsNone(server.health.recent)
