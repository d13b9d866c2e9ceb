"""What are nginx's variables of a client's connection, or of a datagram?

Both ends' addresses and, where pylb ends TLS, what the client said there.  Nothing is looked up unless a key asks for it,
and what cannot be looked up any more, because the client has left, is empty.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import ISSLTransport

from pylb.proxy.accesslog import Record

__all__ = ["End", "address_variable", "stream_variable"]

#: Address and port of one end; "unix:" and a path, without a port, on a Unix socket.
End: TypeAlias = "tuple[str, int | None]"


def stream_variable(name: str, record: Record, transport: Any) -> bytes:
    """A variable of a connection; `transport` is the client's, None if it has left."""
    if name == "scheme":
        return b"https" if ISSLTransport.providedBy(transport) else b"http"
    find = _OF_TLS.get(name)
    if find is None:
        return address_variable(name, record, lambda: _local_end(transport))
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    return find(handle) if isinstance(handle, SSL.Connection) else b""


def address_variable(name: str, record: Record, local: Callable[[], End]) -> bytes:
    """A variable that tells of the ends: the client's is in `record`, `local` says where it came to."""
    if name == "remote_addr":
        return record.remote_addr.encode()
    if name == "remote_port":
        return _port(record.remote_port)
    if name == "binary_remote_addr":
        return _packed(record.remote_addr)
    if name == "server_addr":
        return os.fsencode(local()[0])
    return _port(local()[1]) if name == "server_port" else b""


def _local_end(transport: Any) -> End:
    try:
        host = transport.getHost()
    except (AttributeError, OSError):
        return "", None  # the socket is closed
    if isinstance(host, IPv4Address | IPv6Address):
        return host.host, host.port
    assert isinstance(host, UNIXAddress)
    return f"unix:{os.fsdecode(host.name or b'')}", None


def _port(number: int | None) -> bytes:
    return b"" if number is None else b"%d" % number


def _packed(address: str) -> bytes:
    if ":" not in address:
        return socket.inet_aton(address)
    return address.encode() if address == "unix:" else socket.inet_pton(socket.AF_INET6, address.partition("%")[0])


def _session(connection: SSL.Connection) -> bytes:
    """What stays the same when a session is resumed: with TLS 1.3 nothing does."""
    secret = connection.master_key() if connection.get_protocol_version() <= SSL.TLS1_2_VERSION else None
    return hashlib.sha256(secret).hexdigest().encode() if secret else b""


_OF_TLS: dict[str, Callable[[SSL.Connection], bytes]] = {
    "ssl_protocol": lambda connection: connection.get_protocol_version_name().encode(),
    "ssl_server_name": lambda connection: connection.get_servername() or b"",
    "ssl_session_id": _session,
}
