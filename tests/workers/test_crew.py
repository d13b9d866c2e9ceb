"""pylb.workers.crew, with workers that are not processes."""

from __future__ import annotations

import weakref
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from pylb.balance.scoreboard import Row
from pylb.check.findings import Finding
from pylb.model import Config, PoolSpec
from pylb.proxy.dns.follow import Found, Target
from pylb.proxy.resolve import Name
from pylb.workers.crew import BEAT, LONGEST_PAUSE, MISSED, SOON, Crew, WorkerEnded, pause
from pylb.workers.estate import Estate
from pylb.workers.sessions import Item
from tests.workers.fakes import Child, Mustered

CONFIG = Config(pools={"p": PoolSpec(name="p", servers=())}, listeners={}, workers=2)
ITEM: Item = ("p", "aa", "10.0.0.1:80", 1.0, True)
FOUND = Finding("p", "10.0.0.1:80", "unhealthy", "up", 1.0)


class Crewed(Mustered):
    """A crew of two; the test is who knows what they have to know."""

    def setUp(self) -> None:
        super().setUp()
        self.heard: list[tuple[Any, list[Item]]] = []
        self.asked: list[Config] = []
        self.sessions: tuple[Item, ...] = ()
        self.found: dict[Name, Found] = {}
        estate = Estate(CONFIG)
        self.addCleanup(estate.close)
        self.crew = Crew(CONFIG, estate, self, self.names, self.reactor, self.reactor.seconds)

    def learned(self, child: Any, items: list[Item]) -> None:
        self.heard.append((child, items))

    def known(self, config: Config) -> tuple[tuple[Item, ...], tuple[Finding, ...]]:
        self.asked.append(config)
        return self.sessions, (FOUND,)

    def names(self) -> dict[Name, Found]:
        return self.found

    def begun(self) -> list[Child]:
        self.crew.begin()
        return list(self.started)

    def serving(self) -> list[Child]:
        for child in self.begun():
            child.come()
        return list(self.started)

    def told(self) -> list[list[tuple[Any, ...]]]:
        """What each was told that was ever started."""
        return [child.told for child in self.started]

    def row(self, worker: int) -> Row:
        """Of the scoreboard."""
        return self.crew.estate.board.rows[worker - 1]


class StartTests(Crewed):
    def test_start(self) -> None:
        """Nobody before the beginning, all at once then; it is ready when all serve."""
        self.assertEqual((self.started, self.reactor.getDelayedCalls()), ([], []))
        one, two = self.begun()
        one.come()
        self.assertNoResult(self.crew.ready)
        two.come()
        self.assertIsNone(self.successResultOf(self.crew.ready))
        self.assertEqual((self.numbers(), self.told()), ([1, 2], [[], []]))

    def test_what_they_know(self) -> None:
        """Each knows its number, its configuration, and what is known when it starts."""
        one, _ = self.serving()
        self.sessions = (ITEM,)
        self.found = {Name("app.test"): Found([Target("10.0.0.1")])}
        one.go()
        self.reactor.advance(0)
        self.assertEqual([(each.number, each.sessions) for each in self.starts], [(1, ()), (2, ()), (1, (ITEM,))])
        self.assertEqual([each.found for each in self.starts], [(FOUND,)] * 3)
        self.assertEqual([each.names for each in self.starts], [{}, {}, self.found])
        self.assertEqual(self.asked, [CONFIG] * 3)

    def test_one_ends_before(self) -> None:
        """It fails, once, whether others serve or not; nobody follows, and who serves then changes nothing."""
        one, two = self.begun()
        one.come()
        two.go()
        failure = self.failureResultOf(self.crew.ready, WorkerEnded)
        self.assertEqual(str(failure.value), "worker 2 ended before it served: a reason")
        one.go()
        self.reactor.advance(100)
        self.assertEqual(self.numbers(), [1, 2])

    def test_ready_no_more(self) -> None:
        """Those that come afterwards make it ready no more, and are not replaced."""
        one, two = self.begun()
        two.go()
        self.failureResultOf(self.crew.ready, WorkerEnded)
        one.come()
        one.go()
        self.reactor.advance(100)
        self.assertEqual(self.numbers(), [1, 2])

    def test_cannot_be_started(self) -> None:
        """By an error of the system it is as if it had ended."""
        self.error = 11
        self.begun()
        failure = self.failureResultOf(self.crew.ready, WorkerEnded)
        self.assertEqual(str(failure.value), "worker 1 ended before it served: it cannot be started: no more processes")

    def test_cannot_be_started_again(self) -> None:
        """A successor that cannot be started is tried again; its end, if it was there nevertheless, is no news."""
        one, _ = self.serving()
        self.error = 11
        with capturedLogs() as logs:
            one.go()
            self.reactor.advance(0)
            self.reactor.advance(0)
        self.assertIn("no more processes", formatEvent(logs[-1]))
        one.go()
        self.error = 0
        self.reactor.advance(1.0)
        self.assertEqual(self.numbers(), [1, 2, 1])


