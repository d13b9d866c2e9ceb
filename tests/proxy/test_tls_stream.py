"""How does a stream speak TLS?"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from pathlib import Path

import trustme
from cryptography import x509
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pylb.balance.server import Server
from pylb.model import Certificate, InetAddress, ListenerTLS, ServerSpec, UpstreamTLS
from pylb.proxy import tls
from pylb.proxy.identity import RESUMED, CertificateRefused
from pylb.proxy.poller import can_poll
from pylb.proxy.streams import Streams
from pylb.proxy.tls import ClientTLS, ServerTLS
from pylb.proxy.tls_stream import IMeetsPlain, TLSStream
from pylb.proxy.transport import Stream, make_stream
from tests.proxy.test_poller import Reactor
from tests.proxy.test_transport import MUCH, PEER, Notes, Producer

CA = trustme.CA()
#: A record of application data that nobody can read.
RUBBISH = b"\x17\x03\x03\x00\x20" + bytes(32)
RECORD = 16 * 1024


@implementer(IHandshakeListener)
class Listener(Notes):
    """Notes the end of the handshake, too."""

    def handshakeCompleted(self) -> None:
        self.heard.append("hands")


class Deaf(Protocol):
    """Notes only how it is lost."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def connectionLost(self, reason) -> None:
        self.heard.append(reason.type)


class Far:
    """The other end of a stream, with Python's own TLS, which hands over its bytes when the test says so."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_side=False, session=None) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "site.test"
        self.tls = context.wrap_bio(self.came, self.goes, server_side, name, session)
        #: The socket has ended.
        self.over = False

    def step(self, do, *given):
        """Do something over TLS with what has come; nothing if it cannot be done yet."""
        with contextlib.suppress(BlockingIOError):
            while not self.over:
                data = self.sock.recv(MUCH)
                self.came.write(data)
                self.over = not data
        try:
            return do(*given)
        except ssl.SSLWantReadError:
            return None
        finally:
            self.sock.sendall(self.goes.read())

    def read(self) -> bytes | None:
        """What comes; None at the stream's word that it ends."""
        data, piece = b"", b"-"
        while piece:
            try:
                piece = self.step(self.tls.read, RECORD)
            except ssl.SSLZeroReturnError:  # so it says after our own
                piece = b""
            data += piece or b""
        return None if piece == data == b"" else data

    def end(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.sock.sendall(self.goes.read())

    def write(self, data: bytes) -> None:
        self.step(self.tls.write, data)

    def sealed(self, data: bytes) -> bytes:
        """What would have to be sent for `data`."""
        self.tls.write(data)
        return self.goes.read()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Stubborn:
    """OpenSSL's side of a connection that first wants something else."""

    def __init__(self, tls: SSL.Connection, **wants: type[SSL.Error]) -> None:
        self._tls, self._wants = tls, wants

    def __getattr__(self, name):
        want = self._wants.pop(name, None)
        if want is None:
            return getattr(self._tls, name)

        def refuse(*given):
            raise want

        return refuse


class OneTLSStream(SynchronousTestCase):
    """A stream with its handshake done whose peer, a client, is in the test's hands."""

    if not can_poll(reactor):
        skip = "there are no streams on this system"

    version = ssl.TLSVersion.TLSv1_3
    kind = Listener

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.streams = Streams(self.reactor)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        leaf = CA.issue_cert("site.test")
        leaf.cert_chain_pems[0].write_to_path(folder / "site.pem")
        leaf.private_key_pem.write_to_path(folder / "site.key")
        CA.cert_pem.write_to_path(folder / "ca.pem")
        self.folder = folder
        pair = Certificate(cert=str(folder / "site.pem"), key=str(folder / "site.key"))
        self.server_tls = ServerTLS(ListenerTLS(certificates=(pair,)))
        self.context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        self.context.maximum_version = self.version
        self.connect()

    def connect(self, session=None) -> None:
        """Another stream and another client, with the handshake behind them."""
        mine = self.sockets()
        self.begin(self.server_tls.over(Factory.forProtocol(self.kind), self.reactor), mine)
        self.far = Far(self.peer, self.context, session=session)
        self.shake()

    def sockets(self) -> socket.socket:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname())
            mine, _ = listening.accept()
        for sock in (self.peer, mine):
            # Or the session tickets, which nobody answers, hold up what is written next.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.addCleanup(self.peer.close)
        self.addCleanup(mine.close)
        mine.setblocking(False)
        return mine

    def begin(self, factory, mine: socket.socket) -> None:
        self.stream = make_stream(factory, mine, self.streams, PEER)
        self.protocol = self.stream.protocol
        self.stream.startReading()
        self.stream.begin()

    def shake(self) -> None:
        for _ in range(3):
            self.far.step(self.far.tls.do_handshake)
            self.turn()

    def turn(self, count=1) -> list[object]:
        for _ in range(count):
            for each in list(self.reactor.readers):
                each.doRead()
            self.reactor.advance(0)
        return self.protocol.heard

    def drain(self) -> bytes:
        """All that the client hears until nothing comes any more."""
        data = b""
        while self.turn() is not None and (piece := self.far.read()):
            data += piece
        return data

    def heard(self) -> bytes:
        """What the protocol has heard in bytes."""
        return b"".join(each for each in self.protocol.heard if isinstance(each, bytes))


