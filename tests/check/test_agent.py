"""pylb.check.agent: what a server's agent says."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.check.agent import read_line
from pylb.check.interface import Report, Unhealthy
from pylb.check.kinds import make_check
from pylb.model import AgentCheck, UpstreamTLS
from pylb.proxy.tls import ClientTLS
from tests.backends import dead_address
from tests.check.asking import Asking, greets, says


class LineTests(SynchronousTestCase):
    def test_healthy(self):
        """Shares and states, in any order, in capitals or not, between spaces, tabs or commas."""
        table = {
            "up": Report(),
            "UP": Report(),
            "75%": Report(share=0.75),
            "up 0%": Report(share=0.0),
            "up,\t150% # after lunch": Report(share=1.5, why="after lunch"),
            "99999%": Report(share=256.0),
            "ready": Report(switch="up"),
            "drain": Report(switch="drain"),
            "Maint": Report(switch="down"),
            "ready up 50%": Report(share=0.5, switch="up"),
            "up# 50% drain": Report(why="50% drain"),
            "maint # disk #2 is changed ": Report(switch="down", why="disk #2 is changed"),
        }
        for line, report in table.items():
            self.assertEqual(read_line(line), report, line)

    def test_passed_over(self):
        """How many connections it can stand is known from the configuration alone; the other words count."""
        table = {
            "maxconn:30": Report(),
            "up MaxConn:30": Report(),
            "maxconn:50%,drain\t10%": Report(share=0.1, switch="drain"),
        }
        for line, report in table.items():
            self.assertEqual(read_line(line), report, line)

    def test_unhealthy(self):
        """The server is not, or the agent is not to be understood; why is said."""
        table = {
            "down": "its agent says down",
            "75% fail # out of disk ": "its agent says fail: out of disk",
            "stopped#": "its agent says stopped",
            "": "its agent says nothing",
            " , #up": "its agent says nothing",
            "-5%": "its agent says nothing that is known: '-5%'",
            "5 %": "its agent says nothing that is known: '5 %'",
            "up maxconn:many": "its agent says nothing that is known: 'up maxconn:many'",
            "maxconn:30 stopped # for good": "its agent says stopped: for good",
            "HTTP/1.1 400 Bad Request": "its agent says nothing that is known: 'HTTP/1.1 400 Bad Request'",
            "x" * 100: f"its agent says nothing that is known: '{'x' * 60}'",
        }
        for line, reason in table.items():
            self.assertEqual(str(self.assertRaises(Unhealthy, read_line, line)), reason)


class AgentTests(Asking):
    async def test_line(self):
        """The first line counts, whichever way it ends."""
        for said in (b"up 50%\r\n", b"up 50%\n", b"up 50%\rdown\n", b"up 50%\ndown\n"):
            self.assertEqual(await self.verdict(AgentCheck(port=1), self.tcp(greets(said))), Report(share=0.5))

    async def test_without_an_end(self):
        """An agent that merely closes has said its line, too; one that waits has not."""
        spec = AgentCheck(send=b"?")
        self.assertEqual(await self.verdict(spec, self.tcp(says(b"drain", close=True))), Report(switch="drain"))
        self.assertEqual(await self.verdict(spec, self.tcp(says(b"drain")), 0.05), "late")

    async def test_nothing(self):
        spec = AgentCheck(send=b"?")
        self.assertEqual(await self.verdict(spec, self.tcp(says(b"", close=True))), "closed the connection")

    async def test_sends(self):
        """What it is to be sent."""
        spec = AgentCheck(send=b"web 1\n")
        self.assertEqual(await self.verdict(spec, self.tcp(says(b"up\n"))), Report())
        self.assertEqual(self.server.peers[0].heard, b"web 1\n")

    async def test_port(self):
        """The agent has a port of its own, at the server's address."""
        agent = self.tcp(greets(b"up\n"))
        target = self.target(dead_address(self), port=agent.port)
        self.assertEqual(await self.ask(make_check(AgentCheck(port=agent.port)), target), Report())

    async def test_not_there(self):
        self.assertIn("refused", await self.verdict(AgentCheck(), dead_address(self)))

    async def test_speaks_no_tls(self):
        """Also when the pool does."""
        target = self.target(self.tcp(greets(b"up\n")), ClientTLS(UpstreamTLS()))
        self.assertEqual(await self.ask(make_check(AgentCheck()), target), Report())
