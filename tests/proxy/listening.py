"""pylb's streams as a network for tests: what runs on Twisted's own transports runs on these as well."""

from __future__ import annotations

import os
from dataclasses import replace

from pylb.model import Address, InetAddress, TcpListener, UnixAddress
from pylb.proxy.accept import StreamPort
from pylb.proxy.listen import bind, listen_stream
from pylb.proxy.streams import Streams

_ANY = TcpListener(name="t", listen=(), pool="p")


class ListeningStreams(Streams):
    """Streams that also listen, as a reactor does."""

    def listenTCP(self, port, factory, backlog=50, interface="") -> StreamPort:
        return self._listen(InetAddress(interface, port), factory)

    def listenUNIX(self, address, factory, backlog=50, mode=0o666, wantPID=0) -> StreamPort:
        return self._listen(UnixAddress(os.fsdecode(address)), factory)

    def _listen(self, address: Address, factory) -> StreamPort:
        spec = getattr(getattr(factory, "wrappedFactory", factory), "spec", None) or _ANY
        (bound,) = bind([replace(spec, listen=(address,))])
        port = listen_stream(self, bound, bound.socket.dup(), factory)
        bound.socket.close()
        return port
