from __future__ import annotations

from tests.config.files import ConfigTestCase

POOLS = "pools: {a: {servers: [10.0.0.1:80]}, b: {servers: [10.0.0.2:80]}}\n"


def tcp(*listens: str) -> str:
    """Listeners `w0`, `w1`, ... of one line each from line 3 on."""
    lines = [f"  w{place}: {{protocol: {listen}, pool: a}}" for place, listen in enumerate(listens)]
    return POOLS + "listeners:\n" + "\n".join(lines) + "\n"


class Pools(ConfigTestCase):
    def test_unknown_pool(self) -> None:
        """Listeners and routes name pools that exist; the nearest one is suggested."""
        text = (
            "pools: {backend: {servers: [10.0.0.1:80]}}\n"
            "listeners:\n"
            "  t: {protocol: tcp, listen: 1, pool: bakend}\n"
            "  h: {protocol: http, listen: 2, pool: xyz}\n"
            "  r: {protocol: http, listen: 3, routes: [{path: /, pool: backend}, {path: /a, pool: backends}]}\n"
        )
        self.assertEqual(
            [
                'lb.yaml:3:39: listeners.t.pool: unknown pool "bakend", did you mean "backend"?',
                'lb.yaml:4:40: listeners.h.pool: unknown pool "xyz"',
                'lb.yaml:5:86: listeners.r.routes.1.pool: unknown pool "backends", did you mean "backend"?',
            ],
            self.mistakes(text),
        )

    def test_unused_pool(self) -> None:
        """A pool that nobody uses is fine."""
        self.assertEqual({"a", "b"}, set(self.load(tcp("tcp, listen: 1")).pools))

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

    def test_retries_in_one_way(self) -> None:
        text = (
            "pools: {a: {servers: [10.0.0.1:80], max_retries: 1, retry_budget: {}}}\n"
            "listeners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
        )
        wrong = '"retry_budget" takes the place of max_retries: leave one out'
        self.assertEqual([f"lb.yaml:1:37: pools.a.max_retries: {wrong}"], self.mistakes(text))

    def test_priority(self) -> None:
        """It is made of what all protocols have that use the pool."""
        text = (
            "pools: {a: {servers: [10.0.0.1:80], queue: {size: 1, priority: $http_x}}}\n"
            "listeners: {t: {protocol: %s, listen: 1, pool: a}}\n"
        )
        self.load(text % "http")
        expected = ['lb.yaml:1:64: pools.a.queue.priority: tcp has no "$http_x"']
        self.assertEqual(expected, self.mistakes(text % "tcp"))

    def test_outliers_alone(self) -> None:
        """Failures are counted in one way."""
        text = (
            "pools: {a: {servers: [10.0.0.1:80, {address: 10.0.0.2:80, max_fails: 2, fail_timeout: 5s}],\n"
            "  failure_window: sliding, outlier: {}}}\n"
            "listeners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
        )
        wrong = '"outlier" takes the place of max_fails, fail_timeout and failure_window: leave this out'
        expected = [
            f"lb.yaml:1:59: pools.a.servers.1.max_fails: {wrong}",
            f"lb.yaml:1:73: pools.a.servers.1.fail_timeout: {wrong}",
            f"lb.yaml:2:3: pools.a.failure_window: {wrong}",
        ]
        self.assertEqual(expected, self.mistakes(text))

    def test_all_backups(self) -> None:
        """Somebody must serve before a backup can; short forms are no backups."""
        listeners = "listeners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
        text = "pools: {a: {servers: [{address: 10.0.0.1:80, backup: true}, %s]}}\n" + listeners
        self.assertEqual(
            ["lb.yaml:1:22: pools.a.servers: every server is a backup, there is none to be a backup for"],
            self.mistakes(text % "{address: 10.0.0.2:80, backup: true}"),
        )
        self.assertEqual(2, len(self.load(text % "10.0.0.2:80").pools["a"].servers))

    def test_tls_towards_a_unix_socket(self) -> None:
        """What is to be verified must have a name."""
        self.write_certificate("site", "app.example")
        text = (
            "listeners: {t: {protocol: tcp, listen: 1, pool: a}}\n"
            "pools: {a: {servers: [unix:/run/a], tls: {ca: ca.pem%s}}}\n"
        )
        self.assertEqual(
            ['lb.yaml:2:42: pools.a.tls: "server_name" is missing: a Unix socket has no name to verify'],
            self.mistakes(text % ""),
        )
        for more in [", server_name: app.example", ", verify: false"]:
            self.load(text % more)

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

    def test_slow_start(self) -> None:
        """Where a key or the order alone says which server it is, no share can grow."""
        text = (
            "listeners: {w: {protocol: tcp, listen: 8080, pool: a}}\n"
            "pools:\n  a:\n    servers: [x:1, {address: y:1, slow_start: %s}]\n    balance: %s\n"
        )
        key = "key: $remote_addr"
        for balance, method, by in [
            (f"{{method: hash, {key}}}", "hash", "key"),
            (f"{{method: hash, {key}, consistent: true}}", "hash", "key"),
            (f"{{method: maglev, {key}}}", "maglev", "key"),
            ("ip_hash", "ip_hash", "address"),
            ("first", "first", "order"),
        ]:
            why = f"the {by} alone says which server it is, so no share can grow"
            problem = f'no "slow_start" with the method {method}: {why}'
            self.assertEqual(
                [f"lb.yaml:4:47: pools.a.servers.1.slow_start: {problem}"], self.mistakes(text % ("30s", balance))
            )
            self.load(text % ("0s", balance))
        for balance in ("round_robin", "least_conn", "random", "{method: least_time, metric: connect}"):
            self.load(text % ("30s", balance))

    def test_ring(self) -> None:
        """A consistent hash takes memory and time for each unit of weight; other methods do not."""
        text = (
            "listeners: {w: {protocol: tcp, listen: 8080, pool: a}}\n"
            "pools:\n  a:\n    servers: [x:1, {address: y:1, weight: %s}]\n"
            "    balance: {method: hash, key: $remote_addr, consistent: %s}\n"
        )
        problem = "the weights come to 50,001, and 50,000 is the most for a consistent hash: divide them all"
        self.assertEqual(self.mistakes(text % (50_000, "true")), [f"lb.yaml:4:14: pools.a.servers: {problem}"])
        self.load(text % (49_999, "true"))
        self.load(text % (50_000, "false"))

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


