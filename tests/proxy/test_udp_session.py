"""pylb.proxy.udp_session: when a session is over, and what its server gets for it."""

from __future__ import annotations

import errno

from twisted.trial.unittest import SynchronousTestCase

from pylb.model import StickyLearn
from pylb.variables import KEY_VARIABLES
from tests.proxy.udp_fakes import World


class SessionTests(SynchronousTestCase):
    def world(self, **arguments) -> World:
        return World(self.patch, **arguments)

    def test_responses_and_requests(self):
        """After each datagram the listener's `responses` and `requests` decide, as in nginx.

        q is a client's datagram, r a reply in the oldest session; then: sessions opened, sessions that live, sessions
        that the client is bound to.
        """
        table = {
            (None, 0): {"q": (1, 1, 1), "qrqqr": (1, 1, 1)},
            (0, 0): {"q": (1, 0, 0), "qq": (2, 0, 0)},
            (1, 0): {"q": (1, 1, 1), "qr": (1, 0, 0), "qqr": (1, 1, 1), "qqrr": (1, 0, 0), "qrq": (2, 1, 1)},
            (2, 0): {"qr": (1, 1, 1), "qrr": (1, 0, 0)},
            (None, 1): {"q": (1, 1, 0), "qq": (2, 2, 0), "qqr": (2, 2, 0)},
            (1, 1): {"q": (1, 1, 0), "qqr": (2, 1, 0), "qqrr": (2, 0, 0)},
            (0, 2): {"q": (1, 1, 1), "qq": (1, 0, 0), "qqq": (2, 1, 1)},
            (1, 2): {"qr": (1, 1, 1), "qrq": (1, 1, 0), "qrqq": (2, 2, 1), "qrqr": (1, 0, 0), "qqqrr": (2, 1, 1)},
        }
        for (responses, requests), exchanges in table.items():
            for exchange, expected in exchanges.items():
                world = self.world(responses=responses, requests=requests)
                for step in exchange:
                    world.ask() if step == "q" else world.answer()
                seen = len(world.sockets), world.proxy.active, len(world.front.bindings)
                self.assertEqual(seen, expected, (responses, requests, exchange))
                self.assertEqual(world.leases, world.proxy.active)
                self.assertEqual(world.statuses, [200] * (expected[0] - expected[1]))

    def test_record(self):
        """A session is one record, written at its end."""
        world = self.world(responses=2)
        world.clock.advance(5)
        world.ask(datagram=b"12345")
        world.answer(b"123")
        self.assertEqual(world.records, [])
        world.port.takes = False
        world.answer(b"1234567")
        [record] = world.records
        self.assertEqual(
            {name: getattr(record, name) for name in record.__slots__ if getattr(record, name)},
            {
                "listener": "front",
                "protocol": "udp",
                "remote_addr": "192.0.2.1",
                "remote_port": 1,
                "pool": "dns",
                "started": 5.0,
                "status": 200,
                "tries": record.tries,
                "asked": record.asked,
                "bytes_received": 5,
                "upstream_bytes_sent": 5,
                "upstream_bytes_received": 10,
                "bytes_sent": 3,
            },
        )
        self.assertEqual([attempt.server for attempt in record.tries], ["10.0.0.1:53"])
        self.assertEqual(world.proxy.dropped, 1)

    def test_every_datagram_restarts_the_timeout(self):
        world = self.world(timeout=10.0)
        world.ask()
        for act in (world.ask, world.answer, world.ask, world.answer):
            world.clock.advance(9)
            act()
        world.clock.advance(9)
        self.assertEqual(world.proxy.active, 1)
        world.clock.advance(1)
        self.assertEqual((world.proxy.active, world.leases, world.statuses), (0, 0, [200]))

    def test_timeout_with_answers_missing(self):
        """Fewer answers than expected: status 502 and a failure of the server."""
        world = self.world(responses=2, timeout=10.0)
        world.ask()
        world.answer()
        world.clock.advance(10)
        self.assertEqual((world.statuses, world.pool.servers[0].failures), ([502], 1))

    def test_timeout_with_all_that_was_expected(self):
        """With any number of answers expected, or no more than came, a timeout is the normal end."""
        for spec in ({}, {"responses": 1, "requests": 2}):
            world = self.world(timeout=10.0, **spec)
            world.ask()
            world.answer()
            world.clock.advance(10)
            self.assertEqual((world.statuses, world.pool.servers[0].failures), ([200], 0))

    def test_refusal(self):
        """A refusal is a failure of the server and ends the session; the next datagram finds another server."""
        world = self.world(servers=2)
        world.ask()
        world.sockets[0].session.refused("Connection refused")
        self.assertEqual((world.statuses, world.proxy.active, world.leases), ([502], 0, 0))
        self.assertEqual([server.failures for server in world.pool.servers], [1, 0])
        for client in range(4):
            world.ask(client)
        self.assertEqual({sock.address.host for sock in world.sockets[1:]}, {"10.0.0.2"})

    def test_refusal_after_replies(self):
        """A server that answered and then refuses has failed."""
        world = self.world(servers=2)
        world.ask()
        world.answer()
        world.sockets[0].session.refused("Connection refused")
        self.assertEqual([server.failures for server in world.pool.servers], [1, 0])

    def test_refusal_met_while_sending(self):
        """An earlier refusal that only sending reveals: the datagram was not sent, so a new session takes it."""
        world = self.world(servers=2)
        world.ask(datagram=b"1")
        world.sockets[0].send_errors = [errno.ECONNREFUSED]
        world.ask(datagram=b"2")
        self.assertEqual([sock.sent for sock in world.sockets], [[b"1"], [b"2"]])
        self.assertEqual((world.statuses, world.proxy.active, world.leases), ([502], 1, 1))

    def test_datagram_the_kernel_does_not_take(self):
        """A full buffer or a datagram too long drops that datagram and blames nobody; no answer is expected for it."""
        for error in (errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE, errno.EPERM):
            world = self.world(responses=1)
            world.ask()
            world.sockets[0].send_errors = [error]
            world.ask()
            self.assertEqual((world.proxy.dropped, world.proxy.active), (1, 1))
            world.answer()
            self.assertEqual((world.statuses, world.pool.servers[0].failures), ([200], 0))

    def test_more_to_come(self):
        """A session expects no more replies once there are as many as requests; fewer or more, and others may follow."""
        world = self.world()
        world.ask()
        world.ask()
        reply = world.sockets[0].session.reply_arrived
        self.assertEqual([reply(b"r") for _ in range(3)], [True, False, True])

    def eject(self, world: World) -> None:
        """Let the first of two servers fail, and wait until it may be tried again."""
        world.ask(1)
        world.open_sockets()[0].session.refused("Connection refused")
        world.clock.advance(10.5)

    def test_first_reply_ends_a_trial(self):
        """A server on trial is believed at the first reply: its session may live on for hours."""
        world = self.world(servers=2, timeout=3600.0)
        self.eject(world)
        for client in (2, 3, 4):
            world.ask(client)
        [trial] = [sock for sock in world.open_sockets() if sock.address.host == "10.0.0.1"]
        self.assertTrue(world.pool.servers[0].health.ejected)
        trial.session.reply_arrived(b"r")
        self.assertFalse(world.pool.servers[0].health.ejected)

    def test_first_reply_ends_a_retry(self):
        """Without `responses` a session that had to try another server is no retry once that has answered."""
        world = self.world(servers=2)
        world.refusals.append(errno.ECONNREFUSED)
        world.ask()
        self.assertEqual((world.pool.retries, world.leases), (1, 1))
        world.answer()
        self.assertEqual((world.pool.retries, world.leases), (0, 1))

    def test_one_reply_of_two_ends_no_trial(self):
        """With `responses` the verdict waits for all of them."""
        world = self.world(servers=2, timeout=5.0, responses=2)
        self.eject(world)
        for client in (2, 3, 4):
            world.ask(client)
        [trial] = [sock for sock in world.open_sockets() if sock.address.host == "10.0.0.1"]
        trial.session.reply_arrived(b"r")
        self.assertTrue(world.pool.servers[0].health.ejected)
        trial.session.reply_arrived(b"r")
        self.assertFalse(world.pool.servers[0].health.ejected)

    def test_a_cut_session_whose_replies_have_come(self):
        """A session that is cut short while nothing is missing has shown that its server works."""
        world = self.world(servers=2, timeout=5.0, responses=1, requests=2)
        self.eject(world)
        for client in (2, 3, 4):
            world.ask(client)
        [trial] = [sock for sock in world.open_sockets() if sock.address.host == "10.0.0.1"]
        trial.session.reply_arrived(b"r")
        self.assertTrue(world.pool.servers[0].health.ejected)
        trial.session.cut()
        self.assertFalse(world.pool.servers[0].health.ejected)


