"""Tests of pylb.balance.methods.standby: the round robin behind the methods that guess."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods import make_method
from pylb.balance.server import Server
from pylb.model import Balance, InetAddress, ServerSpec
from tests.balance.fakes import host, make_servers, ready
from tests.balance.methods.fakes import tools


class FailureTests(SynchronousTestCase):
    """Failures cost turns there, too."""

    def test_without_a_key(self) -> None:
        """Who failed has fewer turns at requests without a key."""
        for balance in (Balance(method="hash"), Balance(method="hash", consistent=True), Balance(method="ip_hash")):
            servers = make_servers(6, 6)
            method = ready(make_method(servers, balance, tools()), servers)
            method.failed(servers[0])
            self.assertEqual("".join(host(method.choose(None, (), 0.0)) for _ in range(8)), "bbbababa")

    def test_drawn_in_vain(self) -> None:
        """And where chance finds nobody."""
        for two in (None, "least_conn", "least_time"):
            servers = make_servers(6, 6, 10**9)
            method = make_method(servers, Balance(method="random", two=two), tools())  # type: ignore[arg-type]
            ready(method, servers[:2])
            method.failed(servers[0])  # type: ignore[attr-defined]
            self.assertEqual("".join(host(method.choose(None, (), 0.0)) for _ in range(8)), "bbbababa")

    def test_addresses_of_a_name(self) -> None:
        """Where a name's addresses take turns at a key, who failed has fewer."""
        spec = ServerSpec(address=InetAddress("app.example.com", 80), weight=6)
        servers = [Server(spec, InetAddress(letter, 80)) for letter in "ab"]
        method = ready(make_method(servers, Balance(method="hash", consistent=True), tools()), servers)
        method.failed(servers[0])
        self.assertEqual("".join(host(method.choose("key", (), 0.0)) for _ in range(8)), "bbbababa")
