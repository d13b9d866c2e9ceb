"""What is known of a question, and until when?

- An answer holds for its TTL, or for `valid` if the operator says so; for a second at least and a day at most.  That there
  is nothing holds for as long as the zone says (RFC 2308), or for `valid`, but not longer than `LONGEST_NOTHING`.
- Who could not be asked is asked again after a second, two, four, ... up to `LONGEST_PAUSE`; the last answer stays
  meanwhile.
- A question that several want is asked once, and few questions are asked at once.  The servers take turns.
- What nobody holds on to any more is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, succeed
from twisted.names import dns
from twisted.python.failure import Failure

from pylb.model import InetAddress, Resolver
from pylb.proxy.dns.message import DnsError, Question, Reply
from pylb.proxy.dns.query import Query

__all__ = ["AT_ONCE", "LONGEST_NOTHING", "LONGEST_PAUSE", "SHORTEST", "Answers", "Known"]

#: Seconds.
SHORTEST = 1.0
_LONGEST = 86_400.0
LONGEST_NOTHING = 10.0
LONGEST_PAUSE = 30.0
#: Questions under way, each with a socket for each server that it was put to.
AT_ONCE = 16
_MOST_ALIASES = 8


class Known:
    """What is known of a question."""

    __slots__ = ("__weakref__", "due", "failures", "nothing", "problem", "question", "values", "waiting")

    def __init__(self, question: Question, values: tuple[Any, ...] = ()) -> None:
        self.question = question
        #: The last answer, see `pylb.proxy.dns.message.Reply`; it stays when none is to be had.
        self.values = values
        #: Why the last answer has no values.
        self.nothing = ""
        #: Why there is no answer now, and how many times in a row there was none.
        self.problem = ""
        self.failures = 0
        #: When to ask again.
        self.due = float("-inf")
        #: Who wants to hear when the answer is there.
        self.waiting: list[Deferred[None]] = []

    def answered(self, reply: Reply, seconds: float, now: float) -> None:
        self.values, self.nothing = reply.values, reply.nothing
        self.problem, self.failures = "", 0
        self.due = now + seconds

    def failed(self, problem: str, now: float) -> None:
        self.problem = problem
        self.due = now + min(SHORTEST * 2.0 ** min(self.failures, 10), LONGEST_PAUSE)
        self.failures += 1


class Answers:
    """Asks `servers` what is not known, or not any more.  `clock` reads monotonic seconds."""

    def __init__(
        self, spec: Resolver, servers: Sequence[InetAddress], reactor: Any, clock: Callable[[], float]
    ) -> None:
        self.reactor = reactor
        self.clock = clock
        #: The kinds of addresses that are wanted.
        self.kinds = [kind for kind, wanted in ((dns.A, spec.ipv4), (dns.AAAA, spec.ipv6)) if wanted]
        self._spec = spec
        self._servers = deque(dict.fromkeys(servers))
        self._known: WeakValueDictionary[Question, Known] = WeakValueDictionary()
        self._lanes = DeferredSemaphore(AT_ONCE)
        self._under_way: dict[Deferred[None], None] = {}

    def about(self, question: Question, before: tuple[Any, ...] = ()) -> Known:
        """What is known of a question; remembered for as long as somebody holds it.

        Where that is nothing, the values that somebody had `before` are its last answer, and it is time to ask.
        """
        known = self._known.get(question)
        if known is None:
            known = self._known[question] = Known(question, before)
        return known

    def refresh(self, known: Known) -> Deferred[None]:
        """Ask, if it is time to; fires when what is known is the newest to be had."""
        if self.clock() < known.due:
            return succeed(None)
        heard = Deferred[None]()
        known.waiting.append(heard)
        if len(known.waiting) == 1:
            asking = Deferred.fromCoroutine(self._ask(known))
            self._under_way[asking] = None
            asking.addBoth(self._ended, asking)
        return heard

    def stop(self) -> None:
        """Ask nothing more and forget what is still to come."""
        # The last first: what still waits for its turn must not have it when another one ends.
        for asking in reversed(list(self._under_way)):
            asking.cancel()

    async def _ask(self, known: Known) -> None:
        await self._lanes.acquire()
        try:
            reply = await self._look_up(known.question)
        except DnsError as error:
            known.failed(str(error), self.clock())
        else:
            known.answered(reply, self._holds(reply), self.clock())
        finally:
            self._lanes.release()
        waiting, known.waiting = known.waiting, []
        for each in waiting:
            each.callback(None)

    async def _look_up(self, question: Question) -> Reply:
        """The answer, at the end of all aliases."""
        ttl: int | None = None
        for _ in range(_MOST_ALIASES):
            reply = await self._put(question)
            ttl = reply.ttl if ttl is None or reply.ttl is None else min(ttl, reply.ttl)
            if not reply.alias:
                return reply._replace(ttl=ttl)
            question = Question(reply.alias, question.kind)
        raise DnsError("an alias of an alias, and so on without an end")

    def _put(self, question: Question) -> Deferred[Reply]:
        servers = tuple(self._servers)
        self._servers.rotate(-1)
        return Query(self.reactor, servers, question, self._spec.timeout).answer

    def _ended(self, result: Failure | None, asking: Deferred[None]) -> None:
        del self._under_way[asking]
        if result is not None and not isinstance(result.value, CancelledError):
            result.raiseException()

    def _holds(self, reply: Reply) -> float:
        """Seconds."""
        if self._spec.valid is not None:
            return max(SHORTEST, self._spec.valid)
        if reply.nothing:
            return LONGEST_NOTHING if reply.ttl is None else min(max(SHORTEST, reply.ttl), LONGEST_NOTHING)
        return min(max(SHORTEST, reply.ttl or 0), _LONGEST)
