"""Tests of pylb.balance.queue."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb import model
from pylb.balance.lease import Lease
from pylb.balance.queue import Place, Queue


class Client:
    """Says what its header of a priority is."""

    def __init__(self, priority: bytes = b"") -> None:
        self.priority = priority

    def variable(self, name: str) -> bytes:
        assert name == "http_x_priority"
        return self.priority

    def served(self, lease: Lease) -> None:
        raise AssertionError("nobody serves here")

    def refused(self, error: Exception) -> None:
        raise AssertionError("nobody refuses here")


class QueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.looks = 0

    def queue(self, size: int = 100, priority: str = "$http_x_priority") -> Queue:
        queue = Queue(model.Queue(size=size, priority=priority))
        queue.changed = self.look
        return queue

    def look(self) -> None:
        self.looks += 1

    def join(self, queue: Queue, priority: bytes = b"") -> Place:
        return queue.join(Client(priority), 0.0)

    def test_order(self) -> None:
        """The lowest number first, then who came first; what is no number is 0."""
        queue = self.queue()
        priorities = (b"1", b"", b"-2", b"high", b"0", b"1", b"-10", b"9" * 5000, b"-" + b"9" * 5000)
        places = [self.join(queue, text) for text in priorities]
        self.assertEqual([places.index(place) for place in queue.in_order()], [8, 6, 2, 1, 3, 4, 0, 5, 7])

    def test_no_priorities(self) -> None:
        queue = self.queue(priority="")
        places = [self.join(queue, text) for text in (b"3", b"2", b"1")]
        self.assertEqual(list(queue.in_order()), places)

    def test_full(self) -> None:
        """A place that was left is free, once."""
        queue = self.queue(size=2)
        first, second = self.join(queue), self.join(queue)
        self.assertEqual((len(queue), queue.full), (2, True))
        queue.leave(first)
        queue.leave(first)
        self.assertEqual((len(queue), queue.full), (1, False))
        third = self.join(queue)
        self.assertEqual(list(queue.in_order()), [second, third])

    def test_those_who_stay(self) -> None:
        """Who has only been looked at keeps the place, before those who came later."""
        queue = self.queue()
        places = [self.join(queue) for _ in range(4)]
        for place in queue.in_order():
            if place is places[1]:
                queue.leave(place)
            if place is places[2]:
                break
        places.append(self.join(queue))
        self.assertEqual([places.index(place) for place in queue.in_order()], [0, 2, 3, 4])

    def test_leaving_while_looked_at(self) -> None:
        """Who leaves by somebody else's doing is not looked at; who comes meanwhile is."""
        queue = self.queue()
        places = [self.join(queue) for _ in range(3)]
        seen = []
        for place in queue.in_order():
            seen.append(place)
            if place is places[0]:
                queue.leave(places[1])
                places.append(self.join(queue))
        self.assertEqual(seen, [places[0], places[2], places[3]])

    def test_whoever_looks_is_told(self) -> None:
        """When the first one comes and when the last one has left."""
        queue = self.queue()
        first, second = self.join(queue), self.join(queue)
        self.assertEqual(self.looks, 1)
        queue.leave(second)
        self.assertEqual(self.looks, 1)
        queue.leave(first)
        self.assertEqual(self.looks, 2)

    def test_memory(self) -> None:
        """Those that have left in any number take no room, also behind one that stays."""
        queue = self.queue()
        stays = self.join(queue, b"-1")
        for _ in range(10_000):
            queue.leave(self.join(queue))
        self.assertLess(len(queue._entries), 100)
        self.assertEqual(list(queue.in_order()), [stays])

    @given(st.integers(0, 2**32))
    def test_as_a_sorted_list(self, seed: int) -> None:
        """Whatever comes and goes, the order is that of a list that is sorted by priority and coming."""
        random, queue, number = Random(seed), self.queue(size=10**6), 0
        expected: list[tuple[int, int, Place]] = []
        for _ in range(200):
            if random.random() < 0.6 or not expected:
                number += 1
                rank = random.randrange(-3, 4)
                expected.append((rank, number, self.join(queue, b"%d" % rank)))
                expected.sort(key=lambda entry: entry[:2])
            else:
                queue.leave(expected.pop(random.randrange(len(expected)))[2])
            self.assertEqual(len(queue), len(expected))
        self.assertEqual(list(queue.in_order()), [place for *_, place in expected])
