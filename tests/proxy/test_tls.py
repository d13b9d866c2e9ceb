"""Which certificate does a client see, and what must a server show?"""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import trustme
from cryptography import x509
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from pylb.balance.server import Server
from pylb.model import Certificate, InetAddress, ListenerTLS, ServerSpec, UnixAddress, UpstreamTLS
from pylb.proxy.tls import ClientTLS, ServerTLS
from tests.backends import Backend, Peer, echo, round_trips, socket_path, until
from tests.proxy.streams import (
    Exchanges,
    StreamCase,
    address_of,
    data,
    deaf_address,
    digest,
    greeting,
    innermost,
    options,
    send_and_close,
)

CA = trustme.CA()
STRANGER = trustme.CA()


@implementer(IOpenSSLClientConnectionCreator)
class Careless:
    """TLS of a client that believes whatever it is shown; it asks for `name` and offers at most `version`."""

    def __init__(self, name: str | None = None, version: int = 0) -> None:
        self.name = name
        self.context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        self.context.set_max_proto_version(version)

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        connection = SSL.Connection(self.context, None)
        if self.name is not None:
            connection.set_tlsext_host_name(self.name.encode())
        return connection


class TLSCase(StreamCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.ca = str(self.folder / "ca.pem")
        CA.cert_pem.write_to_path(self.ca)

    def issue(self, *names: str, ca: trustme.CA = CA, **asked: object) -> Certificate:
        """A certificate for `names`, in files."""
        leaf = ca.issue_cert(*names, **asked)
        stem = self.folder / names[0]
        cert, key = f"{stem}.pem", f"{stem}.key"
        leaf.cert_chain_pems[0].write_to_path(cert)
        leaf.private_key_pem.write_to_path(key)
        return Certificate(cert=cert, key=key)

    def server_tls(self, name: str = "site.test", **asked: object) -> ServerTLS:
        return ServerTLS(ListenerTLS(certificates=(self.issue(name, **asked),)))

    def client_tls(self, **asked: object) -> ClientTLS:
        return ClientTLS(UpstreamTLS(**{"ca": self.ca, **asked}))

    async def client(self, half_close: bool = False, tls: object = None) -> Peer:
        return await super().client(half_close, tls or Careless())


class CertificateTests(TLSCase):
    """Which certificate does a client see?"""

    async def serve(self, *names: tuple[str, ...], **asked: object) -> None:
        pairs = tuple(self.issue(*each) for each in names)
        await self.proxy(await self.backend(echo), tls=ServerTLS(ListenerTLS(certificates=pairs, **asked)))

    async def answer(self, tls: Careless) -> Peer:
        """A client that has got its answer, or has been refused."""
        client = await self.client(tls=tls)
        client.transport.write(b"hello")
        await until(lambda: client.lost or client.heard)
        return client

    async def shown(self, name: str | None) -> list[str]:
        """The names in the certificate that a client sees who asks for `name`."""
        client = await self.answer(Careless(name))
        certificate = client.transport.getHandle().get_peer_certificate(as_cryptography=True)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)

    async def test_sni(self) -> None:
        """The name that a client asks for chooses among the certificates; wildcards stand for one label."""
        await self.serve(("first.test",), ("a.test", "b.test"), ("*.wild.test",), ("exact.wild.test",))
        for asked, expected in {
            "first.test": ["first.test"],
            "b.test": ["a.test", "b.test"],
            "B.Test": ["a.test", "b.test"],
            "any.wild.test": ["*.wild.test"],
            "exact.wild.test": ["exact.wild.test"],
            "too.deep.wild.test": ["first.test"],
            "wild.test": ["first.test"],
            "unknown.test": ["first.test"],
            None: ["first.test"],
        }.items():
            self.assertEqual(await self.shown(asked), expected, asked)

    async def test_first_wins(self) -> None:
        """Of two certificates for one name the first is shown."""
        await self.serve(("x.test",), ("one.test", "a.test"), ("two.test", "a.test"))
        self.assertEqual(await self.shown("a.test"), ["one.test", "a.test"])

    async def test_min_version(self) -> None:
        """TLS 1.2 is the least by default; with min_version 1.3 it is refused."""
        await self.serve(("a.test",))
        self.assertEqual((await self.answer(Careless(version=SSL.TLS1_1_VERSION))).heard, b"")
        self.assertEqual((await self.answer(Careless(version=SSL.TLS1_2_VERSION))).heard, b"hello")
        await self.serve(("a.test",), min_version="1.3")
        self.assertEqual((await self.answer(Careless(version=SSL.TLS1_2_VERSION))).heard, b"")
        self.assertEqual((await self.answer(Careless(version=SSL.TLS1_3_VERSION))).heard, b"hello")

    def test_unusable(self) -> None:
        """A certificate that is not there, or a key of another one, is an error when it is loaded."""
        one, two = self.issue("a.test"), self.issue("b.test")
        for wrong in (Certificate(cert=one.cert, key=two.key), Certificate(cert="/nowhere", key=one.key)):
            self.assertRaises((OSError, SSL.Error), ServerTLS, ListenerTLS(certificates=(wrong,)))