class Http(ConfigTestCase):
    def listener(self, keys: str) -> str:
        return POOLS + f"listeners:\n  h: {{protocol: http, listen: 1{keys}}}\n"

    def test_routes_or_pool(self) -> None:
        """An HTTP listener has routes, or one pool for everything, and not both."""
        for keys, message in [
            ("", '3:6: listeners.h: "routes" is missing (or "pool", for all requests)'),
            (
                ", pool: a, routes: [{path: /, pool: b}]",
                '3:34: listeners.h.pool: "pool" is short for one route; write "pool" or "routes", not both',
            ),
        ]:
            self.assertEqual([f"lb.yaml:{message}"], self.mistakes(self.listener(keys)))

    def test_one_way_to_match(self) -> None:
        """A route has one of path, exact and regex."""
        for route in ["{pool: a}", "{pool: a, host: a.example}", "{pool: a, path: /, exact: /}"]:
            self.assertEqual(
                ['lb.yaml:3:43: listeners.h.routes.0: a route has one of "path", "exact" and "regex"'],
                self.mistakes(self.listener(f", routes: [{route}]")),
            )

    def test_a_route_twice(self) -> None:
        """Of two routes that match the same, the second would never be reached."""
        routes = (
            ", routes: [{path: /, pool: a}, {path: /, host: A.example, pool: a}, {host: a.example, path: /, pool: b}]"
        )
        self.assertEqual(
            ["lb.yaml:3:100: listeners.h.routes.2: never reached, the route at lb.yaml:3:63 matches the same"],
            self.mistakes(self.listener(routes)),
        )


