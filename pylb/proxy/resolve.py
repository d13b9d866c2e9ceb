"""Which servers do the host names and services of the pools stand for?

- A name is looked up once, by the system (lookup.py), or with `resolve` it is followed in DNS (dns/).  Who stands in
  several places is asked for once.
- Every address becomes a server with the parameters of its line.  A name that has not been found is one server that is
  down.
- Of a service the targets of the first priority are as the line says, the others are backups; a line that is a backup takes
  the first only.  Their weights count where the line has the weight 1, which is the default (nginx's rules).
- Servers that stay keep their state, also when their weight or rank changes; who uses one that goes can finish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from random import random
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pylb.balance.pool import Pool
from pylb.balance.server import Server
from pylb.model import Address, InetAddress, Resolver, ServerSpec
from pylb.proxy.dns.answers import Answers
from pylb.proxy.dns.follow import NEVER, Follower, Found, Target
from pylb.proxy.dns.nameservers import nameservers
from pylb.proxy.lookup import Lookups, getaddrinfo

__all__ = ["NOTHING", "PATIENCE", "Name", "Names", "name_of"]

#: Seconds after which pylb serves although a name has not answered.
PATIENCE = 5.0
#: The most that the weights of a service come to: rings of consistent hashes have 160 points for each unit.
MOST_WEIGHT = 10_000

_log = Logger()


class Name(NamedTuple):
    """What is looked up for a line of a pool."""

    #: Of a service with all that stands before the host: `_http._tcp.app.example.com`.
    text: str
    #: In DNS, from now on; not only once.
    followed: bool = False
    is_service: bool = False

    def __str__(self) -> str:
        return self.text


#: No name was ever found.
NOTHING: Final[Mapping[Name, Found]] = MappingProxyType({})


class Names:
    """Keeps the servers of pools in step with what their names stand for.

    `changed` is told of a pool that has got other servers; `clock` reads monotonic seconds.  Raises ValueError if no DNS
    server is known and one is needed.
    """

    def __init__(
        self,
        reactor: Any,
        pools: Iterable[Pool],
        lookup: Callable[[str], Sequence[str]] = getaddrinfo,
        changed: Callable[[Pool], None] = lambda pool: None,
        resolver: Resolver | None = None,
        clock: Callable[[], float] = monotonic,
        random: Callable[[], float] = random,
        before: Mapping[Name, Found] = NOTHING,
    ) -> None:
        """What was found `before`, perhaps by another process, holds until something else is."""
        self._reactor = reactor
        #: The servers of each line, and what it is asked for.
        self._servers = {pool: [[server] for server in pool.servers] for pool in pools}
        self._names = {pool: [name_of(line) for line in pool.spec.servers] for pool in self._servers}
        self._changed = changed
        self._found: dict[Name, Sequence[Target]] = {}
        #: Those of which it was said that they are not found, or not answered for.
        self._failing: set[Name] = set()
        self._wanted = {name for name in chain(*self._names.values()) if name is not None}
        #: Those of which nothing is known yet.
        self._silent = set(self._wanted)
        self._lookups = Lookups(reactor, lookup, self._looked_up)
        self._answers, self._followers = self._follow(resolver or Resolver(), clock, random, before)
        self._ready: Deferred[None] | None = None
        self._patience: IDelayedCall | None = None
        for name in self._wanted & before.keys():
            self._silent.discard(name)
            self._learn(name, before[name].targets)

    def found(self) -> dict[Name, Found]:
        """What each name stands for that was ever found, for those that come after."""
        return {
            name: self._followers[name].found if name.followed else Found(targets)
            for name, targets in self._found.items()
        }

    def start(self) -> Deferred[None]:
        """Look up every name; fires when something is known of all, or after `PATIENCE` seconds."""
        self._lookups.start([name.text for name in self._wanted if not name.followed])
        for follower in self._followers.values():
            follower.start()
        if not self._silent:
            return succeed(None)
        self._patience = self._reactor.callLater(PATIENCE, self._lose_patience)
        self._ready = Deferred[None]()
        return self._ready

    def exchange(self, pool: Pool, other: Pool, same: Mapping[Server, Server]) -> None:
        """Fill `other` from now on, which is asked for the same as `pool` and has the servers that are the same."""
        lines = self._servers.pop(pool)
        self._servers[other] = [[same.get(server, server) for server in line] for line in lines]
        self._names[other] = self._names.pop(pool)

    def stop(self) -> None:
        """Ask nothing more and forget answers that are still to come; what `start` returned will not fire."""
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._lookups.stop()
        for follower in self._followers.values():
            follower.stop()
        if self._answers is not None:
            self._answers.stop()

    def _follow(
        self,
        resolver: Resolver,
        clock: Callable[[], float],
        random: Callable[[], float],
        before: Mapping[Name, Found],
    ) -> tuple[Answers | None, dict[Name, Follower]]:
        followed = sorted(name for name in self._wanted if name.followed)
        if not followed:
            return None, {}
        answers = Answers(resolver, resolver.addresses or nameservers(), self._reactor, clock)
        return answers, {
            name: Follower(
                name.text, name.is_service, answers, random, partial(self._heard, name), before.get(name, NEVER)
            )
            for name in followed
        }

    def _looked_up(self, host: str, addresses: Sequence[str], problem: str) -> None:
        self._heard(Name(host), [Target(address) for address in addresses], problem)

    def _heard(self, name: Name, targets: Sequence[Target], problem: str) -> None:
        """What `name` stands for now; with a `problem` that is what was known before."""
        self._silent.discard(name)
        self._tell(name, problem)
        if targets and targets != self._found.get(name):
            _log.info("{name} is {addresses}", name=name, addresses=", ".join(map(str, targets)))
            self._learn(name, targets)
        if self._ready is not None and not self._silent:
            self._serve(self._ready)

    def _tell(self, name: Name, problem: str) -> None:
        """Say that it begins to fail, and that it works again."""
        if problem and name not in self._failing:
            self._failing.add(name)
            before = "{name}: {problem}; what was known stays"
            never = "{name} was not found: {problem}"
            _log.warn(f"{before if name in self._found else never}; it is asked for again", name=name, problem=problem)
        elif not problem and name in self._failing:
            self._failing.remove(name)
            if name in self._found:
                _log.info("{name} is answered for again", name=name)

    def _lose_patience(self) -> None:
        names = ", ".join(sorted(map(str, self._silent)))
        _log.warn("no answer yet for {names}: serving without", names=names)
        assert self._ready is not None
        self._serve(self._ready)

    def _serve(self, ready: Deferred[None]) -> None:
        """Whatever has been found by now is what pylb starts with."""
        self._ready = None
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        ready.callback(None)

    def _learn(self, name: Name, targets: Sequence[Target]) -> None:
        self._found[name] = targets
        for pool in self._servers:
            self._fill(pool, name)

    def _fill(self, pool: Pool, name: Name) -> None:
        lines = self._servers[pool]
        places = [place for place, wanted in enumerate(self._names[pool]) if wanted == name]
        for place in places:
            lines[place] = _servers(pool.spec.servers[place], self._found[name], lines[place])
        if places:
            pool.replace(chain(*lines))
            self._changed(pool)


def name_of(line: ServerSpec) -> Name | None:
    """What must be looked up for a line, if anything."""
    address = line.address
    if not isinstance(address, InetAddress) or address.is_literal:
        return None
    if not line.service:
        return Name(address.host, line.resolve)
    prefix = line.service if "." in line.service else f"_{line.service}._tcp"
    return Name(f"{prefix}.{address.host}", followed=True, is_service=True)


def _servers(line: ServerSpec, targets: Sequence[Target], present: Iterable[Server]) -> list[Server]:
    """The servers of a line; those of `present` that stay are the same."""
    known = {server.address: server for server in present}
    servers = []
    for spec, address in _specs(line, targets):
        server = known.get(address) or Server(spec, address)
        server.spec = spec
        servers.append(server)
    return servers


def _specs(line: ServerSpec, targets: Sequence[Target]) -> Iterator[tuple[ServerSpec, Address]]:
    """What each target is to be."""
    assert isinstance(line.address, InetAddress)
    if not line.service:
        for target in targets:
            yield line, InetAddress(target.host, line.address.port)
        return
    first = min(target.priority for target in targets)
    total = sum(target.weight for target in targets)
    for target in targets:
        if target.priority > first and line.backup:
            continue
        weight = target.weight if total <= MOST_WEIGHT else target.weight * MOST_WEIGHT // total
        spec = replace(
            line,
            address=InetAddress(line.address.host, target.port),
            weight=max(1, weight) if line.weight == 1 else line.weight,
            backup=line.backup or target.priority > first,
        )
        yield spec, InetAddress(target.host, target.port)