class ClientSideTests(Exchanges, TLSCase):
    """How do bytes travel when the client speaks TLS?"""

    async def serve(self, backend: Backend, **asked: object) -> None:
        await self.proxy(backend, tls=self.server_tls(), **asked)

    async def pair(self, backend: Backend, **client: object) -> tuple[Peer, Peer]:
        client_peer, server = await super().pair(backend, **client)
        await until(lambda: self.session._server)
        return client_peer, server

    async def test_options(self) -> None:
        """The options of the client's socket are set beneath TLS."""
        backend = await self.backend(greeting(b"!"))
        await self.serve(backend, so_keepalive=True)
        client = await self.client()
        await client.hears(b"!")
        self.assertEqual(options(innermost(self.session._client.transport).getHandle()), (1, 1))

    async def test_close_without_notice(self) -> None:
        """A client that closes without TLS's word for it, as many do, has closed all the same."""
        backend = await self.backend()
        await self.serve(backend)
        client, server = await self.pair(backend)
        client.transport.write(sent := data(2))
        await until(lambda: self.session.record.bytes_received)
        innermost(client.transport).loseConnection()
        await until(lambda: server.lost)
        self.assertEqual((server.clean, digest(server.heard)), (True, digest(sent)))

    async def test_server_resets(self) -> None:
        """A reset by the server reaches the client as a reset."""
        backend = await self.backend(greeting(b"!"))
        await self.serve(backend)
        client, server = await self.pair(backend)
        await client.hears(b"!")
        raw, seen = innermost(client.transport), []
        tell = raw.connectionLost
        raw.connectionLost = lambda reason: (seen.append(reason.type), tell(reason))
        server.transport.abortConnection()
        await until(lambda: client.lost)
        self.assertEqual(seen, [ConnectionLost])

    async def test_rubbish(self) -> None:
        """What is not TLS any more ends the connection for the server as an accident."""
        backend = await self.backend(greeting(b"!"))
        await self.serve(backend)
        client, server = await self.pair(backend)
        await client.hears(b"!")
        innermost(client.transport).write(b"\x17\x03\x03\x00\x20" + bytes(32))
        await until(lambda: server.lost)
        self.assertIs(server.lost, ConnectionLost)

    async def test_leaves_while_held_up(self) -> None:
        """A client that says that it goes, while more waits for it than it takes, does not keep its server."""
        backend = await self.backend()
        await self.serve(backend)
        client, server = await self.pair(backend)
        client.transport.pauseProducing()
        server.transport.write(data(64))
        await until(lambda: self.held > 32 * 1024)
        await self.settled()
        client.transport.loseConnection()
        await until(lambda: server.lost)
        self.assertEqual(self.pool.servers[0].active, 0)

    async def test_early(self) -> None:
        """A client that has sent and left before its server was reached is served all the same."""
        backend = await self.backend()
        await self.proxy(deaf_address(self), backend, tls=self.server_tls(), connect_timeout=0.2)
        client = await self.client()
        client.transport.write(b"early")
        client.transport.loseConnection()
        server = await backend.peer()
        await until(lambda: server.lost)
        self.assertEqual((bytes(server.heard), server.clean), (b"early", True))

    async def test_early_in_vain(self) -> None:
        """If then no server is reached, nothing is left of it; nor if pylb is stopped meanwhile."""
        for abort in (False, True):
            await self.proxy(deaf_address(self), tls=self.server_tls(), connect_timeout=0.2)
            client = await self.client()
            client.transport.write(b"early")
            client.transport.loseConnection()
            await until(lambda client=client: client.lost)
            if abort:
                self.connections.abort()
            await self.over()
            self.assertEqual(self.pool.servers[0].active, 0)
        self.assertEqual([record.status for record in self.records], [504, 499])

    async def test_no_handshake(self) -> None:
        """Without a handshake no server is bothered; whoever begins none is closed after `timeout`."""
        clock = Clock()
        backend = await self.backend()
        await self.serve(backend, timeout=10, time=clock)
        silent = await StreamCase.client(self)
        await until(lambda: len(self.connections) == 1)
        await round_trips()
        self.assertEqual((backend.peers, self.pool.servers[0].active), ([], 0))
        clock.advance(10)
        await until(lambda: silent.lost)
        logs = self.enterContext(capturedLogs())
        rude = await StreamCase.client(self)
        rude.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: rude.lost)
        await self.over()
        self.assertEqual((backend.peers, clock.getDelayedCalls()), ([], []))
        lines = [formatEvent(log) for log in logs if log["log_namespace"] == "pylb.proxy.handshakes"]
        self.assertEqual(lines, ["listener t: no TLS with 127.0.0.1: http request"])

    async def test_twisted_tls(self) -> None:
        """The factory serves Twisted's own TLS endpoints, whose clients may close without notice, too."""
        backend = await self.backend(echo)
        endpoint = wrapServerTLS(self.server_tls(), serverFromString(reactor, "tcp:0:interface=127.0.0.1"))
        port = await endpoint.listen(self.make_factory(backend))
        self.addCleanup(port.stopListening)
        self.address = address_of(port)
        client, server = await self.pair(backend)
        client.transport.write(b"hello")
        await client.hears(b"hello")
        innermost(client.transport).loseConnection()
        await until(lambda: server.lost)
        self.assertTrue(server.clean)


