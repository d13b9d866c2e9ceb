"""How does a check get at its server?

Connections are made as for clients, with the pool's TLS, and bytes are waited for.  What a check has opened is closed when
it is over, however it ends, and without a reset where that can be, which servers would log.  A connection that is to be
used again is handed over with `keep` and closed with `leave`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pylb.balance.server import Server
from pylb.check.awaited import Awaited
from pylb.check.datagrams import Datagrams
from pylb.check.interface import Unhealthy
from pylb.model import Address, InetAddress
from pylb.proxy.deadline import Deadlines
from pylb.proxy.dial import Dial, ServerSide, UpstreamError
from pylb.proxy.tls import ClientTLS

__all__ = ["Conversation", "Target"]

#: Bytes of an answer that are waited for: 256 KiB of a body, and a head.
LONGEST = (256 + 64) * 1024

_T = TypeVar("_T")


class Conversation(ServerSide):
    """A connection to the server that is checked."""

    def __init__(self) -> None:
        #: What has come and was not taken yet.
        self.received = b""
        #: The server sends no more.
        self.ended = False
        self._awaited: Awaited[Any] | None = None

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def until(self, found: Callable[[bytes], _T | None]) -> Deferred[_T]:
        """What `found` makes of all that has come, as soon as that is not None.

        Fails with `Unhealthy` if the server closes before, or sends more than 320 KiB, and with what `found` raises.
        """
        self._awaited = awaited = Awaited(found)
        self._look()
        return awaited.result

    def expect(self, pattern: re.Pattern[bytes]) -> Deferred[re.Match[bytes]]:
        """The first place in all that has come where `pattern` matches; fails as `until`."""
        return self.until(pattern.search)

    def close(self) -> None:
        self.ended = True
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once; what has closed already does not mind."""
        self.transport.abortConnection()

    # What the server does.

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def lost(self, reason: Failure) -> None:
        self.ended = True
        self._look()

    def _look(self) -> None:
        awaited = self._awaited
        if awaited is None:
            return
        awaited.look(self.received)
        if self.ended:
            awaited.fail(
                Unhealthy("closed the connection" + (f" after {_shown(self.received)}" if self.received else ""))
            )
        elif len(self.received) > LONGEST:
            awaited.fail(Unhealthy("nothing of what was expected in the first 320 KiB of its answer"))


def _shown(data: bytes) -> str:
    """The beginning of what a server sent, fit for a log."""
    text = data[:60].decode("latin-1").encode("unicode_escape").decode("ascii")
    return f'"{text}{"..." if len(data) > 60 else ""}"'


class _Connecting:
    """A dial on behalf of a check (`pylb.proxy.dial.Dialler`), which has a deadline as a whole."""

    def __init__(self, server: Server, reactor: Any, tls: ClientTLS | None) -> None:
        self.connected: Deferred[Conversation] = Deferred(self._stop)
        self._is_there = False
        self._dial = Dial(self, server, reactor, tls)
        self._dial.start()

    @property
    def greets(self) -> bool:
        """Whether there is a connection, over which TLS is not spoken yet."""
        return self._is_there and not self.connected.called

    def build(self) -> ServerSide:
        self._is_there = True
        return Conversation()

    def reached(self, protocol: ServerSide) -> None:
        assert isinstance(protocol, Conversation)
        self.connected.callback(protocol)

    def missed(self, error: UpstreamError) -> None:
        self.connected.errback(error)

    def _stop(self, connected: Deferred[Conversation]) -> None:
        self._dial.stop()


class Target:
    """The server that a check asks, and the ways to ask it.

    `streams` connects (IReactorTCP and IReactorUNIX) and watches sockets (IReactorFDSet), `reactor` starts processes;
    `may_keep` says whether there is a descriptor for a connection that is kept.
    """

    def __init__(
        self,
        server: Server,
        reactor: Any,
        streams: Any,
        deadlines: Deadlines,
        tls: ClientTLS | None = None,
        port: int | None = None,
        may_keep: Callable[[], bool] = lambda: True,
    ) -> None:
        self.reactor = reactor
        self.address = _with_port(server.address, port)
        self.clock = deadlines.clock
        self._streams = streams
        self._tls: ClientTLS | None = None
        #: Whether what is open was opened as is asked for now.
        self._is_current = True
        self._open: list[Conversation | Datagrams] = []
        #: Asked to close when the last check was over.
        self._closing: list[Conversation] = []
        self._kept: Conversation | None = None
        #: The last one that was asked for.
        self._connecting: _Connecting | None = None
        self.use(server, tls, may_keep)

    def use(self, server: Server, tls: ClientTLS | None, may_keep: Callable[[], bool]) -> None:
        """Ask `server`, which has the same address still, like this, beginning with the next connection.

        Over TLS that is a new one.
        """
        #: What the operator calls it: "app.example.com:80", "unix:/run/app.sock".
        self.name = str(server.spec.address)
        #: What to call it in its own protocol: "app.example.com:80", of a Unix socket "localhost".
        self.host = str(server.spec.address) if isinstance(server.spec.address, InetAddress) else "localhost"
        #: Whether the pool's connections are.
        self.encrypted = tls is not None
        self._server = Server(server.spec, self.address)
        self._may_keep = may_keep
        if tls is not None or self._tls is not None:
            self._drop_kept()
            self._is_current = self._connecting is None and not self._open
        self._tls = tls

    def connect(self, encrypted: bool = True) -> Deferred[Conversation]:
        """A new connection; fails with `pylb.proxy.dial.UpstreamError`.

        It is `encrypted` if the pool's are, and nobody wants it plain.
        """
        tls = self._tls if encrypted else None
        self._connecting = _Connecting(self._server, self._streams, tls)
        return self._connecting.connected.addCallback(self._opened)

    def datagrams(self) -> Datagrams:
        """A UDP socket towards the server.  Raises OSError, and `Unhealthy` if the server has no port."""
        if not isinstance(self.address, InetAddress):
            raise Unhealthy("a Unix socket takes no datagrams")
        return self._opened(Datagrams(self.address, self._streams))

    def heard(self) -> str:
        """What this check has been told so far, in words for a log."""
        received = b"".join(it.received for it in self._open)
        if received:
            return f"nothing but {_shown(received)}"
        greets = self._connecting is not None and self._connecting.greets
        return "no TLS handshake" if greets else "no answer"

    def keep(self, conversation: Conversation) -> None:
        """Leave it open for the next check, if that may be.  What has come is forgotten."""
        if self._is_current and self._may_keep():
            self._open.remove(conversation)
            conversation.received = b""
            self._kept = conversation

    def kept(self) -> Conversation | None:
        """The connection that was kept, if it can still be used."""
        kept, self._kept = self._kept, None
        if kept is None:
            return None
        self._open.append(kept)
        return None if kept.ended or kept.received else kept

    def close(self) -> None:
        """The check is over.  What has not closed when the next one is over is aborted."""
        for conversation in self._closing:
            conversation.abort()
        self._connecting = None
        self._is_current = True
        opened, self._open = self._open, []
        for it in opened:
            it.close()
        self._closing = [it for it in opened if isinstance(it, Conversation)]

    def leave(self) -> None:
        """There will be no further check."""
        self._drop_kept()
        self.close()
        self.close()

    def _drop_kept(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._closing.append(self._kept)
            self._kept = None

    def _opened(self, it: Any) -> Any:
        self._open.append(it)
        return it


def _with_port(address: Address, port: int | None) -> Address:
    return InetAddress(address.host, port) if port and isinstance(address, InetAddress) else address
