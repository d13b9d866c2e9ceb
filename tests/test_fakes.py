"""The fakes are what they claim to be."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IConnector,
    IConsumer,
    IPushProducer,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
    ITransport,
)
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.fakes import FakeConnector, FakeReactor, FakeTransport


class FakeTests(SynchronousTestCase):
    def test_transport(self) -> None:
        """FakeTransport has all methods of a transport that is consumer and producer."""
        for interface in (ITransport, IConsumer, IPushProducer):
            verifyObject(interface, FakeTransport(Protocol()))

    def test_connector(self) -> None:
        """FakeConnector has all methods of a connector."""
        verifyObject(IConnector, FakeConnector("192.0.2.1", ClientFactory()))

    def test_reactor(self) -> None:
        """FakeReactor has all methods of the reactors it stands for."""
        for interface in (IReactorTime, IReactorTCP, IReactorUNIX):
            verifyObject(interface, FakeReactor())
