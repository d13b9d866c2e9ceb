"""What a request asks of pylb."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import make_pool
from pylb.model import Keepalive, PoolSpec
from pylb.proxy.http.ask import REPLAYED, Ask
from pylb.proxy.http.head import BadHead, parse_request
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.http.upstream import HttpUpstream
from pylb.proxy.upstream import Limits, Upstream

UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
EXPECT = b"Expect: 100-continue\r\n"


def upstream(connections=32):
    clock, spec = Clock(), PoolSpec(name="p", servers=(), keepalive=Keepalive(connections=connections))
    pool, idle = make_pool(spec, clock.seconds), IdleConnections(spec.keepalive, clock, clock.seconds)
    return HttpUpstream(upstream=Upstream(clock, pool, Limits(), clock.seconds), idle=idle)


def ask(block=b"", method=b"GET", target=b"/", to=None, most=0):
    return Ask(parse_request(b"%b %b HTTP/1.1\r\nHost: a\r\n%b" % (method, target, block)), to or upstream(), most)


def length(number):
    return b"Content-Length: %d\r\n" % number


class RefusalTests(SynchronousTestCase):
    def test_too_long(self):
        """A body that is longer than it may be is refused with 413, whether there is a pool or not; 0 is no limit."""
        self.assertEqual([ask(length(n), most=10).refusal for n in (0, 10, 11)], [0, 0, 413])
        self.assertEqual(ask(length(10**12)).refusal, 0)
        head = parse_request(b"PUT / HTTP/1.1\r\nHost: a\r\n" + length(11))
        self.assertEqual([Ask(head, None, 10).refusal, Ask(head, None, 0).refusal], [413, 404])

    def test_framing(self):
        """A body that ends nobody knows where is no request."""
        self.assertRaises(BadHead, ask, length(1) + length(1))


class RepeatTests(SynchronousTestCase):
    def test_idempotent(self):
        """Which methods may be sent twice; of others nobody knows."""
        methods = [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"POST", b"PATCH", b"FROB"]
        self.assertEqual([ask(method=method).idempotent for method in methods], [True] * 5 + [False] * 3)

    def test_replayed(self):
        """Which bodies are kept as a whole: none, and short ones whose length was told."""
        blocks = [b"", length(0), length(REPLAYED), length(REPLAYED + 1), b"Transfer-Encoding: chunked\r\n"]
        self.assertEqual([ask(block).replayed for block in blocks], [True, True, True, False, False])

    def test_expects_continue(self):
        """Without a body there is nothing to wait for."""
        self.assertEqual([ask(EXPECT + length(n)).expects_continue for n in (0, 1)], [False, True])


class MessageTests(SynchronousTestCase):
    def message(self, *args, host=None, **options):
        asked = ask(*args, **options)
        return asked.message(b"X: client\r\n", host or asked.head.host)

    def test_plain(self):
        """What travels on, then what is said of the client."""
        self.assertEqual(self.message(b"A: 1\r\n"), b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nX: client\r\n\r\n")

    def test_own_host(self):
        """Another host is said where the client named none."""
        asked = Ask(parse_request(b"GET / HTTP/1.0\r\n"), upstream())
        self.assertEqual(asked.message(b"", b"me"), b"GET / HTTP/1.1\r\nHost: me\r\n\r\n")

    def test_expect(self):
        """Then the expectation and the framing."""
        end = b"X: client\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        self.assertTrue(self.message(EXPECT + length(1)).endswith(end))

    def test_connections_are_not_kept(self):
        """A server whose connections are not kept hears so; not if the connection is to become another protocol's."""
        self.assertTrue(self.message(to=upstream(0)).endswith(b"X: client\r\nConnection: close\r\n\r\n"))
        for to in (upstream(0), upstream()):
            self.assertTrue(self.message(UPGRADE, to=to).endswith(b"X: client\r\n" + UPGRADE + b"\r\n"))