class DeathTests(Crewed):
    def test_replaced(self) -> None:
        """At once; another one serves its sockets until the successor does."""
        one, two = self.serving()
        one.go()
        self.assertEqual(two.told, [("serve", 1)])
        self.reactor.advance(0)
        self.assertEqual(self.numbers(), [1, 2, 1])
        self.started[2].come()
        self.assertEqual(two.told, [("serve", 1), ("leave", 1)])

    def go(self) -> float:
        """The worker that was started last ends; how long its successor waits, which is there then."""
        self.started[-1].go()
        [call] = self.crew._due.values()
        waits = call.getTime() - self.reactor.seconds()
        self.reactor.advance(waits)
        return round(waits, 3)

    def test_again_and_again(self) -> None:
        """The second time soon after it came it waits, and longer each time, until it has lasted."""
        self.serving()
        waits = []
        for lasted in (0.0, SOON - 0.1, 0.0, 0.0, SOON + 0.1, 0.0, 0.0):
            self.reactor.advance(lasted)
            waits.append(self.go())
            self.reactor.advance(SOON)  # however long it takes to come
            self.started[-1].come()
        self.assertEqual(waits, [0.0, 0.1, 0.2, 0.4, 0.0, 0.0, 0.1])
        self.assertEqual(self.numbers(), [1] + 8 * [2])

    def test_never_comes(self) -> None:
        """That is soon, however long it took."""
        self.serving()
        waits = []
        for _ in range(3):
            waits.append(self.go())
            self.reactor.advance(SOON)
        self.assertEqual(waits, [0.0, 0.1, 0.2])

    def test_pauses(self) -> None:
        self.assertEqual([pause(hasty) for hasty in range(5)], [0.0, 0.0, 0.1, 0.2, 0.4])
        self.assertEqual(pause(10_000), LONGEST_PAUSE)

    def test_stalled(self) -> None:
        """Who gives no sign of life is killed, who gives one is not."""
        one, two = self.serving()
        for _ in range(MISSED - 1):  # it has been looked at once
            self.row(2).heartbeat = self.reactor.seconds() + 1.0
            self.assertFalse(one.killed)
            self.reactor.advance(BEAT)
        self.assertEqual((one.killed, two.killed), (True, False))

    def test_row_is_cleared(self) -> None:
        """What a dead worker has told the others is forgotten before its successor starts."""
        one, _ = self.serving()
        self.row(1).heartbeat = self.row(2).heartbeat = 7.0
        one.go()
        self.assertEqual((self.row(1).heartbeat, self.row(2).heartbeat), (0.0, 7.0))
        self.assertEqual(self.numbers(), [1, 2])

    def test_slow_start(self) -> None:
        """Before it serves a worker may take its time."""
        self.begun()
        self.reactor.pump([BEAT] * 2 * MISSED)
        self.assertFalse(any(child.killed for child in self.started))
        self.reactor.pump([BEAT] * 60)
        self.assertTrue(all(child.killed for child in self.started))

    def test_whole_machine_stopped(self) -> None:
        """However long a time has passed since it looked, it counts as once."""
        self.serving()
        self.reactor.advance(1000 * BEAT)
        self.assertFalse(any(child.killed for child in self.started))