class HandshakeTests(OneTLSStream):
    """A stream whose handshake is yet to come."""

    def shake(self) -> None:
        """Not yet."""

    def test_interface(self) -> None:
        """It is a transport of TLS, though of TCP alone when nobody encrypts."""
        self.assertTrue(verifyObject(ISSLTransport, self.stream))
        plain = make_stream(Factory.forProtocol(Notes), self.sockets(), self.streams, PEER)
        self.assertFalse(ISSLTransport.providedBy(plain))

    def test_told(self) -> None:
        """The protocol hears when the handshake is over, once, and not before."""
        self.assertEqual(self.turn(), [])
        super().shake()
        self.assertEqual(self.turn(), ["hands"])

    def test_written_before(self) -> None:
        """What is written before waits for it, and nobody turns in circles meanwhile."""
        self.stream.write(b"early")
        self.turn()
        self.assertEqual(self.streams.getWriters(), [])
        super().shake()
        self.assertEqual(self.far.read(), b"early")

    def test_byte_by_byte(self) -> None:
        """A handshake may come in pieces."""
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.far.tls.do_handshake()
            for byte in self.far.goes.read():
                self.peer.send(bytes([byte]))
                self.turn()
            self.far.step(lambda: None)
        self.assertEqual(self.protocol.heard, ["hands"])

    def test_no_tls(self) -> None:
        """What is no TLS is refused with OpenSSL's reason."""
        self.peer.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(self.turn(), [SSL.Error])

    def test_plain(self) -> None:
        """A protocol that meets plain peers has a plain stream, with all that came; what begins as TLS goes to OpenSSL."""

        @implementer(IMeetsPlain)
        class Meets(Notes):
            def spoke_plainly(self) -> None:
                self.heard.append(type(self.transport))
                self.transport.write(b"no TLS")

        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\n"):
            self.kind = Meets
            self.connect()
            self.peer.send(said)
            self.assertEqual(self.turn(2), [Stream, said])
            self.assertEqual(self.peer.recv(MUCH), b"no TLS")
            self.stream.abortConnection()
            self.turn()
        for said in (RUBBISH.replace(b"\x17", b"\x16", 1), b"\x80\x2e\x01\x00\x02" + bytes(40)):
            self.connect()
            self.peer.send(said)
            self.assertEqual(self.turn(2), [SSL.Error])

    def test_leaves(self) -> None:
        """A peer that leaves, however it does, is lost."""
        for leave in (self.far.reset, lambda: self.far.sock.close(), lambda: self.far.sock.shutdown(socket.SHUT_WR)):
            leave()
            self.assertEqual(self.turn(), [ConnectionLost])
            self.connect()

    def test_close_cuts(self) -> None:
        """A protocol that closes before resets the connection."""
        self.stream.write(b"early")
        self.stream.loseConnection()
        self.assertEqual(self.turn(2), [ConnectionAborted])
        self.assertRaises(ConnectionResetError, self.peer.recv, 1)

    def test_socket_is_full(self) -> None:
        """While the socket takes nothing of a handshake, reading waits, too; then both go on."""
        self.stream._tls = Stubborn(self.stream._tls, do_handshake=SSL.WantWriteError)
        self.far.step(self.far.tls.do_handshake)
        for reader in self.reactor.readers:
            reader.doRead()
        self.assertEqual((self.streams.getReaders(), self.streams.getWriters()), ([], [self.stream]))
        super().shake()
        self.assertEqual((self.protocol.heard, self.streams.getWriters()), (["hands"], []))