class Typist(ProcessProtocol):
    """Somebody at the keyboard of a program."""

    def __init__(self) -> None:
        self.shown = b""
        self.ended = False

    def outReceived(self, data: bytes) -> None:
        self.shown += data

    errReceived = outReceived

    def processEnded(self, reason: object) -> None:
        self.ended = True

    async def types(self, line: bytes, shows: bytes) -> None:
        """Type a line and wait until something is shown."""
        before = len(self.shown)
        self.transport.write(line + b"\n")
        await until(lambda: shows in self.shown[before:] or self.ended)


class ByHandTests(TLSCase):
    """What `openssl s_client` can be told to do in the middle of a connection."""

    program = shutil.which("openssl")
    if program is None:
        skip = "there is no openssl"

    async def serve(self) -> None:
        self.server = await self.backend(echo)
        await self.proxy(self.server, tls=self.server_tls())

    async def typist(self, *options: str) -> Typist:
        """One that is connected to the server and has its answer."""
        typist = Typist()
        where = f"{self.address.host}:{self.address.port}"
        reactor.spawnProcess(typist, self.program, ["openssl", "s_client", "-connect", where, *options], env=None)
        await typist.types(b"hello", b"hello\n")
        return typist

    async def test_new_keys(self) -> None:
        """A client of TLS 1.3 may ask for new keys, again and again."""
        await self.serve()
        typist = await self.typist("-tls1_3")
        for _ in range(2):
            await typist.types(b"K", b"KEYUPDATE")
            await typist.types(b"again", b"again\n")
        await typist.types(b"Q", b"DONE")
        await until(lambda: typist.ended)
        await self.over()
        self.assertEqual((bytes(self.server.peers[0].heard), len(self.server.peers)), (b"hello\nagain\nagain\n", 1))

    async def test_no_second_handshake(self) -> None:
        """One of TLS 1.2 that wants to negotiate anew is refused, gives up, and is closed; others do not notice."""
        await self.serve()
        other, typist = await self.typist("-tls1_2"), await self.typist("-tls1_2")
        await typist.types(b"R", b"no renegotiation")
        await until(lambda: typist.ended)
        await until(lambda: len(self.connections) == 1)
        await other.types(b"still there", b"still there\n")
        await other.types(b"Q", b"DONE")
        await until(lambda: other.ended)
        self.assertIn(b"no renegotiation", typist.shown)