class WordTests(Crewed):
    def test_tell(self) -> None:
        """All hear it, those that do not serve yet, too."""
        one, _ = self.begun()
        one.come()
        self.crew.tell("found", 1, 2)
        self.assertEqual(self.told(), [[("found", 1, 2)]] * 2)

    def test_offer(self) -> None:
        """All others."""
        one, two = self.serving()
        self.crew.offer("learn", [ITEM], besides=one)
        self.assertEqual((one.told, two.told), ([], [("learn", [ITEM])]))

    def test_done(self) -> None:
        """When all have done what they were told."""
        one, two = self.serving()
        one.busy, two.busy = Deferred(), Deferred()
        done = self.crew.done()
        one.busy.callback(None)
        self.assertNoResult(done)
        two.busy.callback(None)
        self.successResultOf(done)

    def test_learned(self) -> None:
        """What one has learned is told with who it was."""
        one, _ = self.serving()
        self.crew.learned(one, [ITEM])
        self.assertEqual(self.heard, [(one, [ITEM])])


class EndTests(Crewed):
    def test_end(self) -> None:
        """All are told, nobody is killed; it is over when the last has ended, and nothing is left."""
        for word in ("retire", "stop"):
            self.setUp()
            one, two = self.serving()
            self.crew.end(word)
            self.assertEqual(self.told(), [[(word,)]] * 2)
            one.go()
            self.assertNoResult(self.crew.gone)
            two.go()
            self.successResultOf(self.crew.gone)
            self.assertEqual([child.killed for child in self.started], [False, False])
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_not_replaced(self) -> None:
        """Who ends then has no successor, and nobody takes over its sockets."""
        one, two = self.serving()
        self.crew.end("retire")
        one.go()
        self.reactor.advance(100)
        self.assertEqual((self.numbers(), two.told), ([1, 2], [("retire",)]))

    def test_successor_on_its_way(self) -> None:
        """Who does not serve yet is killed and told nothing; who was to be started is not."""
        one, two = self.serving()
        one.go()
        self.reactor.advance(0)
        successor = self.started[2]
        two.go()
        self.crew.end("retire")
        self.assertEqual((successor.killed, successor.told, two.told), (True, [], [("serve", 1)]))
        self.reactor.advance(100)
        self.assertEqual(self.numbers(), [1, 2, 1])
        self.assertNoResult(self.crew.gone)
        successor.go()
        self.successResultOf(self.crew.gone)

    def test_all_dead(self) -> None:
        """When all were to be started again it is over at once."""
        for child in self.serving():
            child.go()
        self.crew.end("stop")
        self.successResultOf(self.crew.gone)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_never_begun(self) -> None:
        """Then it is over at once, too."""
        self.crew.end("stop")
        self.successResultOf(self.crew.gone)
        self.assertEqual(self.started, [])

    def test_before_they_serve(self) -> None:
        """All are killed; what they said before changes nothing, and their end is no mistake."""
        children = self.begun()
        self.crew.end("stop")
        self.assertEqual([child.killed for child in children], [True, True])
        for child in children:
            child.come()
        self.assertNoResult(self.crew.ready)
        for child in children:
            child.go()
        self.assertNoResult(self.crew.ready)
        self.successResultOf(self.crew.gone)

    def test_retired_and_stopped(self) -> None:
        """Who retires can be told to stop, and it is over once."""
        one, two = self.serving()
        self.crew.end("retire")
        one.go()
        self.crew.end("stop")
        self.assertEqual(two.told, [("retire",), ("stop",)])
        two.go()
        self.successResultOf(self.crew.gone)
        self.crew.end("stop")

    def test_stalled_while_it_retires(self) -> None:
        """Who gives no sign of life then is killed as ever, and not replaced."""
        one, two = self.serving()
        self.crew.end("retire")
        for _ in range(MISSED):
            self.row(2).heartbeat = self.reactor.seconds() + 1.0
            self.reactor.advance(BEAT)
        self.assertEqual((one.killed, two.killed), (True, False))
        one.go()
        self.reactor.advance(100)
        self.assertEqual(self.numbers(), [1, 2])

    def test_memory(self) -> None:
        """What they told one another is forgotten with the last one, though the crew is still known."""
        memory = weakref.ref(self.row(1).leases)
        one, two = self.serving()
        self.crew.end("retire")
        one.go()
        self.assertIsNotNone(memory())
        two.go()
        self.assertIsNone(memory())

    def test_kill(self) -> None:
        """All are, also those that serve, and nobody is replaced."""
        children = self.serving()
        self.crew.kill()
        self.assertEqual([child.killed for child in children], [True, True])
        for child in children:
            child.go()
        self.successResultOf(self.crew.gone)
        self.assertEqual((self.numbers(), self.reactor.getDelayedCalls()), ([1, 2], []))
