"""Tests of pylb.balance.methods.random."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.methods.interface import IBalancingMethod, IWatchesTime
from pylb.balance.methods.random import RandomOne, RandomTwo, RandomTwoByTime
from pylb.balance.server import Server
from pylb.model import Balance
from tests.balance.fakes import LETTERS, host, make_server, make_servers, ready

BY_TIME = Balance(method="random", two="least_time", metric="header")


class Dice(Random):
    """Says what it was told, and then nothing but the last of it."""

    def __init__(self, *said: float) -> None:
        super().__init__()
        self.said = list(said)

    def random(self) -> float:
        return self.said.pop(0) if len(self.said) > 1 else self.said[0]


def busy(letters: str, *weights: int) -> list[Server]:
    """Servers a, b, c ... with a lease for each time that `letters` names them."""
    servers = make_servers(*weights)
    for server in servers:
        server.active = letters.count(host(server))
    return servers


class Drawing:
    """What both have in common."""

    make: Any

    def choose(self: Any, servers: list[Server], *said: float, tried: tuple[Server, ...] = ()) -> str:
        return host(ready(self.make(servers, Dice(*said)), servers).choose(None, tried, 0.0))

    def test_interface(self: Any) -> None:
        """It is a method, and says so."""
        self.assertTrue(verifyClass(IBalancingMethod, self.make))

    def test_left_out(self: Any) -> None:
        """A server that was tried, or is not usable, is not chosen, whatever is drawn."""
        servers = make_servers(1, 1, 1)
        method = ready(self.make(servers, Random(1)), servers)
        method.remove(servers[1])
        self.assertEqual({host(method.choose(None, (servers[0],), 0.0)) for _ in range(50)}, {"c"})

    def test_of_the_other_tier(self: Any) -> None:
        """The server that was tried may be none of this method's."""
        self.assertEqual(self.choose(busy("b", 1, 1), 0.0, 0.9, tried=(make_server("x"),)), "a")

    def test_in_vain(self: Any) -> None:
        """After 21 draws in vain it is the round robin's turn."""
        servers = make_servers(1, 1, 1, 1)
        dice = Dice(*[0.0] * 21, 0.9)
        method = ready(self.make(servers, dice), servers)
        method.remove(servers[0])
        self.assertEqual((host(method.choose(None, (), 0.0)), dice.said), ("b", [0.9]))

    def test_usable(self: Any) -> None:
        """Only a usable server that was not tried is chosen."""
        random = Random(1)
        for _ in range(200):
            servers = make_servers(*random.choices((1, 2, 50), k=random.randint(2, 8)))
            method = ready(self.make(servers, random), servers)
            absent = random.sample(servers, random.randrange(len(servers)))
            for server in absent:
                method.remove(server)
            left = [server for server in servers if server not in absent]
            tried = random.sample(left, random.randrange(len(left)))
            chosen = method.choose(None, tried, 0.0)
            self.assertTrue(chosen in left and chosen not in tried)


class RandomOneTests(Drawing, SynchronousTestCase):
    make = RandomOne

    def test_by_weight(self) -> None:
        """What is drawn is a place in the sum of the weights."""
        servers = make_servers(1, 2, 1)
        drawn = "".join(self.choose(servers, said) for said in (0.0, 0.24, 0.25, 0.74, 0.75, 1 - 2**-53))
        self.assertEqual(drawn, "aabbcc")

    def test_drawn_again(self) -> None:
        """Twenty draws in vain are put up with."""
        servers = make_servers(1, 1)
        self.assertEqual(self.choose(servers, *[0.0] * 20, 0.9, tried=(servers[0],)), "b")

    def test_shares(self) -> None:
        """Shares are weights."""
        servers = make_servers(1, 2, 5)
        method = ready(RandomOne(servers, Random(1)), servers)
        shares = Counter(host(method.choose(None, (), 0.0)) for _ in range(8000))
        for letter, weight in zip(LETTERS, (1, 2, 5), strict=False):
            self.assertApproximates(shares[letter] / 1000, weight, 0.2)


