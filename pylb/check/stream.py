"""Does a server of streams, or of datagrams, answer as it should?"""

from __future__ import annotations

from contextlib import suppress

from twisted.internet.defer import TimeoutError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pylb.check.datagrams import Datagrams
from pylb.check.interface import IHealthCheck
from pylb.check.presets import PRESETS
from pylb.check.target import Target
from pylb.model import TcpCheck, UdpCheck

__all__ = ["TcpProbe", "UdpProbe"]

#: Seconds after which a datagram that nobody refused is taken for delivered; half the timeout if that is less.
_SILENCE = 1.0


@implementer(IHealthCheck)
class TcpProbe:
    """Connects, sends and expects; to connect is enough if nothing is expected."""

    def __init__(self, spec: TcpCheck) -> None:
        self._spec = spec

    async def check(self, target: Target) -> None:
        conversation = await target.connect()
        if self._spec.send:
            conversation.write(self._spec.send)
        if self._spec.expect is not None:
            await conversation.expect(self._spec.expect)


@implementer(IHealthCheck)
class UdpProbe:
    """Sends and expects; if nothing is expected, no refusal is enough."""

    def __init__(self, spec: UdpCheck) -> None:
        self._spec = spec

    async def check(self, target: Target) -> None:
        spec, datagrams = self._spec, target.datagrams()
        if spec.preset is not None:
            question = PRESETS[spec.preset](spec.secret.encode())
            datagrams.send(question.datagram)
            await datagrams.until(question.answered)
        elif spec.expect is not None:
            datagrams.send(spec.send)
            await datagrams.until(spec.expect.search)
        else:
            datagrams.send(spec.send)
            await _refusal(datagrams, min(_SILENCE, spec.timeout / 2), target.reactor)


async def _refusal(datagrams: Datagrams, seconds: float, reactor: IReactorTime) -> None:
    """Wait so long for a refusal, or for an answer, which is welcome but not needed."""
    with suppress(TimeoutError):
        await datagrams.until(lambda answer: True).addTimeout(seconds, reactor)
