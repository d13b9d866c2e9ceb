"""Which outcomes count as the server's failure, and which are tried elsewhere: two questions."""

from twisted.trial.unittest import TestCase

from pylb.model import ServerSpec
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled
from tests.proxy.http.test_exchange import POST, Closing, Hanging, refused_address


def answer(status):
    return b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nno" % status


class FailOnTests(TestCase):
    timeout = 20

    async def outcome(self, rig, request=GET):
        """The status that the client got, how many servers were tried, and the failures of the first."""
        client = await rig.ask(request)
        await client.until(b"\r\n\r\n")
        await settled(lambda: rig.log.records)
        return rig.log.statuses[-1], len(rig.log.records[-1].tries), rig.pool.servers[0].failures

    def rig(self, bad, listed=(), fail_on=None):
        fail_on = None if fail_on is None else frozenset(fail_on)
        return Rig(self, bad, Backend(self, HELLO), next_upstream=frozenset(listed), fail_on=fail_on)

    async def test_refusals(self):
        """403 and 404 are tried elsewhere if listed, and count against nobody, as in nginx."""
        for status in (403, 404):
            rig = self.rig(Backend(self, answer(status)), {f"http_{status}"})
            self.assertEqual(await self.outcome(rig), (200, 2, 0))

    async def test_last_refusal(self):
        """The last one's 404 is the answer."""
        servers = [Backend(self, answer(404)), Backend(self, answer(404))]
        rig = Rig(self, *servers, next_upstream=frozenset({"http_404"}))
        self.assertEqual(await self.outcome(rig), (404, 2, 0))
        self.assertEqual([server.active for server in rig.pool.servers], [0, 0])

    async def test_refusal_that_counts(self):
        """Unless fail_on lists it."""
        rig = self.rig(Backend(self, answer(404)), {"http_404"}, {"http_404"})
        self.assertEqual(await self.outcome(rig), (200, 2, 1))

    async def test_counts_and_is_passed_on(self):
        """A status in fail_on is a failure, though the client gets it, and whatever the method."""
        for request in (GET, POST):
            for listed in ("http_503", "http_5xx"):
                rig = self.rig(Backend(self, answer(503)), fail_on={listed})
                self.assertEqual(await self.outcome(rig, request), (503, 1, 1))

    async def test_last_that_counts(self):
        """So is that of the last server that was tried."""
        servers = [Backend(self, answer(503)), Backend(self, answer(503))]
        rig = Rig(self, *servers, next_upstream=frozenset({"http_503"}), fail_on=frozenset({"http_5xx"}))
        self.assertEqual(await self.outcome(rig), (503, 2, 1))
        self.assertEqual(rig.pool.servers[1].failures, 1)

    async def test_others(self):
        """What fail_on does not list is no failure, also if it is tried elsewhere."""
        rig = self.rig(Backend(self, answer(503)), {"http_503"}, {"http_500", "http_4xx"})
        self.assertEqual(await self.outcome(rig), (200, 2, 0))

    async def test_ejects(self):
        """The failure ejects like any other."""
        rig = self.rig(Backend(self, answer(500)), fail_on={"http_500"})
        await self.outcome(rig)
        self.assertTrue(rig.pool.servers[0].health.ejected)

    async def test_no_quick_answer(self):
        """However quick it came, its time is not measured."""
        rig = self.rig(Backend(self, answer(500)), fail_on={"http_500"})
        rig.pool.metric = "header"
        measured = []
        rig.pool.measured = measured.append
        await self.outcome(rig)
        await self.outcome(rig)
        self.assertEqual([lease.server.failures for lease in measured], [0])
        self.assertEqual([server.waiting for server in rig.pool.servers], [0, 0])

    async def test_kinds(self):
        """error, timeout and invalid_header are failures only if fail_on lists them, retried or not."""
        kinds = {
            "error": lambda: Closing(self),
            "timeout": lambda: Hanging(self),
            "invalid_header": lambda: Backend(self, b"nonsense\r\n\r\n"),
        }
        for kind, make in kinds.items():
            for fail_on, failures in ((None, 1), ({kind}, 1), ({"http_5xx"}, 0)):
                bad = make()
                rig = self.rig(bad, {kind}, fail_on)
                client = await rig.ask(GET)
                await settled(lambda bad=bad: bad.heads)
                rig.time.advance(61 if kind == "timeout" else 0)
                await client.until(b"hello")
                self.assertEqual(rig.pool.servers[0].failures, failures, (kind, fail_on))

    async def test_not_connected(self):
        """The same goes for a server that cannot be reached."""
        for fail_on, failures in ((None, 1), (frozenset({"timeout"}), 0), (frozenset({"error"}), 1)):
            servers = [
                ServerSpec(address=await refused_address(self)),
                ServerSpec(address=Backend(self, HELLO).address),
            ]
            rig = Rig(self, servers=servers, fail_on=fail_on)
            self.assertEqual(await self.outcome(rig), (200, 2, failures))