class Listening(ConfigTestCase):
    def test_taken(self) -> None:
        """An address is taken by itself, and by all addresses of its family, for each of TCP and UDP."""
        for first, second, message in [
            (
                "tcp, listen: 80",
                "tcp, listen: 80",
                '4:31: listeners.w1.listen: 0.0.0.0:80 is taken by "w0", 0.0.0.0:80',
            ),
            (
                "tcp, listen: 80",
                "tcp, listen: 127.0.0.1:80",
                '4:31: listeners.w1.listen: 127.0.0.1:80 is taken by "w0", 0.0.0.0:80',
            ),
            (
                "tcp, listen: 127.0.0.1:80",
                "tcp, listen: 80",
                '4:31: listeners.w1.listen: 0.0.0.0:80 is taken by "w0", 127.0.0.1:80',
            ),
            (
                "tcp, listen: '[::]:80'",
                "tcp, listen: '[::1]:80'",
                '4:31: listeners.w1.listen: [::1]:80 is taken by "w0", [::]:80',
            ),
            (
                "udp, listen: 53",
                "udp, listen: 127.0.0.1:53",
                '4:31: listeners.w1.listen: 127.0.0.1:53 is taken by "w0", 0.0.0.0:53',
            ),
            (
                "udp, reuseport: true, listen: 53",
                "udp, reuseport: true, listen: 53",
                '4:48: listeners.w1.listen: 0.0.0.0:53 is taken by "w0", 0.0.0.0:53',
            ),
            (
                "tcp, listen: unix:/run/a",
                "tcp, listen: unix:/run/../run/a",
                '4:31: listeners.w1.listen: unix:/run/a is taken by "w0", unix:/run/a',
            ),
        ]:
            place = f"3:{message.split(':')[1]}"
            self.assertEqual([f"lb.yaml:{message} at lb.yaml:{place}"], self.mistakes(tcp(first, second)))

    def test_taken_by_http(self) -> None:
        """HTTP is TCP."""
        text = tcp("tcp, listen: 80", "http, listen: 80")
        message = '4:32: listeners.w1.listen: 0.0.0.0:80 is taken by "w0", 0.0.0.0:80 at lb.yaml:3:31'
        self.assertEqual([f"lb.yaml:{message}"], self.mistakes(text))

    def test_taken_by_itself(self) -> None:
        """A listener cannot listen twice on one address."""
        message = '3:38: listeners.w0.listen.1: 0.0.0.0:80 is taken by "w0", 0.0.0.0:80 at lb.yaml:3:32'
        self.assertEqual([f"lb.yaml:{message}"], self.mistakes(tcp("tcp, listen: [80,   80]")))

    def test_free(self) -> None:
        """TCP beside UDP, IPv6 beside IPv4, other ports and other addresses."""
        for first, second in [
            ("tcp, listen: 53", "udp, listen: 53"),
            ("tcp, listen: 80", "tcp, listen: '[::]:80'"),
            ("tcp, listen: 80", "tcp, listen: 127.0.0.1:81"),
            ("tcp, listen: 127.0.0.1:80", "tcp, listen: 127.0.0.2:80"),
            ("tcp, listen: unix:/run/a", "tcp, listen: unix:/run/b"),
        ]:
            self.assertEqual(2, len(self.load(tcp(first, second)).listeners))

    def test_loop(self) -> None:
        """A listener that is a server of its own pool would ask itself."""
        for protocol, listen, server in [
            ("tcp", "127.0.0.1:80", "127.0.0.1:80"),
            ("http", "10.0.0.1:80", "10.0.0.1:80"),
            ("udp", "'[2001:db8::1]:53'", "'[2001:DB8:0::1]:53'"),
            ("tcp", "80", "127.9.9.9:80"),
            ("udp", "'[::]:53'", "'[::1]:53'"),
            ("tcp", "unix:/run/a", "unix:/run/b/../a"),
        ]:
            text = (
                f"pools: {{a: {{servers: [10.0.0.9:9, {server}]}}}}\n"
                f"listeners:\n  w: {{listen: {listen}, protocol: {protocol}, pool: a}}\n"
            )
            expected = 'this is the listener "w" itself, at lb.yaml:3:15: it would ask itself without end'
            self.assertEqual([f"lb.yaml:1:35: pools.a.servers.1: {expected}"], self.mistakes(text))

    def test_loop_of_routes(self) -> None:
        """So would one of whose routes this is true; each place is told."""
        text = (
            "pools: {a: {servers: [10.0.0.9:9]}, b: {servers: [{address: 127.0.0.1:80, backup: true}, 10.0.0.9:9]}}\n"
            "listeners:\n"
            "  w: {protocol: http, listen: [81, 80], routes: [{path: /, pool: a}, {path: /b, pool: b}]}\n"
        )
        expected = 'this is the listener "w" itself, at lb.yaml:3:36: it would ask itself without end'
        self.assertEqual([f"lb.yaml:1:61: pools.b.servers.0.address: {expected}"], self.mistakes(text))

    def test_no_loop(self) -> None:
        """Listeners that ask others are fine; so is whatever may not be itself: other ports, addresses, families, names."""
        for first, second, servers in [
            ("tcp, listen: 80", "http, listen: 81", ("127.0.0.1:81", "10.0.0.1:80")),
            ("tcp, listen: 80", "tcp, listen: '[::]:80'", ("10.0.0.1:80", "'[2001:db8::1]:80'")),
            ("tcp, listen: 80", "tcp, listen: 81", ("localhost:80", "'[::1]:80'")),
            ("tcp, listen: 127.0.0.1:80", "tcp, listen: 81", ("127.0.0.2:80", "unix:/run/a")),
        ]:
            text = (
                f"pools: {{a: {{servers: [{servers[0]}]}}, b: {{servers: [{servers[1]}]}}}}\nlisteners:\n"
                f"  w: {{protocol: {first}, pool: a}}\n  x: {{protocol: {second}, pool: b}}\n"
            )
            self.assertEqual(2, len(self.load(text).listeners))

    def test_none(self) -> None:
        """A configuration without a listener would serve nothing."""
        message = "no listeners, nothing would be served"
        self.assertEqual([f"lb.yaml:1:1: {message}"], self.mistakes(POOLS))
        self.assertEqual([f"lb.yaml:2:12: listeners: {message}"], self.mistakes(POOLS + "listeners: {}\n"))