class ReadTests(OneTLSStream):
    def test_whole_records(self) -> None:
        """A read takes two whole records at most; nothing waits in OpenSSL when it pauses, and nothing is forgotten."""
        sent = os.urandom(5 * RECORD + 100)
        self.far.write(sent)
        self.protocol.act = self.stream.pauseProducing
        self.turn(3)
        self.assertEqual((len(self.heard()), self.stream.getHandle().pending()), (2 * RECORD, 0))
        self.protocol.act = lambda: None
        self.stream.resumeProducing()
        self.turn(3)
        self.assertTrue(self.heard() == sent)
        self.assertEqual([len(piece) for piece in self.protocol.heard[1:]], [2 * RECORD, 2 * RECORD, RECORD + 100])

    def test_half_a_record(self) -> None:
        """Half a record is nothing; with the other half it is heard."""
        sealed = self.far.sealed(b"hello")
        self.peer.send(sealed[:9])
        self.assertEqual(self.turn(), ["hands"])
        self.peer.send(sealed[9:])
        self.assertEqual(self.turn(), ["hands", b"hello"])

    def test_data_and_the_end_at_once(self) -> None:
        """What comes with the peer's end in one packet is heard first, whole records, too."""
        for size in (5, RECORD):
            sealed = self.far.sealed(bytes(size))
            with contextlib.suppress(ssl.SSLWantReadError):
                self.far.tls.unwrap()
            self.peer.send(sealed + self.far.goes.read())
            self.assertEqual(self.turn(2), ["hands", bytes(size), "ended", ConnectionDone])
            self.connect()

    def test_socket_is_full(self) -> None:
        """When OpenSSL must send something before it reads on, reading waits for the socket."""
        self.stream._tls = Stubborn(self.stream._tls, recv=SSL.WantWriteError)
        self.far.write(b"hello")
        for reader in self.reactor.readers:
            reader.doRead()
        self.assertEqual((self.streams.getReaders(), self.streams.getWriters()), ([], [self.stream]))
        self.assertEqual(self.turn(2), ["hands", b"hello"])
        self.assertEqual(self.streams.getWriters(), [])

    def test_paused_while_the_socket_is_full(self) -> None:
        """A pause that comes meanwhile holds."""
        self.stream._tls = Stubborn(self.stream._tls, recv=SSL.WantWriteError)
        self.far.write(b"hello")
        for reader in self.reactor.readers:
            reader.doRead()
        self.stream.pauseProducing()
        self.assertEqual((self.turn(3), self.streams.getReaders()), (["hands"], []))
        self.stream.resumeProducing()
        self.assertEqual(self.turn(), ["hands", b"hello"])

    def test_rubbish(self) -> None:
        """What is not TLS any more loses the connection, with OpenSSL's reason."""
        self.peer.send(RUBBISH)
        self.assertEqual(self.turn(), ["hands", SSL.Error])

    def test_protocol_aborts(self) -> None:
        """A protocol that aborts over the last bytes hears of nothing but that."""
        self.protocol.act = self.stream.abortConnection
        sealed = self.far.sealed(bytes(RECORD))
        with contextlib.suppress(ssl.SSLWantReadError):
            self.far.tls.unwrap()
        self.peer.send(sealed + self.far.goes.read())
        self.assertEqual(self.turn(2)[2:], [ConnectionAborted])


