"""How does a check talk to a server over UDP?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from pylb.check.awaited import Awaited
from pylb.check.interface import Unhealthy
from pylb.model import InetAddress
from pylb.proxy.server_port import ServerPort

__all__ = ["Datagrams"]

_T = TypeVar("_T")


class Datagrams:
    """A UDP socket that is connected to the server; `streams` is IReactorFDSet.  Raises OSError if there is none."""

    def __init__(self, address: InetAddress, streams: Any) -> None:
        #: The last datagram, whatever it was.
        self.received = b""
        self._awaited: Awaited[Any] | None = None
        self._port = ServerPort(streams, self, address)

    def send(self, data: bytes) -> None:
        """Raises OSError; or `Unhealthy` if the server has refused one before."""
        try:
            self._port.send(data)
        except ConnectionRefusedError as error:
            raise _refusal(str(error.strerror)) from None

    def until(self, found: Callable[[bytes], _T | None]) -> Deferred[_T]:
        """What `found` makes of a datagram, of the first for which that is not None.

        Fails with `Unhealthy` if the server refuses (ICMP), and with what `found` raises.
        """
        self._awaited = awaited = Awaited(found)
        return awaited.result

    def close(self) -> None:
        self._port.close()

    # What the port tells (`pylb.proxy.server_port.ServerSession`).

    def reply_arrived(self, datagram: bytes) -> bool:
        self.received = datagram
        if self._awaited is not None:
            self._awaited.look(datagram)
        return False

    def refused(self, reason: str) -> None:
        if self._awaited is not None:
            self._awaited.fail(_refusal(reason))


def _refusal(reason: str) -> Unhealthy:
    return Unhealthy(f"refused the datagram: {reason}")
