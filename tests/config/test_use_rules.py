from __future__ import annotations

from tests.config.files import ConfigTestCase


class UseTests(ConfigTestCase):
    def test_failures_without_answers(self) -> None:
        """Only of HTTP it can be said what counts as a failure."""
        text = (
            "pools: {a: {servers: [10.0.0.1:80], fail_on: [http_5xx]}}\n"
            "listeners: {t: {protocol: %s, listen: 1, pool: a}}\n"
        )
        for protocol in ("tcp", "udp"):
            expected = f"{protocol} has no answers to judge, and a listener of {protocol} uses this pool"
            self.assertEqual([f"lb.yaml:1:37: pools.a.fail_on: {expected}"], self.mistakes(text % protocol))
        wrong = (text % "http").replace("http_5xx", "http_200")
        known = "error, timeout, invalid_header, http_4xx, http_5xx, or a status from http_400 to http_599"
        self.assertEqual(
            [f'lb.yaml:1:47: pools.a.fail_on.0: unknown value "http_200" (known: {known})'], self.mistakes(wrong)
        )
        self.assertEqual(frozenset({"http_5xx"}), self.load(text % "http").pools["a"].fail_on)

    def test_what_a_protocol_lacks(self) -> None:
        """Who cannot wait, nor be sent twice, nor makes connections is not in such a pool."""
        text = (
            "pools: {a: {servers: [10.0.0.1:80], queue: {size: 1}, max_pending: 1, hedge: 1s, max_retries: 1}}\n"
            "listeners: {t: {protocol: %s, listen: 1, pool: a}}\n"
        )
        self.load(text % "http")
        told = [mistake.split(": ", 2)[1:] for mistake in self.mistakes(text % "tcp")]
        uses = "and a listener of {} uses this pool"
        self.assertEqual(
            [["pools.a.hedge", f"tcp has no requests that could be sent twice, {uses.format('tcp')}"]], told
        )
        told = [mistake.split(": ", 2)[1:] for mistake in self.mistakes(text % "udp")]
        expected = [
            ["pools.a.queue", f"udp has no connections that could wait, {uses.format('udp')}"],
            ["pools.a.max_pending", f"udp makes no connections, {uses.format('udp')}"],
            ["pools.a.hedge", f"udp has no requests that could be sent twice, {uses.format('udp')}"],
        ]
        self.assertEqual(expected, told)

    def test_priority(self) -> None:
        """It is made of what all protocols have that use the pool."""
        text = (
            "pools: {a: {servers: [10.0.0.1:80], queue: {size: 1, priority: $http_x}}}\n"
            "listeners: {t: {protocol: %s, listen: 1, pool: a}}\n"
        )
        self.load(text % "http")
        expected = ['lb.yaml:1:64: pools.a.queue.priority: tcp has no "$http_x"']
        self.assertEqual(expected, self.mistakes(text % "tcp"))

    def test_key_of_a_hash(self) -> None:
        """It is made of what all protocols have that use the pool."""
        text = (
            "pools:\n  a: {servers: [x:1], balance: {method: hash, key: $arg_x}}\n"
            "  b: {servers: [x:1], balance: {method: hash, key: $remote_addr$remote_port}}\n"
            "listeners:\n  w: {protocol: http, listen: 81, routes: [{path: /, pool: a}, {path: /b, pool: b}]}\n"
            "  u: {protocol: udp, listen: 82, pool: b}\n"
        )
        self.load(text)
        self.assertEqual(
            ['lb.yaml:2:52: pools.a.balance.key: tcp has no "$arg_x"'],
            self.mistakes(text + "  t: {protocol: tcp, listen: 83, pool: a}\n"),
        )

    def test_metric(self) -> None:
        """The moment comes with every protocol that uses the pool."""
        balance = "balance: {method: least_time, metric: %s}"
        text = (
            f"pools:\n  a: {{servers: [x:1], {balance}}}\n"
            "listeners:\n  w: {protocol: http, listen: 81, routes: [{path: /, pool: a}]}\n"
            "  t: {protocol: tcp, listen: 83, pool: a}\n"
            "  v: {protocol: tcp, listen: 84, pool: a}\n"
        )
        self.load(text % "last_byte")
        for metric, protocol, has in [
            ("header", "tcp", "connect and first_byte and last_byte"),
            ("connect", "http", "header and last_byte"),
        ]:
            problem = f'{protocol} has no moment "{metric}", and a listener of {protocol} uses this pool (it has {has})'
            self.assertEqual([f"lb.yaml:2:61: pools.a.balance.metric: {problem}"], self.mistakes(text % metric))

    def test_last_byte_of_a_session(self) -> None:
        """It must be known which reply is the last."""
        text = (
            "pools:\n  a: {servers: [x:1], balance: {method: peak_ewma, metric: last_byte}}\n"
            "listeners:\n  u: {protocol: udp, listen: 81, pool: a%s}\n"
        )
        why = 'the pool "a" measures until the last byte, so "responses" must say which reply is the last'
        self.load(text % ", responses: 1")
        self.assertEqual([f"lb.yaml:4:40: listeners.u.pool: {why}"], self.mistakes(text % ""))
        self.assertEqual([f"lb.yaml:4:54: listeners.u.responses: {why}"], self.mistakes(text % ", responses: 0"))

    def test_udp(self) -> None:
        """Datagrams go to sockets that take datagrams, and are not encrypted."""
        text = (
            "pools:\n"
            "  u: {servers: [10.0.0.1:53, unix:/run/a]}\n"
            "  t: {servers: [10.0.0.1:53], tls: {verify: false}}\n"
            "listeners:\n"
            "  u: {protocol: udp, listen: 1, pool: u}\n"
            "  t: {protocol: udp, listen: 2, pool: t}\n"
        )
        self.assertEqual(
            [
                'lb.yaml:5:39: listeners.u.pool: the pool "u" has a Unix socket, which is a stream and takes no datagrams',
                'lb.yaml:6:39: listeners.t.pool: the pool "t" has "tls", which is for streams',
            ],
            self.mistakes(text),
        )