class WriteTests(OneTLSStream):
    def test_at_once(self) -> None:
        """What is written is with the peer before `write` returns, in order, and nobody waits for the socket."""
        self.stream.write(b"one ")
        self.stream.write(b"")
        self.stream.writeSequence([b"two ", b"three"])
        self.assertEqual((self.far.read(), self.streams.getWriters()), (b"one two three", []))

    def test_busy(self) -> None:
        """What is written while several events are handed out is sent after the last of them, and before the end."""
        self.streams.is_busy = True
        self.stream.write(b"one ")
        self.stream.write(b"two")
        self.assertEqual(self.far.read(), b"")
        self.stream.loseConnection()
        self.turn()
        self.assertEqual(self.far.read(), b"one two")

    def test_the_rest_is_queued(self) -> None:
        """What the socket does not take is sent when it does, in order with what is written meanwhile."""
        sent = os.urandom(MUCH)
        self.stream.write(sent)
        self.stream.write(b"last")
        self.assertEqual(self.streams.getWriters(), [self.stream])
        self.assertTrue(self.drain() == sent + b"last")
        self.assertEqual(self.streams.getWriters(), [])

    def test_push_producer(self) -> None:
        """A push producer is paused while more than a buffer is queued."""
        self.stream.registerProducer(producer := Producer(), True)
        self.stream.write(b"little")
        self.assertEqual(producer.asked, [])
        self.stream.write(bytes(MUCH))
        self.assertEqual(producer.asked, ["pause"])
        self.drain()
        self.assertEqual(producer.asked, ["pause", "resume"])

    def test_pull_producer(self) -> None:
        """A pull producer is asked again and again."""
        self.stream.registerProducer(Producer(self.stream, 3), False)
        self.turn(5)
        self.assertEqual(self.far.read(), b"piece" * 3)

    def test_must_read_first(self) -> None:
        """When OpenSSL must read before it writes on, writing waits until something comes."""
        self.stream._tls = Stubborn(self.stream._tls, send=SSL.WantReadError)
        self.stream.write(b"answer")
        self.stream._tls._wants["send"] = SSL.WantReadError
        self.turn()
        self.assertEqual(self.streams.getWriters(), [])
        self.far.write(b"!")
        self.turn(2)
        self.assertEqual((self.far.read(), self.streams.getWriters()), (b"answer", []))

    def test_breaks(self) -> None:
        """When the peer is gone `write` returns, and afterwards the loss is told, once and as a loss."""
        for paused in (False, True):
            if paused:
                self.stream.pauseProducing()
            self.far.reset()
            self.stream.write(b"one")
            self.stream.write(b"two")
            self.assertEqual(self.protocol.heard, ["hands"])
            self.assertEqual(self.turn(3), ["hands", ConnectionLost])
            self.connect()

    def test_others_do_not_notice(self) -> None:
        """What OpenSSL has against one connection is not found with another."""
        broken, far = self.stream, self.far
        self.connect()
        far.reset()
        broken.write(b"!")
        self.peer.send(RUBBISH)
        self.assertEqual(self.stream.doRead().args[0][0][0], "SSL routines")


