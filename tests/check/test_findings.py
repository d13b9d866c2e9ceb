"""pylb.check.findings: what somebody else's checks find."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import Pool
from pylb.check.findings import Finding, Findings, finding
from pylb.model import PoolSpec, TcpCheck
from tests.balance.fakes import make_server


class FindingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        spec = PoolSpec(name="web", servers=(), health_check=(TcpCheck(mandatory=True),))
        self.pool = Pool(spec, [make_server("a"), make_server("b")], Clock().seconds)
        self.a, self.b = self.pool.servers

    def states(self) -> list[str]:
        return [server.status for server in self.pool.servers]

    def test_known(self) -> None:
        """What is known at the beginning holds from the beginning."""
        Findings({"web": self.pool}, [Finding("web", "a:80", "passed", "up", 1.0)])
        self.assertEqual(self.states(), ["up", "checking"])

    def test_heard(self) -> None:
        """Each piece of news changes one server, in all that checks can say."""
        findings = Findings({"web": self.pool})
        findings.hear(Finding("web", "a:80", "passed", "drain", 0.5))
        findings.hear(Finding("web", "b:80", "unhealthy", "up", 1.0))
        self.assertEqual((self.states(), self.a.share), (["draining", "unhealthy"], 0.5))
        findings.hear(Finding("web", "b:80", "passed", "up", 1.0))
        self.assertEqual(self.states(), ["draining", "up"])

    def test_who_comes_later(self) -> None:
        """A server that a name brings is what it was found to be before."""
        findings = Findings({"web": self.pool})
        findings.hear(Finding("web", "c:80", "passed", "up", 1.0))
        self.pool.replace([*self.pool.servers, make_server("c")])
        findings.follow(self.pool)
        self.assertEqual(self.states(), ["checking", "checking", "up"])

    def test_other_pools(self) -> None:
        """Nothing is known, nor kept, of pools that are not there, or have no checks: it is of another configuration."""
        unchecked = Pool(PoolSpec(name="plain", servers=()), [make_server("a")], Clock().seconds)
        findings = Findings({"plain": unchecked}, [Finding("web", "a:80", "passed", "up", 1.0)])
        findings.hear(Finding("plain", "a:80", "unhealthy", "drain", 0.5))
        findings.follow(unchecked)
        [server] = unchecked.servers
        self.assertEqual((server.status, server.share, findings._known), ("up", 1.0, {}))

    def test_other_servers(self) -> None:
        """News of a server that the pool has got meanwhile, and of one that stands there twice."""
        findings = Findings({"web": self.pool}, [Finding("web", "a:80", "passed", "up", 1.0)])
        self.pool.replace([make_server("c"), make_server("c"), self.a])
        findings.hear(Finding("web", "c:80", "unhealthy", "up", 1.0))
        findings.hear(Finding("web", "b:80", "unhealthy", "up", 1.0))
        self.assertEqual(self.states(), ["unhealthy", "unhealthy", "up"])

    def test_forgotten(self) -> None:
        """Of a server that nobody checks any more nothing is known, should it return; while it is here it stays."""
        findings = Findings({"web": self.pool}, [Finding("web", f"{name}:80", "passed", "up", 1.0) for name in "ab"])
        findings.forget("web", "a:80")
        findings.forget("web", "c:80")
        findings.follow(self.pool)
        self.assertEqual(self.states(), ["up", "up"])
        self.pool.replace([self.b])
        self.pool.replace([make_server("a"), self.b])
        findings.follow(self.pool)
        self.assertEqual(self.states(), ["checking", "up"])
        findings.hear(Finding("web", "a:80", "passed", "up", 1.0))
        self.assertEqual(self.states(), ["up", "up"])

    def test_away_for_a_while(self) -> None:
        """What is known holds of one that was not here meanwhile, but was checked all the time."""
        findings = Findings({"web": self.pool}, [Finding("web", "a:80", "passed", "up", 1.0)])
        self.pool.replace([self.b])
        findings.hear(Finding("web", "a:80", "unhealthy", "up", 1.0))
        self.pool.replace([make_server("a"), self.b])
        findings.follow(self.pool)
        self.assertEqual(self.states(), ["unhealthy", "checking"])

    def test_there_and_back(self) -> None:
        """What one process knows of a server makes the same of it in another."""
        self.pool.checked(self.a, "unhealthy", "status 500")
        self.pool.switch(self.a, "drain")
        self.pool.reweigh(self.a, 0.25)
        other = Pool(self.pool.spec, [make_server("a")], Clock().seconds)
        Findings({"web": other}, [finding(self.pool, self.a)])
        self.assertEqual(finding(other, other.servers[0]), finding(self.pool, self.a))
