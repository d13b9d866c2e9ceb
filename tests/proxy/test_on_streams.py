"""Whatever holds on Twisted's own transports holds on pylb's streams, and while bytes pass through pipes: the same tests."""

from __future__ import annotations

import os
import sys
from types import ModuleType

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from pylb.proxy import pipes, splice
from pylb.proxy.poller import can_poll
from tests.proxy import test_pace, test_tcp, test_tls
from tests.proxy.http import test_client, test_exchange, test_factory, test_faults, test_server, test_tunnel
from tests.proxy.listening import ListeningStreams

MODULES = (
    test_tcp,
    test_pace,
    test_tls,
    test_client,
    test_exchange,
    test_factory,
    test_faults,
    test_server,
    test_tunnel,
)
#: Those in which bytes go through pipes.
PASSING = (test_tcp, test_pace, test_client, test_exchange, test_factory, test_faults, test_server)


class OnStreams:
    """Gives a case streams for its network, which watch nothing in the end."""

    if not can_poll(reactor):
        skip = "Twisted's own transports serve on this system"

    def setUp(self) -> None:
        self.network = ListeningStreams(reactor)
        super().setUp()

    async def tearDown(self) -> None:
        await maybeDeferred(super().tearDown)
        self.assertEqual((self.network.removeAll(), self.network in reactor.getReaders()), ([], False))


class ThroughPipes(OnStreams):
    """Gives it pipes as well, which every direction goes through from its second read on, and which end with it."""

    #: A pipe may be all but empty when the sink takes no more.
    least = 0

    if not hasattr(os, "splice"):
        skip = "this system has no splice"

    def setUp(self) -> None:
        super().setUp()
        self.network.pipes = pipes.Pipes(4)
        for name, value in {"MANY": 0, "READS": 1, "LEAST": 1, "TURNS": sys.maxsize}.items():
            self.patch(splice, name, value)
        # Not to hold more than the tests allow to be read.
        self.patch(pipes, "SIZE", 128 * 1024)

    async def tearDown(self) -> None:
        await super().tearDown()
        self.assertEqual(len(self.network.pipes), 0)


def repeat(module: ModuleType, kind: type) -> None:
    """Add the cases of a module to this one, each with `kind` before it."""
    for case in list(vars(module).values()):
        if isinstance(case, type) and issubclass(case, TestCase) and case.__module__ == module.__name__:
            name = f"{kind.__name__}{module.__name__.rpartition('.test_')[2].title()}{case.__name__}"
            globals()[name] = type(name, (kind, case), {})


for module in MODULES:
    repeat(module, OnStreams)
for module in PASSING:
    repeat(module, ThroughPipes)