class StickyTests(SynchronousTestCase):
    """Two servers, sessions by the client's address."""

    def setUp(self) -> None:
        self.serve()

    def serve(self, strict: bool = False, **arguments) -> None:
        variables = ("$remote_addr",)
        sticky = StickyLearn(create=variables, lookup=variables, timeout=60.0, strict=strict)
        self.world = World(self.patch, servers=2, sticky=sticky, **arguments)

    def asked(self, *clients: int) -> str:
        """The last digits of the servers that get datagrams from these ports of one client."""
        before = len(self.world.sockets)
        for client in clients:
            self.world.ask(client)
        return "".join(port.address.host[-1] for port in self.world.sockets[before:])

    def test_learned(self):
        """Sessions of one client go to one server, until it was silent for the timeout."""
        self.assertEqual(self.asked(1, 2, 3), "111")
        self.world.clock.advance(59)
        self.assertEqual(self.asked(4), "1")
        self.world.clock.advance(60)
        self.assertEqual(self.asked(5), "2")

    def test_failed(self):
        """A session that failed leaves nothing learned: the next one may go elsewhere, even if nobody is ejected."""
        self.serve(server={"max_fails": 0})
        self.assertEqual(self.asked(1), "1")
        self.world.sockets[0].session.refused("refused")
        self.assertEqual(len(self.world.pool.sticky), 0)
        self.assertEqual(self.asked(2), "2")

    def test_moved_and_stays(self):
        """When its server dies a client moves, and stays when the first one is back."""
        self.assertEqual(self.asked(1), "1")
        self.world.answer()
        self.assertEqual(self.asked(2), "1")
        self.world.sockets[1].session.refused("refused")
        self.assertEqual(self.asked(3), "2")
        self.world.clock.advance(11)
        self.assertEqual(self.asked(4, 5), "22")

    def test_moved_meanwhile(self):
        """A late failure does not take back what another server has got since."""
        self.assertEqual(self.asked(1), "1")
        self.world.pool.switch(self.world.pool.servers[0], "down")
        self.assertEqual(self.asked(2), "2")
        self.world.sockets[0].session.refused("refused")
        self.world.pool.switch(self.world.pool.servers[0], "up")
        self.assertEqual(self.asked(3), "2")

    def test_drain(self):
        """A server that drains serves those who belong to it."""
        self.assertEqual(self.asked(1), "1")
        self.world.pool.switch(self.world.pool.servers[0], "drain")
        self.assertEqual(self.asked(2), "1")

    def test_strict(self):
        """Datagrams whose server cannot serve are dropped; a session that failed does not lose the server it had."""
        self.serve(strict=True, server={"fail_timeout": 10.0})
        self.assertEqual(self.asked(1, 2), "11")
        self.world.sockets[1].session.refused("refused")
        self.assertEqual((self.asked(3), self.world.pool.refused), ("", 1))
        self.world.clock.advance(11)
        self.assertEqual(self.asked(4), "1")

    def test_variables(self):
        """A session answers for every variable of UDP, with the address that the datagram came to."""
        self.world.ask(7, local=b"10.0.0.9")
        session = self.world.sockets[0].session
        expected = {
            "binary_remote_addr": bytes([192, 0, 2, 1]),
            "remote_addr": b"192.0.2.1",
            "remote_port": b"7",
            "server_addr": b"10.0.0.9",
            "server_port": b"53",
        }
        self.assertEqual({name: session.variable(name) for name in KEY_VARIABLES["udp"]}, expected)