class EndTests(OneTLSStream):
    def test_peer_ends(self) -> None:
        """The peer's word that it ends is told; then what is queued is sent, our own word, and all is closed."""
        self.stream.write(bytes(MUCH))
        self.far.end()
        self.assertEqual(self.turn(), ["hands", "ended"])
        self.assertEqual((len(self.drain()), self.far.read()), (MUCH, None))
        self.assertEqual(self.turn(), ["hands", "ended", ConnectionDone])

    def test_without_a_word(self) -> None:
        """A peer that merely closes has ended, and is lost."""
        self.far.read()
        self.peer.close()
        self.assertEqual(self.turn(), ["hands", "ended", ConnectionLost])

    def test_reset(self) -> None:
        """One that resets has not."""
        self.far.reset()
        self.assertEqual(self.turn(), ["hands", ConnectionLost])

    def test_close(self) -> None:
        """To close is to send what is queued and our word, and to wait for the peer's; what it sends is dropped."""
        for end in (lambda: self.far.end(), lambda: self.peer.close(), lambda: self.far.reset()):
            self.stream.write(bytes(MUCH))
            self.stream.loseConnection()
            self.assertEqual(self.streams.getReaders(), [])
            self.assertEqual(len(self.drain()), MUCH)
            self.far.write(b"too late")
            self.assertEqual((self.turn(), self.far.read()), (["hands"], None))
            end()
            self.assertEqual(self.turn(2), ["hands", ConnectionDone])
            self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))
            self.connect()

    def test_close_at_once(self) -> None:
        """With nothing queued our word goes when the events at hand are handed out."""
        self.protocol.act = lambda: (self.stream.loseConnection(), self.stream.write(b"last"))
        self.far.write(b"!")
        self.turn()
        self.assertEqual((self.far.read(), self.far.read()), (b"last", None))
        self.stream.write(b"too late")
        self.stream.pauseProducing()
        self.stream.loseWriteConnection()
        self.assertEqual(self.turn(2), ["hands", b"!"])
        self.far.end()
        self.assertEqual(self.turn(2), ["hands", b"!", ConnectionDone])

    def test_producer_leaves_late(self) -> None:
        """Our word is said once, whenever the producer leaves."""
        self.stream.registerProducer(Producer(), True)
        self.stream.loseConnection()
        self.turn()
        self.stream.unregisterProducer()
        self.assertEqual(self.turn(2), ["hands"])
        self.far.end()
        self.assertEqual(self.turn(2), ["hands", ConnectionDone])

    def test_no_room_for_our_word(self) -> None:
        """If the socket does not take our word, it goes when it does."""
        self.stream._tls = Stubborn(self.stream._tls, shutdown=SSL.WantWriteError)
        self.stream.loseConnection()
        self.turn(2)
        self.assertIsNone(self.far.read())
        self.far.end()
        self.assertEqual(self.turn(), ["hands", ConnectionDone])

    def test_abort(self) -> None:
        """A connection that is aborted, closed before or not, is reset."""
        for close in (False, True):
            if close:
                self.stream.loseConnection()
                self.turn()
            self.far.read()
            self.stream.abortConnection()
            self.stream.write(b"too late")
            self.assertEqual(self.turn(2), ["hands", ConnectionAborted])
            self.connect()

    def test_producer_is_stopped(self) -> None:
        """A lost connection stops its producer and leaves nothing behind."""
        self.stream.registerProducer(producer := Producer(), True)
        self.far.reset()
        self.turn()
        self.assertEqual((producer.asked, self.reactor.readers, self.reactor.getDelayedCalls()), (["stop"], [], []))


class DeafEndTests(OneTLSStream):
    """The same ends for a protocol that knows of no half of a connection."""

    kind = Deaf

    def test_peer_ends(self) -> None:
        """After the peer's word the connection is closed."""
        self.far.end()
        self.assertEqual(self.turn(), [ConnectionDone])
        self.assertIsNone(self.far.read())

    def test_without_a_word(self) -> None:
        """Without, it is lost: what it sent may not be all."""
        self.far.read()
        self.peer.close()
        self.assertEqual(self.turn(), [ConnectionLost])


class ResumptionTests(OneTLSStream):
    def resumed(self) -> bool:
        """Whether another connection goes on with the session of the present one."""
        self.stream.write(b"!")
        self.far.read()
        session = self.far.tls.session
        self.connect(session)
        return self.far.tls.session_reused

    def test_resumes(self) -> None:
        """A client that comes back goes on with its session."""
        self.assertTrue(self.resumed())
        self.stream.write(b"hello")
        self.assertEqual((self.far.read(), self.far.tls.version()), (b"hello", "TLSv1.3"))

    def test_resumes_1_2(self) -> None:
        """So it does with TLS 1.2, by ticket or, if it takes none, by the session's number."""
        for tickets in (True, False):
            self.context.maximum_version = ssl.TLSVersion.TLSv1_2
            if not tickets:
                self.context.options |= ssl.OP_NO_TICKET
            self.connect()
            self.assertTrue(self.resumed(), tickets)
            self.assertEqual(self.far.tls.version(), "TLSv1.2")

    def test_not_for_long(self) -> None:
        """Clients are told to come back within five minutes."""
        self.stream.write(b"!")
        self.far.read()
        self.assertEqual(self.far.tls.session.ticket_lifetime_hint, 300)

    def test_other_listeners(self) -> None:
        """Another listener does not know the session."""
        self.stream.write(b"!")
        self.far.read()
        session = self.far.tls.session
        pair = Certificate(cert=str(self.folder / "site.pem"), key=str(self.folder / "site.key"))
        self.server_tls = ServerTLS(ListenerTLS(certificates=(pair,)))
        self.connect(session)
        self.assertEqual((self.far.tls.session_reused, self.turn()), (False, ["hands"]))


