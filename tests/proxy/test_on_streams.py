"""Whatever holds on Twisted's own transports holds on pylb's streams: the same tests once more."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from pylb.proxy.poller import can_poll
from tests.proxy import test_tcp, test_tls
from tests.proxy.http import test_client, test_exchange, test_factory, test_faults, test_server, test_tunnel
from tests.proxy.listening import ListeningStreams

MODULES = (
    test_tcp,
    test_tls,
    test_client,
    test_exchange,
    test_factory,
    test_faults,
    test_server,
    test_tunnel,
)


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


for module in MODULES:
    for case in list(vars(module).values()):
        if isinstance(case, type) and issubclass(case, TestCase) and case.__module__ == module.__name__:
            name = f"{module.__name__.rpartition('.test_')[2].title()}{case.__name__}"
            globals()[name] = type(name, (OnStreams, case), {})