class ServerSideTests(TLSCase):
    """What must a server show?"""

    async def client(self, half_close: bool = False, tls: object = None) -> Peer:
        return await StreamCase.client(self, half_close)

    async def tls_backend(self, *names: str, behave=echo, **asked: object) -> Backend:
        certificates = self.issue(*(names or ["site.test"]), **asked)
        return await self.backend(behave, tls=ServerTLS(ListenerTLS(certificates=(certificates,))))

    async def ask(self) -> Peer:
        """A client that sends a secret and hears it again."""
        client = await self.client()
        client.transport.write(b"secret")
        await client.hears(b"secret")
        return client

    async def assert_refused(self, bad: Backend, reason: str, **tls: object) -> None:
        """`bad` fails, for `reason`, without hearing a byte; the client gets to the next server."""
        good = await self.tls_backend("site.test", "127.0.0.1")
        await self.proxy(bad, good, upstream_tls=self.client_tls(**tls), connect_timeout=0.3)
        await self.ask()
        self.assertEqual([server.failures for server in self.pool.servers], [1, 0])
        self.assertIn(reason, self.heard.news[0])
        self.assertEqual([bytes(peer.heard) for peer in bad.peers], [b""] * len(bad.peers))

    async def test_address(self) -> None:
        """A server that is configured by address must have it in its certificate."""
        await self.proxy(await self.tls_backend("127.0.0.1"), upstream_tls=self.client_tls())
        await self.ask()

    async def test_name(self) -> None:
        """One that is configured by name must have the name, whatever address was found for it."""
        backend = await self.tls_backend("site.test")
        await self.proxy(upstream_tls=self.client_tls())
        spec = ServerSpec(address=InetAddress("site.test", backend.address.port))
        self.pool.replace([Server(spec, backend.address)])
        await self.ask()

    async def test_server_name(self) -> None:
        """`server_name` says what to look for instead, and is what the server is asked for."""
        pairs = (self.issue("first.test"), self.issue("site.test"))
        backend = await self.backend(echo, tls=ServerTLS(ListenerTLS(certificates=pairs)))
        await self.proxy(backend, upstream_tls=self.client_tls(server_name="site.test"))
        await self.ask()

    async def test_wildcard(self) -> None:
        """A wildcard certificate is for the names under it."""
        backend = await self.tls_backend("*.site.test")
        await self.proxy(backend, upstream_tls=self.client_tls(server_name="a.site.test"))
        await self.ask()

    async def test_unix(self) -> None:
        """A Unix socket may speak TLS; `server_name` says whose."""
        tls = self.server_tls("site.test")
        backend = await self.backend(echo, tls=tls, where=f"unix:{socket_path(self)}")
        await self.proxy(backend, upstream_tls=self.client_tls(server_name="site.test"))
        await self.ask()

    async def test_wrong_name(self) -> None:
        """A certificate for another name is refused."""
        bad = await self.tls_backend("other.test")
        await self.assert_refused(bad, "its certificate is not for site.test", server_name="site.test")

    async def test_wrong_address(self) -> None:
        """A certificate for another address is refused."""
        await self.assert_refused(await self.tls_backend("127.0.0.2"), "its certificate is not for 127.0.0.1")

    async def test_unknown_authority(self) -> None:
        """A certificate of somebody else's authority is refused."""
        await self.assert_refused(await self.tls_backend("127.0.0.1", ca=STRANGER), "of an unknown authority")

    async def test_expired(self) -> None:
        """A certificate that was valid once is refused."""
        then = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        bad = await self.tls_backend("127.0.0.1", not_before=then, not_after=then + datetime.timedelta(days=9))
        await self.assert_refused(bad, "its certificate has expired")

    async def test_plaintext(self) -> None:
        """A server that does not speak TLS has failed, even if it answers."""
        await self.assert_refused_plain(greeting(b"220 welcome\r\n"), "SSL")

    async def test_closes(self) -> None:
        """A server that closes during the handshake has failed."""
        await self.assert_refused_plain(send_and_close(b""), "")

    async def test_silent(self) -> None:
        """connect_timeout covers the handshake: a server that never answers it has failed."""
        await self.assert_refused_plain(None, "timed out")
        await until(lambda: self.backends[0].peers[0].lost)
        self.assertEqual(self.records[:], [])

    async def assert_refused_plain(self, behave, reason: str) -> None:
        bad = await self.backend(behave)
        good = await self.tls_backend("127.0.0.1")
        await self.proxy(bad, good, upstream_tls=self.client_tls(), connect_timeout=0.3)
        await self.ask()
        self.assertEqual([server.failures for server in self.pool.servers], [1, 0])
        self.assertIn(reason, self.heard.news[0])
        self.assertNotIn(b"secret", bytes(bad.peers[0].heard))

    async def test_last(self) -> None:
        """If there is no other server, the client is closed."""
        await self.proxy(await self.tls_backend("other.test"), upstream_tls=self.client_tls())
        client = await self.client()
        await until(lambda: client.lost)
        await self.over()
        self.assertEqual((self.records[0].status, self.pool.servers[0].failures), (502, 1))

    async def test_unverified(self) -> None:
        """With `verify: false` any certificate will do; the server is still asked for by name."""
        pairs = (self.issue("first.test", ca=STRANGER), self.issue("site.test", ca=STRANGER))
        backend = await self.backend(echo, tls=ServerTLS(ListenerTLS(certificates=pairs)))
        await self.proxy(backend, upstream_tls=self.client_tls(verify=False, server_name="site.test"))
        await self.ask()
        self.assertEqual(backend.peers[0].transport.getHandle().get_servername(), b"site.test")

    async def test_old_version(self) -> None:
        """Nothing older than TLS 1.2 is spoken."""
        tls = self.server_tls("127.0.0.1")
        tls._first.set_min_proto_version(SSL.TLS1_VERSION)
        tls._first.set_max_proto_version(SSL.TLS1_1_VERSION)
        tls._first.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        await self.assert_refused(await self.backend(echo, tls=tls), "SSL")

    async def test_close(self) -> None:
        """A server that answers and closes at once loses nothing, over TLS as well."""
        backend = await self.tls_backend("127.0.0.1", behave=send_and_close(sent := data(20)))
        await self.proxy(backend, upstream_tls=self.client_tls())
        client = await self.client()
        await until(lambda: client.lost)
        self.assertEqual((client.clean, digest(client.heard)), (True, digest(sent)))

    async def test_end_of_the_client(self) -> None:
        """The end of the client flushes what it sent, and closes both."""
        backend = await self.tls_backend("127.0.0.1", behave=None)
        await self.proxy(backend, upstream_tls=self.client_tls())
        client = await self.client(half_close=True)
        client.transport.write(sent := data(20))
        client.transport.loseWriteConnection()
        await until(lambda: client.ended)
        server = backend.peers[0]
        await until(lambda: server.lost)
        self.assertEqual((server.clean, digest(server.heard)), (True, digest(sent)))

    async def test_both_deaf(self) -> None:
        """TLS on both sides holds even less, 64 KiB a direction and what is around them, and loses nothing."""
        backend = await self.tls_backend("127.0.0.1", behave=None)
        await self.proxy(backend, tls=self.server_tls(), upstream_tls=self.client_tls())
        client = await TLSCase.client(self)
        client.transport.write(b"!")
        server = await backend.peer()
        await server.hears(b"!")
        server.heard.clear()
        self.assertLessEqual(await self.held_up(client, server), 136 * 1024)


class ClientTLSTests(TLSCase):
    def over(self, tls: ClientTLS, address) -> object:
        return tls.over(Backend(), Server(ServerSpec(address=address)), reactor)

    def test_names(self) -> None:
        """Addresses, names with underscores and names in other scripts can be verified; what is no name is an error."""
        tls = self.client_tls()
        for host in ("192.0.2.1", "::1", "my_service", "b\u00fccher.test"):
            self.over(tls, InetAddress(host, 443))
        self.over(tls, UnixAddress("/run/app"))
        for host in ("a..b", "x" * 64 + ".test"):
            self.assertRaises(ValueError, self.over, tls, InetAddress(host, 443))

    def test_unusable_authorities(self) -> None:
        """Authorities that are not there, or are none, are an error when they are loaded."""
        empty = self.folder / "empty.pem"
        empty.write_text("nothing")
        for path in ("/nowhere", str(empty)):
            self.assertRaises((OSError, SSL.Error), self.client_tls, ca=path)

    def test_system(self) -> None:
        """Without `ca` it is the system's authorities that count."""
        ClientTLS(UpstreamTLS())
