"""Which servers does a name, or a service, stand for, from now on?

- A name stands for its A and AAAA records, a service for the addresses of the targets of its SRV records (RFC 2782).
- What has become old is asked again when the first part of it has, and a little later, so that many names are not asked at
  once.
- A part that cannot be asked counts with its last answer.  If all that is left is nothing, the targets of before stay:
  DNS that lost a zone must not take down what serves.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.names import dns

from pylb.model import InetAddress
from pylb.proxy.dns.answers import SHORTEST, Answers, Known
from pylb.proxy.dns.message import Question, Service

__all__ = ["NEVER", "Follower", "Found", "Target"]

#: By what part of its time an answer is asked for later, at most.
_JITTER = 0.1


class Target(NamedTuple):
    """One address that a name stands for; of a service also what its SRV record says."""

    host: str
    #: 0 is the one that the operator gave.
    port: int = 0
    priority: int = 0
    weight: int = 1

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"{InetAddress(self.host, self.port)} (priority {self.priority}, weight {self.weight})"


class Found(NamedTuple):
    """What a name was found to stand for: enough to go on from there elsewhere."""

    targets: Sequence[Target] = ()
    #: What they are made of, question by question, if it was asked for in DNS.
    answers: tuple[tuple[Question, tuple[Any, ...]], ...] = ()


#: It was not found yet.
NEVER: Final = Found()


class Follower:
    """Follows one name, or one service, from what was found `before` on.

    `heard` is told after each look: the targets, sorted, none if there never were any; and why they are not the newest,
    if they are not.
    """

    def __init__(
        self,
        name: str,
        is_service: bool,
        answers: Answers,
        random: Callable[[], float],
        heard: Callable[[Sequence[Target], str], None],
        before: Found = NEVER,
    ) -> None:
        self._name = name
        self._is_service = is_service
        self._answers = answers
        self._random = random
        self._heard = heard
        self._targets = list(before.targets)
        #: What the targets are made of; answers are remembered while they are held.
        self._known = [answers.about(question, values) for question, values in before.answers]
        self._again: IDelayedCall | None = None
        self._stopped = False

    @property
    def found(self) -> Found:
        """The targets of now, and what they are made of."""
        return Found(self._targets, tuple((known.question, known.values) for known in self._known))

    def start(self) -> None:
        """Look now, and whenever it is time to."""
        Deferred.fromCoroutine(self._look())

    def stop(self) -> None:
        self._stopped = True
        if self._again is not None and self._again.active():
            self._again.cancel()

    async def _look(self) -> None:
        offers, known = [Service(0, 1, 0, self._name)], []
        if self._is_service:
            known = await self._ask([Question(self._name, dns.SRV)])
            offers = [offer for offer in known[0].values if offer.target and offer.port]
        hosts = dict.fromkeys(offer.target for offer in offers)
        known += await self._ask([Question(host, kind) for host in hosts for kind in self._answers.kinds])
        if not self._stopped:
            self._use(known, _targets(offers, known))

    async def _ask(self, questions: Iterable[Question]) -> list[Known]:
        """The newest of what is known of each."""
        known = [self._answers.about(question) for question in questions]
        await gatherResults(map(self._answers.refresh, known))
        return known

    def _use(self, known: list[Known], targets: list[Target]) -> None:
        self._known = known
        seconds = min(each.due for each in known) - self._answers.clock()
        seconds += seconds * _JITTER * self._random()
        self._again = self._answers.reactor.callLater(max(SHORTEST, seconds), self.start)
        problems = [f"{each.question}: {each.problem}" for each in known if each.problem]
        if not targets:
            problems += [each.nothing for each in known if each.nothing] or ["no server offers it"]
        self._targets = targets or self._targets
        self._heard(self._targets, problems[0] if problems else "")


def _targets(offers: Iterable[Service], known: Iterable[Known]) -> list[Target]:
    """Each address and port once, with its first priority; sorted, because servers give them in any order."""
    addresses: dict[str, list[str]] = {}
    for each in known:
        if each.question.kind != dns.SRV:
            addresses.setdefault(each.question.name, []).extend(each.values)
    found: dict[tuple[str, int], Target] = {}
    for offer in sorted(offers):
        for host in addresses[offer.target]:
            found.setdefault((host, offer.port), Target(host, offer.port, offer.priority, offer.weight))
    return sorted(found.values(), key=_place)


def _place(target: Target) -> tuple[int, int, bytes, int]:
    packed = ipaddress.ip_address(target.host).packed
    return target.priority, len(packed), packed, target.port
