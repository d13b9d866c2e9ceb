"""Tests of pylb.balance.methods.turns; test_round_robin.py has those of the order while nobody fails."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods.round_robin import RoundRobin
from tests.balance.fakes import LETTERS, host, make_server
from tests.balance.nginx import Nginx


class Round:
    """A RoundRobin over servers a, b, c ..., all of them usable at first."""

    def __init__(self, *asked: dict[str, Any]) -> None:
        self.servers = {letter: make_server(letter, **each) for letter, each in zip(LETTERS, asked, strict=False)}
        self.method = RoundRobin(list(self.servers.values()))
        for server in self.servers.values():
            self.method.add(server)

    def take(self, count: int, tried: str = "") -> str:
        left_out = [self.servers[letter] for letter in tried]
        return "".join(host(self.method.choose(None, left_out, 0.0)) for _ in range(count))

    def fail(self, letters: str) -> None:
        for letter in letters:
            self.method.failed(self.servers[letter])

    def gains(self) -> list[int]:
        return [seat.group.gain if seat.item else seat.gain for seat in self.method._seat_of.values()]


class FailureTests(SynchronousTestCase):
    """A failure costs turns, and they come back."""

    def test_fewer_turns(self) -> None:
        """Who failed begins with nothing and gains one more each round."""
        ring = Round({"weight": 6}, {"weight": 6})
        ring.fail("a")
        self.assertEqual(ring.take(8), "bbbababa")

    def test_a_part(self) -> None:
        """A failure costs the weight divided by max_fails, rounded down, and never more than there is."""
        ring = Round({"weight": 7, "max_fails": 2}, {"weight": 7, "max_fails": 3}, {"weight": 1, "max_fails": 2})
        gains = []
        for _ in range(4):
            ring.fail("abc")
            gains.append(ring.gains())
        self.assertEqual(gains, [[4, 5, 1], [1, 3, 1], [0, 1, 1], [0, 0, 1]])

    def test_never_ejected(self) -> None:
        """Where failures do not count they cost nothing."""
        ring = Round({"weight": 5, "max_fails": 0})
        ring.fail("a")
        self.assertEqual(ring.gains(), [5])

    def test_slow_start(self) -> None:
        """Nor where the server starts slowly, or its share would shrink again when that is over."""
        ring = Round({"weight": 5, "slow_start": 10.0})
        ring.fail("a")
        self.assertEqual(ring.gains(), [5])

    def test_back(self) -> None:
        """Each round gives back 1, up to the weight."""
        ring = Round({"weight": 3}, {"weight": 9})
        ring.fail("a")
        gains = [(ring.take(1), ring.gains()[0])[1] for _ in range(5)]
        self.assertEqual(gains, [1, 2, 3, 3, 3])

    def test_out(self) -> None:
        """Who is out, or was tried before, does not take part and gets nothing back; and keeps what it has."""
        ring = Round({"weight": 6}, {"weight": 6})
        ring.fail("a")
        ring.take(3, tried="a")
        ring.method.remove(ring.servers["a"])
        ring.take(3)
        self.assertEqual(ring.gains(), [0, 6])
        ring.method.add(ring.servers["a"])
        self.assertEqual((ring.take(1), ring.gains()), ("b", [1, 6]))

    def test_failing_while_out(self) -> None:
        """Whoever failed while it was out has fewer turns when it is back."""
        ring = Round({"weight": 6}, {"weight": 6})
        ring.method.remove(ring.servers["a"])
        ring.fail("a")
        ring.method.add(ring.servers["a"])
        self.assertEqual(ring.take(8), "bbbababa")

    @given(
        st.lists(
            st.fixed_dictionaries({"weight": st.integers(1, 9), "max_fails": st.integers(0, 4)}), min_size=1, max_size=8
        ),
        st.lists(
            st.tuples(st.sampled_from(("toggle", "take", "take", "retry", "fail", "fail")), st.integers(0, 7)),
            max_size=150,
        ),
    )
    @settings(deadline=None, max_examples=200)
    def test_nginx(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """Whoever fails, comes, goes and is left out, the order is the one of nginx's loop over all servers."""
        ring = Round(*asked)
        nginx = Nginx(list(ring.servers.values()))
        expected, chosen = "", ""
        for what, which in steps:
            peer = nginx.primaries[which % len(asked)]
            tried = peer.name if what == "retry" else ""
            if what == "toggle":
                (ring.method.add if peer.down else ring.method.remove)(ring.servers[peer.name])
                peer.down = not peer.down
            elif what == "fail":
                peer.fail()
                ring.fail(peer.name)
            elif picked := nginx.get(tried, 0.0):
                expected += picked.name
                chosen += ring.take(1, tried)
        self.assertEqual(chosen, expected)


class BoundTests(SynchronousTestCase):
    def test_sweeping_keeps_the_order(self) -> None:
        """However many come and go in whatever order, what is swept away was out of date."""
        random = Random(1)
        servers = [make_server(f"host{number}") for number in range(60)]
        method, nginx = RoundRobin(servers), Nginx(servers)
        for server, peer in zip(servers, nginx.primaries, strict=True):
            method.add(server)
            peer.current = method._seat_of[server].key = random.randrange(-30, 30)
            method.remove(server)
            method.add(server)
        for _ in range(300):
            for number in random.choices(range(60), k=20):
                peer = nginx.primaries[number]
                (method.add if peer.down else method.remove)(servers[number])
                peer.down = not peer.down
            picked = nginx.get("", 0.0)
            self.assertEqual(host(method.choose(None, (), 0.0)), picked and picked.name)

    def test_groups(self) -> None:
        """When all have their weight again nothing is left of what they gained meanwhile."""
        ring = Round({"weight": 50}, {"weight": 60}, {"weight": 60})
        for _ in range(5):
            ring.fail("abc")
            ring.take(70)
        self.assertEqual(sorted(ring.method._turns.groups), [(50, 0), (60, 0)])
        self.assertFalse(ring.method._turns.rising)
