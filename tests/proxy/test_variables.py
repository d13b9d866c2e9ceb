"""pylb.proxy.variables: what a connection and a datagram say of themselves, over real sockets."""

from __future__ import annotations

import ipaddress
import os
import tempfile

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from pylb.model import UnixAddress
from pylb.proxy.accesslog import Record
from pylb.proxy.variables import address_variable, stream_variable
from pylb.variables import CONNECTION_VARIABLES, KEY_VARIABLES
from tests.backends import Peer, echo
from tests.proxy.streams import StreamCase
from tests.proxy.test_tls import Careless, TLSCase


def record(address: str, port: int | None = 4711) -> Record:
    return Record("l", "tcp", address, port, 0.0)


class AddressTests(SynchronousTestCase):
    def value(self, name: str, address: str, port: int | None = 4711) -> bytes:
        return address_variable(name, record(address, port), lambda: ("192.0.2.1", 80))

    def test_each(self) -> None:
        """IPv4, IPv6 (its zone is not a part of it) and Unix sockets, as in nginx."""
        for name, address, value in (
            ("remote_addr", "10.0.0.1", b"10.0.0.1"),
            ("remote_addr", "2001:db8::1", b"2001:db8::1"),
            ("remote_addr", "unix:", b"unix:"),
            ("remote_port", "10.0.0.1", b"4711"),
            ("binary_remote_addr", "10.0.0.1", bytes([10, 0, 0, 1])),
            ("binary_remote_addr", "fe80::1%eth0", ipaddress.IPv6Address("fe80::1").packed),
            ("binary_remote_addr", "unix:", b"unix:"),
            ("server_addr", "10.0.0.1", b"192.0.2.1"),
            ("server_port", "10.0.0.1", b"80"),
            ("elsewhere", "10.0.0.1", b""),
        ):
            self.assertEqual((name, address, self.value(name, address)), (name, address, value))
        self.assertEqual(self.value("remote_port", "unix:", None), b"")

    def test_every_variable(self) -> None:
        """There is a value for each one that UDP's keys may name, so none is forgotten."""
        for name in KEY_VARIABLES["udp"]:
            self.assertTrue(self.value(name, "10.0.0.1"), name)


class StreamTests(StreamCase):
    async def ask(self, where: str = "tcp:0:interface=127.0.0.1") -> tuple[Peer, dict[str, bytes]]:
        """A client, and what its session at pylb says."""
        backend = await self.backend(echo)
        await self.proxy(backend, where=where)
        client, _ = await self.pair(backend)
        return client, {name: self.session.variable(name) for name in CONNECTION_VARIABLES}

    async def test_tcp(self) -> None:
        """Both ends of a connection; of TLS it has nothing."""
        for host in ("127.0.0.1", "::1"):
            self.setUp()
            client, said = await self.ask("tcp:0:interface=" + host.replace(":", r"\:"))
            expected = {
                "binary_remote_addr": ipaddress.ip_address(host).packed,
                "remote_addr": host.encode(),
                "remote_port": b"%d" % client.transport.getHost().port,
                "scheme": b"http",
                "server_addr": host.encode(),
                "server_port": b"%d" % self.address.port,
                "ssl_protocol": b"",
                "ssl_server_name": b"",
                "ssl_session_id": b"",
            }
            self.assertEqual(said, expected)
            await self.tearDown()

    async def test_unix(self) -> None:
        """A Unix socket has a path and no ports."""
        path = os.path.join(tempfile.mkdtemp(), "s")
        _, said = await self.ask(f"unix:{path}")
        self.assertEqual(self.address, UnixAddress(path))
        self.assertEqual((said["server_addr"], said["server_port"]), (b"unix:" + path.encode(), b""))
        self.assertEqual((said["remote_addr"], said["remote_port"]), (b"unix:", b""))

    async def test_client_has_left(self) -> None:
        """What cannot be looked up any more is empty, what is known is not."""
        client, _ = await self.ask()
        session = self.session
        transport = session._client.transport
        client.transport.loseConnection()
        await self.over()
        for gone in (None, transport):
            said = [
                stream_variable(name, session.record, gone) for name in ("remote_addr", "server_addr", "server_port")
            ]
            self.assertEqual(said, [b"127.0.0.1", b"", b""])
        self.assertEqual(session.variable("remote_addr"), b"127.0.0.1")
        self.assertEqual(session.variable("ssl_server_name"), b"")


class Resuming(Careless):
    """A client that goes on with the session of another one."""

    def __init__(self, before: Careless | None, version: int) -> None:
        super().__init__("site.test", version)
        self.session: SSL.Session | None = None
        if before is not None:
            self.context = before.context
            self.session = before.session

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        connection = super().clientConnectionForTLS(protocol)
        if self.session is not None:
            connection.set_session(self.session)
        return connection


class TLSTests(TLSCase):
    async def said(self, tls: Careless) -> dict[str, bytes]:
        """What a client's connection says; `tls` has its session afterwards."""
        client = await self.client(tls=tls)
        client.transport.write(b"hello")
        await client.hears(b"hello")
        said = {name: self.session.variable(name) for name in CONNECTION_VARIABLES}
        tls.session = client.transport.getHandle().get_session()
        client.transport.loseConnection()
        await self.over()
        return said

    async def test_name_and_version(self) -> None:
        """What the client asked for, as it wrote it, and what both agreed on."""
        await self.proxy(await self.backend(echo), tls=self.server_tls())
        for name, version, text in (("Site.Test", SSL.TLS1_2_VERSION, b"TLSv1.2"), (None, 0, b"TLSv1.3")):
            said = await self.said(Careless(name, version))
            self.assertEqual((said["ssl_protocol"], said["ssl_server_name"]), (text, (name or "").encode()))
            self.assertEqual((said["scheme"], said["remote_addr"]), (b"https", b"127.0.0.1"))

    async def test_session(self) -> None:
        """A resumed session of TLS 1.2 is known again and another one is not; TLS 1.3 has nothing that stays."""
        await self.proxy(await self.backend(echo), tls=self.server_tls())
        first = Resuming(None, SSL.TLS1_2_VERSION)
        one = (await self.said(first))["ssl_session_id"]
        again = (await self.said(Resuming(first, SSL.TLS1_2_VERSION)))["ssl_session_id"]
        other = (await self.said(Resuming(None, SSL.TLS1_2_VERSION)))["ssl_session_id"]
        self.assertRegex(one, rb"\A[0-9a-f]{64}\Z")
        self.assertEqual((again == one, other == one), (True, False))
        self.assertEqual((await self.said(Resuming(None, 0)))["ssl_session_id"], b"")
