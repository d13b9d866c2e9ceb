"""How does a check talk to a server over UDP?"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.check.interface import Unhealthy
from pylb.model import InetAddress

__all__ = ["Datagrams"]

#: Bytes: no datagram is longer.
_LARGEST = 65_535

_T = TypeVar("_T")


@implementer(IReadDescriptor)
class Datagrams:
    """A UDP socket that is connected to the server; `streams` is IReactorFDSet."""

    def __init__(self, address: InetAddress, streams: Any) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        #: The last datagram, whatever it was.
        self.received = b""
        self._streams = streams
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._found: Callable[[bytes], Any] | None = None
        self._waiting: Deferred[Any] | None = None
        try:
            self._socket.setblocking(False)
            self._socket.connect((address.host, address.port))
        except OSError:
            self._socket.close()
            raise
        self.fileno = self._socket.fileno
        streams.addReader(self)

    def send(self, data: bytes) -> None:
        """Raises OSError; or `Unhealthy` if the server has refused one before."""
        try:
            self._socket.send(data)
        except ConnectionRefusedError as error:
            raise _refusal(error) from None

    def until(self, found: Callable[[bytes], _T | None]) -> Deferred[_T]:
        """What `found` makes of a datagram, of the first for which that is not None.

        Fails with `Unhealthy` if the server refuses (ICMP), and with what `found` raises.
        """
        self._found = found
        waiting: Deferred[_T] = Deferred(lambda _: self._stop_waiting())
        self._waiting = waiting
        return waiting

    def close(self) -> None:
        self._streams.removeReader(self)
        self._socket.close()

    # What the reactor calls.

    def doRead(self) -> None:
        try:
            data = self._socket.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError as error:
            self._refused(error)
            return
        self.received = data
        self._look(data)

    def logPrefix(self) -> str:
        return "check"

    def connectionLost(self, reason: Failure) -> None:
        """The kernel has an error to tell, or the reactor lets go."""
        problem = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._socket.close()
        if problem:
            self._refused(OSError(problem, os.strerror(problem)))

    def _look(self, data: bytes) -> None:
        waiting = self._waiting
        if waiting is None or self._found is None:
            return
        try:
            result = self._found(data)
        except Exception:
            self._stop_waiting()
            waiting.errback(Failure())
        else:
            if result is not None:
                self._stop_waiting()
                waiting.callback(result)

    def _refused(self, error: OSError) -> None:
        waiting = self._waiting
        if waiting is not None:
            self._stop_waiting()
            waiting.errback(_refusal(error))

    def _stop_waiting(self) -> None:
        self._waiting = self._found = None


def _refusal(error: OSError) -> Unhealthy:
    return Unhealthy(f"refused the datagram: {error.strerror}")