class RandomTwoTests(Drawing, SynchronousTestCase):
    make = RandomTwo

    def test_fewer(self) -> None:
        """The one with fewer leases wins, drawn first or second; the third is not asked."""
        servers = busy("aab", 1, 1, 1)
        self.assertEqual((self.choose(servers, 0.0, 0.5), self.choose(servers, 0.5, 0.0)), ("b", "b"))

    def test_for_its_weight(self) -> None:
        """Leases count for the weight: two of weight three are less than one of weight one."""
        servers = busy("aab", 3, 1)
        self.assertEqual((self.choose(servers, 0.0, 0.9), self.choose(servers, 0.9, 0.0)), ("a", "a"))

    def test_level(self) -> None:
        """Of two that are level the one drawn second wins, as in nginx."""
        servers = busy("aab", 2, 1)
        self.assertEqual((self.choose(servers, 0.0, 0.9), self.choose(servers, 0.9, 0.0)), ("b", "a"))

    def test_different(self) -> None:
        """The same server twice are not two."""
        self.assertEqual(self.choose(busy("a", 1, 1), *[0.0] * 21, 0.9), "b")

    def test_no_second(self) -> None:
        """With one usable server there is no second, and round robin decides."""
        self.assertEqual(self.choose(make_servers(1), 0.5), "a")

    def test_spreads(self) -> None:
        """Leases that stay are spread far more evenly than by chance."""
        servers = make_servers(*[1] * 8)
        method = ready(RandomTwo(servers, Random(1)), servers)
        for _ in range(800):
            method.choose(None, (), 0.0).active += 1
        self.assertLess(max(server.active for server in servers) - min(server.active for server in servers), 6)


class RandomTwoByTimeTests(Drawing, SynchronousTestCase):
    @staticmethod
    def make(servers: list[Server], random: Random) -> RandomTwoByTime:
        return RandomTwoByTime(servers, random, BY_TIME)

    def timed(self, servers: list[Server], *milliseconds: int, now: float = 0.0) -> str:
        """Who wins of the first two, drawn in either order."""
        winners = ""
        for said in ((0.0, 0.9), (0.9, 0.0)):
            method = ready(RandomTwoByTime(servers, Dice(*said), BY_TIME), servers)
            for server, each in zip(servers, milliseconds, strict=True):
                method.paces[server].chosen(0.0)
                method.measured(server, each / 1000, 0.0)
            winners += host(method.choose(None, (), now))
        return winners

    def test_interface(self) -> None:
        """It is a method that watches time, and says so."""
        self.assertTrue(verifyClass(IWatchesTime, RandomTwoByTime))

    def test_quicker(self) -> None:
        """The quicker of the two wins, by steps of 20 ms; of two that are level the one drawn second."""
        self.assertEqual((self.timed(busy("", 1, 1), 60, 79), self.timed(busy("", 1, 1), 59, 60)), ("ba", "aa"))

    def test_load_and_weight(self) -> None:
        """Leases and weights count as in least_time."""
        servers = busy("ab", 3, 2)
        self.assertEqual((self.timed(servers, 50, 30), self.timed(servers, 70, 30)), ("ba", "bb"))

    def test_chance(self) -> None:
        """Whoever was not chosen for long is thought quicker, once."""
        servers = busy("", 1, 1)
        self.assertEqual((self.timed(servers, 60, 30, now=10.0), self.timed(servers, 60, 5, now=33.0)), ("bb", "ba"))
        method = ready(RandomTwoByTime(servers, Dice(0.9, 0.0), BY_TIME), servers)
        for server in servers:
            method.measured(server, 0.06, 0.0)
        method.choose(None, (), 33.0)
        self.assertEqual([method.paces[server].milliseconds(33.0) for server in servers], [80, 20])
        servers[1].health.failed(0, 32.0)
        method.failed(servers[1])
        self.assertEqual(method.paces[servers[1]].milliseconds(33.0), 80)

    def test_kept(self) -> None:
        """When servers come and go what is known of the others stays known."""
        servers = busy("", 1, 1)
        before = RandomTwoByTime(servers[:1], Random(1), BY_TIME)
        before.measured(servers[0], 0.5, 0.0)
        after = RandomTwoByTime(servers, Random(1), BY_TIME, before)
        self.assertEqual([after.paces[server].average for server in servers], [500, 0])
