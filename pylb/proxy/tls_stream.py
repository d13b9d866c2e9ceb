"""How does a stream speak TLS?

OpenSSL reads and writes the socket itself, where Twisted hands every byte through two buffers in memory.

- What a protocol writes before the handshake is over waits for it.  A protocol that is an IHandshakeListener hears when it
  is; one that closes before that cuts.
- A read takes whole records: nothing that is decrypted ever waits in OpenSSL, of which the kernel could tell nobody.
- When OpenSSL must write before it can read on, or read before it can write on, the other one waits, and nobody turns in
  circles meanwhile.
- The peer's word that it ends (close_notify) is told by `readConnectionLost`; then both directions close.  One that merely
  closes has ended, too, but the connection is told as lost.
- To close is to send what is queued, then our own word, and to wait for the peer's end, whatever that looks like.  What it
  still sends is dropped.
- Whatever goes wrong costs this connection alone, and is the reason that its protocol hears.
- A peer that begins with what is no TLS can be answered without: a protocol that is an IMeetsPlain then has a plain stream.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IProtocol, ISSLTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from pylb.proxy.identity import ServerConnection
from pylb.proxy.poller import DONE
from pylb.proxy.transport import Stream

if TYPE_CHECKING:
    from pylb.proxy.streams import Streams

__all__ = ["IMeetsPlain", "TLSStream", "begins_tls"]

#: The most that a record holds (RFC 8446, 5.1).
_RECORD = 16 * 1024
#: What pyOpenSSL's SysCallError has for an errno when the socket ends and TLS has not.
_WITHOUT_A_WORD = -1
#: A context that can do nothing.
_EMPTY = SSL.Context(SSL.TLS_METHOD)
#: The type of the record that begins a handshake (RFC 8446, 5.1), and the bit that SSL 2 begins with, which nginx looks at.
_HANDSHAKE, _SSL2 = 0x16, 0x80


class IMeetsPlain(Interface):
    """A protocol that has something to say to a peer that does not speak TLS although it should."""

    def spoke_plainly() -> None:
        """From now on `transport` is a plain one, and what comes is what the peer said."""


def begins_tls(data: bytes) -> bool:
    """Whether the first of these bytes may begin a handshake."""
    return data[0] == _HANDSHAKE or bool(data[0] & _SSL2)


@implementer(ISSLTransport)
class TLSStream(Stream):
    """A connected socket, and OpenSSL on it: `tls` was made for this socket and knows its side."""

    bufferSize = 2 * _RECORD
    #: The handshake is over.
    _ready = False
    #: Something has come.
    _heard = False
    #: We have said that we end.
    _parted = False
    #: Reading waits until the socket takes something.
    _read_waits = False
    #: Writing waits until something comes.
    _write_waits = False

    def __init__(self, sock: Any, protocol: IProtocol, reactor: Streams, where: Any, tls: SSL.Connection) -> None:
        super().__init__(sock, protocol, reactor, where)
        self._tls = tls

    def begin(self) -> None:
        super().begin()
        if isinstance(self._tls, ServerConnection) and self.connected:
            self.startWriting()  # who connects speaks first

    def getHandle(self) -> SSL.Connection:
        """OpenSSL's side of it."""
        return self._tls

    def getPeerCertificate(self) -> X509 | None:
        return self._tls.get_peer_certificate()

    def pauseProducing(self) -> None:
        if not self.disconnecting:
            self._read_waits = False
            super().pauseProducing()

    def connectionLost(self, reason: Failure) -> None:
        if self._ready and isinstance(self._tls, ServerConnection) and not self.disconnected:
            self._tls.over()
        super().connectionLost(reason)

    # What comes.

    def doRead(self) -> Exception | None:
        if not self._ready:
            if not self._is_plain():
                return self._shake_hands()
            self._become_plain()
            return None
        if self._write_waits:
            self._write_waits = False
            self.startWriting()
        data, error = self._receive()
        if data and not self.disconnecting:
            self.protocol.dataReceived(data)
        if error is None or self._aborting or not self.connected:
            return None
        return self._end(error)

    def readConnectionLost(self, reason: Failure) -> None:
        if self._parted:
            self.connectionLost(DONE)
        else:
            self._tell_end()
            self.loseConnection()

    def _shake_hands(self) -> Exception | None:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return None
        except SSL.WantWriteError:
            self._read_after_writing()
            return None
        except SSL.Error as error:
            _forget_errors()
            return self._refusal(error)
        self._ready = True
        if self._queued:
            self.startWriting()
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()
        return None

    def _is_plain(self) -> bool:
        """Whether the first byte shows that the peer does not speak TLS, and the protocol wants to know."""
        if self._heard or not IMeetsPlain.providedBy(self.protocol):
            return False
        try:
            first = self.socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return False  # OpenSSL will see it, too
        self._heard = True
        return bool(first) and not begins_tls(first)

    def _become_plain(self) -> None:
        # Nobody has spoken over it yet, and all that Stream knows is there.
        self.__class__ = Stream
        self.protocol.spoke_plainly()

    def _refusal(self, error: SSL.Error) -> Exception:
        """Why there is no handshake."""
        if isinstance(self._tls, ServerConnection) and self._tls.refused is not None:
            return self._tls.refused
        return CONNECTION_LOST if isinstance(error, SSL.SysCallError | SSL.ZeroReturnError) else error

    def _receive(self) -> tuple[bytes, SSL.Error | None]:
        """What has come, and what keeps more from coming."""
        data = b""
        try:
            data = self._tls.recv(_RECORD)
            if len(data) == _RECORD:  # then there is more, as a rule
                data += self._tls.recv(_RECORD)
        except SSL.WantReadError:
            pass
        except SSL.WantWriteError:
            self._read_after_writing()
        except SSL.Error as error:
            _forget_errors()
            return data, error
        return data, None

    def _read_after_writing(self) -> None:
        self._read_waits = True
        self.startWriting()
        self.stopReading()

    def _end(self, error: SSL.Error) -> Exception:
        """What it means that no more comes."""
        if self._parted or isinstance(error, SSL.ZeroReturnError):
            return CONNECTION_DONE
        if not self._broken:
            if not isinstance(error, SSL.SysCallError):
                return error
            if error.args[0] == _WITHOUT_A_WORD:
                self._tell_end()
        return CONNECTION_LOST

    def _tell_end(self) -> None:
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is not None:
            protocol.readConnectionLost()

    # What goes.

    def write(self, data: bytes) -> None:
        if self._ready:
            super().write(data)
        else:
            FileDescriptor.write(self, data)

    def flush(self) -> None:
        data, self._unsent = self._unsent, b""
        if not data:
            return
        sent = self._send(data)
        if sent < len(data):
            FileDescriptor.write(self, data[sent:])
        elif self.producer is not None and not self.streamingProducer:
            self.startWriting()  # Twisted then asks it for more

    def doWrite(self) -> Exception | None:
        if self._read_waits:
            self._read_waits = False
            self.startReading()
        if not self._ready:
            self.stopWriting()
            return self._shake_hands()
        return super().doWrite()

    def writeSomeData(self, data: bytes) -> int | Exception:
        sent = self._send(data) if data else 0
        if self._write_waits:
            self.stopWriting()
        return CONNECTION_LOST if self._broken else sent

    def loseConnection(self) -> None:
        if self._ready:
            super().loseConnection()
        else:
            self.abortConnection()

    def loseWriteConnection(self) -> None:
        """The end of one direction of TLS is the end of both."""
        self.loseConnection()

    def _send(self, data: bytes) -> int:
        """Have OpenSSL take what the socket takes: when that is not all, it must be offered the same bytes again."""
        try:
            return self._tls.send(data[: self.SEND_LIMIT])
        except SSL.WantWriteError:
            pass
        except SSL.WantReadError:
            self._write_waits = True
        except SSL.Error:
            _forget_errors()
            self._broken = True
        return 0

    def _postLoseConnection(self) -> Exception | None:
        """All is written: say that we end."""
        if self._parted:
            return None
        self._writeDisconnected = True
        try:
            both = self._tls.shutdown()
        except SSL.WantWriteError:
            self.startWriting()
            return None
        except SSL.Error:
            _forget_errors()
            return CONNECTION_DONE
        self._parted = True
        self.startReading()
        return CONNECTION_DONE if both else None


def _forget_errors() -> None:
    """Empty OpenSSL's queue of errors: what pyOpenSSL leaves there would pass for another connection's."""
    with suppress(SSL.Error):
        _EMPTY.check_privatekey()