class TowardsServerTests(OneTLSStream):
    """The peer is a server."""

    def setUp(self) -> None:
        self.clock = Clock()
        super().setUp()

    def towards(self, **asked: object) -> ClientTLS:
        return ClientTLS(UpstreamTLS(ca=str(self.folder / "ca.pem"), **asked), self.clock.seconds)

    def connect(self) -> None:
        self.far_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.far_context.load_cert_chain(self.folder / "site.pem", self.folder / "site.key")
        self.client_tls = self.towards(server_name="site.test")
        self.dial(self.client_tls)

    def dial(self, client_tls: ClientTLS, address="192.0.2.7") -> None:
        """Another connection to the server."""
        server = Server(ServerSpec(address=InetAddress(address, 443)))
        mine = self.sockets()
        self.begin(client_tls.over(Factory.forProtocol(Listener), server, self.reactor), mine)
        self.far = Far(self.peer, self.far_context, server_side=True)
        self.turn()
        self.shake()

    def resumed(self, *towards) -> bool:
        """Whether another connection goes on with the session of the present one, which ends."""
        self.stream.loseConnection()
        self.turn()
        self.far.read()
        self.far.end()
        self.turn()
        self.dial(*towards or [self.client_tls])
        self.assertEqual(self.turn(), ["hands"])
        return self.far.tls.session_reused

    def test_speaks_first(self) -> None:
        """It begins the handshake, and is told when the server is verified."""
        self.stream.write(b"question")
        self.assertEqual((self.far.read(), self.turn()), (b"question", ["hands"]))
        self.assertIsInstance(self.stream, TLSStream)
        names = self.stream.getPeerCertificate().to_cryptography().extensions
        self.assertIn("site.test", str(names.get_extension_for_class(x509.SubjectAlternativeName).value))

    def test_refused(self) -> None:
        """A server that is not who it should be is refused."""
        self.assertRaises(OSError, self.dial, self.towards(server_name="other.test"))
        self.assertEqual(self.turn(), [CertificateRefused])

    def test_resumes(self) -> None:
        """The next connection to a server goes on with the session of the last one, and the next again."""
        self.assertEqual([self.resumed() for _ in range(3)], [True] * 3)

    def test_verified_again(self) -> None:
        """After an hour the server must show its certificate again, however often it has come back."""
        self.assertTrue(self.resumed())
        self.clock.advance(RESUMED - 1)
        self.assertTrue(self.resumed())
        self.clock.advance(1)
        self.assertFalse(self.resumed())
        self.assertTrue(self.resumed())

    def test_long_connection(self) -> None:
        """What counts is when the server was verified, not when its connection ended."""
        self.clock.advance(RESUMED)
        self.assertFalse(self.resumed())

    def test_whose_session(self) -> None:
        """A session is for the same pool and the same server only."""
        self.assertFalse(self.resumed(self.towards(server_name="site.test")))
        self.dial(self.client_tls)
        self.assertFalse(self.resumed(self.client_tls, "192.0.2.8"))

    def test_not_of_a_stranger(self) -> None:
        """Who is refused leaves no session, and takes nobody's away."""
        self.assertTrue(self.resumed())
        self.stream.loseConnection()
        known, self.far_context = self.far_context, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("site.test").configure_cert(self.far_context)
        for _ in range(2):
            self.assertRaises(OSError, self.dial, self.client_tls)
            self.assertEqual(self.turn(), [CertificateRefused])
        self.far_context = known
        self.dial(self.client_tls)
        self.assertTrue(self.far.tls.session_reused)

    def test_bounded(self) -> None:
        """So many servers are remembered; one more, and all are forgotten."""
        self.patch(tls, "_PEERS", 1)
        self.assertTrue(self.resumed())
        self.assertFalse(self.resumed(self.client_tls, "192.0.2.8"))
        self.assertTrue(self.resumed(self.client_tls, "192.0.2.8"))
        self.assertFalse(self.resumed())

    def test_unverified(self) -> None:
        """Where nobody verifies nothing is gone on with."""
        careless = self.towards(server_name="site.test", verify=False)
        self.dial(careless)
        self.assertFalse(self.resumed(careless))
