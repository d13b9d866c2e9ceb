"""How does one HTTP listener use a pool?"""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import make_pool
from pylb.model import PoolSpec
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.http.upstream import HttpUpstream
from pylb.proxy.upstream import Limits, Upstream


class HttpUpstreamTests(SynchronousTestCase):
    def test_retried_statuses(self):
        """Of what is to be tried elsewhere, the statuses are known as numbers."""
        clock, spec = Clock(), PoolSpec(name="p", servers=())
        pool, idle = make_pool(spec, clock.seconds), IdleConnections(spec.keepalive, clock, clock.seconds)
        for listed, statuses in (
            ({"error", "timeout"}, set()),
            ({"http_429", "error", "http_503"}, {429, 503}),
            ({"http_500", "http_502", "http_503", "http_504", "http_429"}, {429, 500, 502, 503, 504}),
            ({"http_403", "http_404"}, {403, 404}),
        ):
            limits = Limits(next_upstream=frozenset(listed))
            upstream = HttpUpstream(upstream=Upstream(clock, pool, limits, clock.seconds), idle=idle)
            self.assertEqual((upstream.next_upstream, upstream.retried_statuses), (listed, statuses))