class AllAtOnce(ConfigTestCase):
    def test_parts_with_mistakes_take_part(self) -> None:
        """What can be read of a part with mistakes of its own is compared with the others."""
        text = (
            "pools:\n"
            "  a: {servers: [{address: x, backup: true, weigt: 1}], balance: best}\n"
            "listeners:\n"
            "  t: {protocol: tcp, listen: [0, 80], pool: b, timeout: x}\n"
            "  u: {protocol: http, listen: 127.0.0.1:80, colour: red}\n"
            "  v: {protocol: tpc, listen: 80, pool: c}\n"
        )
        self.assertEqual(
            [
                "lb.yaml:2:16: pools.a.servers: every server is a backup, there is none to be a backup for",
                'lb.yaml:2:27: pools.a.servers.0.address: "x" has no port',
                'lb.yaml:2:44: pools.a.servers.0.weigt: unknown key "weigt", did you mean "weight"?',
                'lb.yaml:2:65: pools.a.balance: unknown balancing method "best"',
                "lb.yaml:4:31: listeners.t.listen.0: port 0 is not from 1 to 65535",
                'lb.yaml:4:45: listeners.t.pool: unknown pool "b"',
                'lb.yaml:4:57: listeners.t.timeout: must be a duration such as 500ms, 5s or 1m30s, not "x"',
                'lb.yaml:5:6: listeners.u: "routes" is missing (or "pool", for all requests)',
                'lb.yaml:5:31: listeners.u.listen: 127.0.0.1:80 is taken by "t", 0.0.0.0:80 at lb.yaml:4:34',
                'lb.yaml:5:45: listeners.u.colour: unknown key "colour"',
                'lb.yaml:6:17: listeners.v.protocol: unknown protocol "tpc", did you mean "tcp"?',
                'lb.yaml:6:40: listeners.v.pool: unknown pool "c"',
            ],
            self.mistakes(text),
        )
