"""Tests of pylb.balance.methods.hashing; where keys land is in test_vectors.py."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.methods.hashing import Hash, address_numbers, key_numbers
from pylb.balance.methods.interface import IBalancingMethod
from pylb.balance.server import Server
from tests.balance.fakes import host, make_server, make_servers, ready
from tests.balance.nginx import NginxHash


def text(request: object | None) -> bytes:
    return str(request).encode()


def make(servers: list[Server]) -> Hash:
    """A Hash of which a request is the key; its servers are all usable."""
    method: Hash = ready(Hash(servers, text, key_numbers), servers)
    return method


class NumberTests(SynchronousTestCase):
    def test_key(self) -> None:
        """15 bits of crc32 at first (of "123456789" it is 0xCBF43926), then sums."""
        first, second = islice(key_numbers(b"123456789"), 2)
        self.assertEqual((first, first < second <= first + 0x7FFF), (0x4BF4, True))

    def test_address(self) -> None:
        """Seed 89, factor 113, modulus 6271."""
        once = ((89 * 113 + 1) * 113 + 2) * 113 + 3
        twice = ((once * 113 + 1) * 113 + 2) * 113 + 3
        self.assertEqual(list(islice(address_numbers(b"\1\2\3"), 2)), [once % 6271, twice % 6271])


class HashTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """Hash is a method, and says so."""
        self.assertTrue(verifyClass(IBalancingMethod, Hash))

    def test_same_key(self) -> None:
        """A key stays where it is."""
        method = make(make_servers(1, 2, 3))
        self.assertEqual(len({method.choose("a key", (), 0.0) for _ in range(20)}), 1)

    def test_no_key(self) -> None:
        """Requests without a key take turns."""
        method = ready(Hash(servers := make_servers(5, 1, 1), lambda request: b"", key_numbers), servers)
        self.assertEqual("".join(host(method.choose(None, (), 0.0)) for _ in range(7)), "aabacaa")

    def test_only_keys_of_the_absent_move(self) -> None:
        """While a server is not usable the keys of the others stay, and its own come back with it."""
        servers = make_servers(1, 2, 3)
        method = make(servers)
        before = [method.choose(key, (), 0.0) for key in range(300)]
        method.remove(servers[1])
        during = [method.choose(key, (), 0.0) for key in range(300)]
        method.add(servers[1])
        self.assertEqual([is_ for was, is_ in zip(before, during, strict=True) if was is not servers[1]],
                         [was for was in before if was is not servers[1]])  # fmt: skip
        self.assertNotIn(servers[1], during)
        self.assertEqual([method.choose(key, (), 0.0) for key in range(300)], before)

    def test_shares(self) -> None:
        """Shares are weights."""
        method = make(make_servers(1, 2, 5))
        shares = Counter(host(method.choose(key, (), 0.0)) for key in range(8000))
        for letter, weight in (("a", 1), ("b", 2), ("c", 5)):
            self.assertApproximates(shares[letter] / 1000, weight, 0.2)

    def test_tried_of_the_other_tier(self) -> None:
        """The server that was tried may be none of this method's."""
        method = make(make_servers(1, 1))
        self.assertEqual(method.choose("key", [make_server("x")], 0.0), method.choose("key", (), 0.0))

    @given(
        st.lists(st.sampled_from((1, 2, 3, 200)), min_size=2, max_size=6),
        st.lists(st.tuples(st.integers(0, 1000), st.sets(st.integers(0, 5))), max_size=20),
    )
    @settings(deadline=None, max_examples=200)
    def test_tries(self, weights: list[int], requests: list[tuple[int, set[int]]]) -> None:
        """The servers that one request tries, one after the other, are those of nginx's loop, to the last."""
        servers = make_servers(*weights)
        method, nginx = make(servers), NginxHash(servers)
        for key, absent in requests:
            away = [server for number, server in enumerate(servers) if number in absent]
            for server in away:
                method.remove(server)
                nginx.primaries[servers.index(server)].down = True
            expected = nginx.tries(str(key).encode())
            tried: list[Server] = []
            while len(tried) + len(away) < len(servers):
                tried.append(method.choose(key, tried, 0.0))
            self.assertEqual("".join(map(host, tried)), expected)
            for server in away:
                method.add(server)
                nginx.primaries[servers.index(server)].down = False
