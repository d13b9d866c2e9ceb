from __future__ import annotations

import os
from typing import Any

from pylb import model
from pylb.config import from_dict
from pylb.model import InetAddress, Route, UnixAddress
from tests.config.files import ConfigTestCase

SERVER = (
    "listeners: {w: {protocol: tcp, listen: 8080, pool: a}}\npools:\n  a:\n    servers:\n      - 10.0.0.1:80\n      - "
)
POOL = "listeners: {w: {protocol: tcp, listen: 8080, pool: a}}\npools:\n  a:\n    servers: [10.0.0.1:80]\n    "
LISTENER = "pools: {a: {servers: [10.0.0.1:80]}}\nlisteners:\n  w:\n    listen: 127.0.0.1:8080\n    "
HTTP = LISTENER + "protocol: http\n    "
TCP = LISTENER + "protocol: tcp\n    pool: a\n    "
KNOWN = (
    " (known: error, http_403, http_404, http_429, http_500, http_502, http_503, http_504, invalid_header,"
    " non_idempotent, timeout; or off alone)"
)
UDP = LISTENER + "protocol: udp\n    pool: a\n    "
TOP = "pools: {a: {servers: [10.0.0.1:80]}}\nlisteners: {w: {protocol: tcp, listen: 8080, pool: a}}\n"


class _Table(ConfigTestCase):
    def refuses(self, beginning: str, table: list[tuple[str, str]]) -> None:
        """Each text, put after the beginning, gives that one message."""
        for text, message in table:
            self.assertEqual([f"lb.yaml:{message}"], self.mistakes(beginning + text + "\n"), text)


class ServerMistakes(_Table):
    def test_each(self) -> None:
        """Every way to get a server wrong, with its place."""
        self.refuses(
            SERVER,
            [
                (
                    "{address: 10.0.0.2:80, wieght: 3}",
                    '6:32: pools.a.servers.1.wieght: unknown key "wieght", did you mean "weight"?',
                ),
                ("{address: 10.0.0.2:80, colour: 3}", '6:32: pools.a.servers.1.colour: unknown key "colour"'),
                (
                    "{address: 10.0.0.2:80, weight: 0}",
                    "6:40: pools.a.servers.1.weight: must be from 1 to 2147483647, not 0",
                ),
                (
                    "{address: 10.0.0.2:80, weight: 1.5}",
                    '6:40: pools.a.servers.1.weight: must be a whole number, not "1.5"',
                ),
                (
                    "{address: 10.0.0.2:80, max_fails: -1}",
                    "6:43: pools.a.servers.1.max_fails: must be from 0 to 2147483647, not -1",
                ),
                (
                    "{address: 10.0.0.2:80, max_conns: x}",
                    '6:43: pools.a.servers.1.max_conns: must be a whole number, not "x"',
                ),
                (
                    "{address: 10.0.0.2:80, backup: on}",
                    '6:40: pools.a.servers.1.backup: must be true or false, not "on", write true',
                ),
                ("{address: 10.0.0.2:80, down: }", "6:32: pools.a.servers.1.down: has no value"),
                (
                    "{address: 10.0.0.2:80, fail_timeout: 5 s}",
                    '6:46: pools.a.servers.1.fail_timeout: must be a duration such as 500ms, 5s or 1m30s, not "5 s"',
                ),
                ("{weight: 2}", '6:9: pools.a.servers.1: "address" is missing'),
                ("10.0.0.2", '6:9: pools.a.servers.1: "10.0.0.2" has no port'),
                ("10.0.0.2:65536", "6:9: pools.a.servers.1: port 65536 is not from 1 to 65535"),
                ("8080", "6:9: pools.a.servers.1: 8080 is a port without a host"),
                (
                    "{address: 10.0.0.256:80}",
                    '6:19: pools.a.servers.1.address: "10.0.0.256" is no IP address and no host name',
                ),
                ("{address: }", "6:10: pools.a.servers.1.address: has no value"),
                ("[10.0.0.2:80]", "6:9: pools.a.servers.1: must be a mapping"),
                ("", "6:8: pools.a.servers.1: has no value"),
                (
                    "{address: 10.0.0.2:80, slow_start: -1s}",
                    '6:44: pools.a.servers.1.slow_start: must be a duration such as 500ms, 5s or 1m30s, not "-1s"',
                ),
                ("{address: 10.0.0.2:80, drain: 1}", "6:39: pools.a.servers.1.drain: must be true or false, not 1"),
                (
                    "{address: 10.0.0.2:80, drain: true, down: true}",
                    '6:9: pools.a.servers.1: "down" serves nobody, "drain" only those that belong to it: take one',
                ),
                (
                    "{address: 10.0.0.2:80, route: a b}",
                    "6:39: pools.a.servers.1.route: must be 1 to 32 characters that a cookie may hold "
                    '(no space and none of ",;\\), not "a b"',
                ),
                ("{address: 10.0.0.2:80, resolve: }", "6:32: pools.a.servers.1.resolve: has no value"),
                ("a.test", '6:9: pools.a.servers.1: "a.test" has no port'),
                ("{address: a.test, resolve: true}", '6:19: pools.a.servers.1.address: "a.test" has no port'),
                (
                    "{address: a.test:80, resolve: true, service: http}",
                    '6:19: pools.a.servers.1.address: the ports come with the "service": write "a.test" alone',
                ),
                (
                    "{address: a.test, service: http}",
                    '6:9: pools.a.servers.1: a "service" is followed in DNS: write "resolve: true" as well',
                ),
                (
                    "{address: a.test, resolve: true, service: a b}",
                    '6:51: pools.a.servers.1.service: "a b" is no service such as http or _http._tcp',
                ),
                *(
                    (
                        f"{{address: {address}, {more}}}",
                        f'6:9: pools.a.servers.1: a name can be followed in DNS, and "{address}" is none',
                    )
                    for address in ("10.0.0.2:80", "unix:/run/a")
                    for more in ("resolve: true", "service: http")
                ),
            ],
        )


class PoolMistakes(_Table):
    def test_each(self) -> None:
        """Every way to get a pool wrong, with its place."""
        self.refuses(
            POOL,
            [
                *(
                    (
                        f"balance: {by_time}",
                        '5:14: pools.a.balance: "metric" is missing: until when is the time measured? header or last_byte'
                        " for http, connect or first_byte or last_byte for tcp, first_byte or last_byte for udp",
                    )
                    for by_time in ("least_time", "{method: peak_ewma}", "{method: random, two: least_time}")
                ),
                (
                    "balance: {method: random, metric: connect}",
                    '5:14: pools.a.balance: "metric" needs "two: least_time": else random compares no times',
                ),
                (
                    "balance: {method: least_conn, metric: connect}",
                    '5:14: pools.a.balance: "metric" belongs to the method least_time or peak_ewma or random,'
                    " not to least_conn",
                ),
                (
                    "balance: {method: least_time, metric: head}",
                    '5:43: pools.a.balance.metric: must be "connect" or "first_byte" or "header" or "last_byte",'
                    ' not "head"',
                ),
                (
                    "balance: {method: peak_ewma, metric: connect, inflight: true}",
                    '5:14: pools.a.balance: "inflight" belongs to the method least_time, not to peak_ewma',
                ),
                (
                    "balance: hash",
                    '5:14: pools.a.balance: "key" is missing: what is to be hashed, such as $remote_addr?',
                ),
                (
                    "balance: {method: random, key: $remote_addr}",
                    '5:14: pools.a.balance: "key" belongs to the method hash or maglev, not to random',
                ),
                (
                    "balance: maglev",
                    '5:14: pools.a.balance: "key" is missing: what is to be hashed, such as $remote_addr?',
                ),
                (
                    "balance: {method: maglev, key: $remote_addr, consistent: true}",
                    '5:14: pools.a.balance: "consistent" belongs to the method hash, not to maglev',
                ),
                (
                    "balance: {method: least_conn, bounded_load: 2}",
                    '5:14: pools.a.balance: "bounded_load" belongs to the method hash or maglev, not to least_conn',
                ),
                (
                    "balance: {method: hash, key: $remote_addr, bounded_load: 1.25}",
                    '5:14: pools.a.balance: "bounded_load" needs "consistent: true": else a key has no next server to'
                    " go on to",
                ),
                (
                    "balance: {method: maglev, key: $remote_addr, bounded_load: 0.9}",
                    '5:64: pools.a.balance.bounded_load: must be from 1 to 1000, not "0.9"',
                ),
                (
                    "balance: {method: hash, key: all}",
                    '5:34: pools.a.balance.key: the key "all" is the same for all: name a variable, such as $remote_addr',
                ),
                (
                    "balance: {method: hash, key: $remote_adr}",
                    '5:34: pools.a.balance.key: no protocol has a "$remote_adr", did you mean "$remote_addr"?',
                ),
                ("balance: {method: hash, key: a$}", '5:34: pools.a.balance.key: a "$" without the name of a variable'),
                (
                    "balance: {method: random, two: ip_hash}",
                    '5:36: pools.a.balance.two: must be "least_conn" or "least_time", not "ip_hash"',
                ),
                (
                    "balance: {method: least_conn, two: least_conn}",
                    '5:14: pools.a.balance: "two" belongs to the method random, not to least_conn',
                ),
                ("balance: {two: least_conn}", '5:14: pools.a.balance: "method" is missing'),
                (
                    "balance: rond_robin",
                    '5:14: pools.a.balance: unknown balancing method "rond_robin", did you mean "round_robin"?',
                ),
                (
                    "balance: {method: hsh}",
                    '5:23: pools.a.balance.method: unknown balancing method "hsh", did you mean "hash"?',
                ),
                ("balance: best", '5:14: pools.a.balance: unknown balancing method "best"'),
                ("balance: [x]", "5:14: pools.a.balance: unknown balancing method \"['x']\""),
                ("balance:", "5:5: pools.a.balance: has no value"),
                ("sticky: {}", '5:13: pools.a.sticky: "type" is missing'),
                ("health_check:", "5:5: pools.a.health_check: has no value"),
                ("queue: {}", '5:12: pools.a.queue: "size" is missing'),
                ("queue: {size: 0}", "5:19: pools.a.queue.size: must be from 1 to 2147483647, not 0"),
                (
                    "queue: {size: 1, priority: 5}",
                    '5:32: pools.a.queue.priority: must name a variable, such as $http_x_priority, not "5"',
                ),
                ("queue: {size: 1, priority: $x}", '5:32: pools.a.queue.priority: no protocol has a "$x"'),
                ("max_pending: -1", "5:18: pools.a.max_pending: must be from 0 to 2147483647, not -1"),
                ("max_retries: some", '5:18: pools.a.max_retries: must be a whole number, not "some"'),
                ("retry_budget: {percent: 101}", "5:29: pools.a.retry_budget.percent: must be from 0 to 100, not 101"),
                ("failure_window: 5s", '5:21: pools.a.failure_window: must be "nginx" or "sliding", not "5s"'),
                ("last_usable: kept", '5:18: pools.a.last_usable: must be "eject" or "keep", not "kept"'),
                ("panic_threshold: 101", "5:22: pools.a.panic_threshold: must be from 0 to 100, not 101"),
                ("keepalive: 32", "5:16: pools.a.keepalive: must be a mapping"),
                (
                    "keepalive: {conections: 1}",
                    '5:17: pools.a.keepalive.conections: unknown key "conections", did you mean "connections"?',
                ),
                ("keepalive: {requests: 0}", "5:27: pools.a.keepalive.requests: must be from 1 to 2147483647, not 0"),
                ("keepalive: {time: 0}", "5:23: pools.a.keepalive.time: must be longer than 0"),
                ("tls: true", "5:10: pools.a.tls: must be a mapping"),
                (
                    "tls: {verify: false, server_name: a b}",
                    '5:39: pools.a.tls.server_name: "a b" is no IP address and no host name',
                ),
                ("tls: {verify: false, sni: x}", '5:26: pools.a.tls.sni: unknown key "sni"'),
                ("severs: []", '5:5: pools.a.severs: unknown key "severs", did you mean "servers"?'),
            ],
        )

    def test_shape(self) -> None:
        """A pool that is no mapping, has no servers or a name that cannot stand in a log."""
        listeners = "listeners: {w: {protocol: tcp, listen: 8080, pool: a}}\n"
        self.refuses(
            listeners,
            [
                ("pools: {a: {servers: []}}", "2:22: pools.a.servers: must not be empty"),
                ("pools: {a: {servers: 10.0.0.1:80}}", "2:22: pools.a.servers: must be a list"),
                ("pools: {a: {}}", '2:12: pools.a: "servers" is missing'),
                ("pools: {a: }", "2:9: pools.a: has no value"),
                ("pools: {a: 5}", "2:12: pools.a: must be a mapping"),
                (
                    'pools: {a: {servers: [10.0.0.1:80]}, "b c": {servers: [10.0.0.1:80]}}',
                    '2:38: pools.b c: the name "b c" may hold letters, digits and _ . - only, 64 at most',
                ),
            ],
        )


class ListenerMistakes(_Table):
    def test_tcp(self) -> None:
        """Every way to get a TCP listener wrong, with its place."""
        self.refuses(
            TCP,
            [
                ("mode: 660", '7:11: listeners.w.mode: must be four octal digits such as "0660", not 660'),
                ("backlog: 0", "7:14: listeners.w.backlog: must be from 1 to 2147483647, not 0"),
                ("reuseport: 1", "7:16: listeners.w.reuseport: must be true or false, not 1"),
                ("connect_timeout: 0", "7:22: listeners.w.connect_timeout: must be longer than 0"),
                (
                    "proxy_connect_timeout: 3s",
                    '7:5: listeners.w.proxy_connect_timeout: unknown key "proxy_connect_timeout"'
                    ', did you mean "connect_timeout"?',
                ),
                (
                    "next_upstream: off",
                    '7:20: listeners.w.next_upstream: must be true or false, not "off", write false',
                ),
                ("next_upstream: [error]", "7:20: listeners.w.next_upstream: must be true or false, not a list"),
                (
                    "next_upstream_tries: -1",
                    "7:26: listeners.w.next_upstream_tries: must be from 0 to 2147483647, not -1",
                ),
                (
                    "read_timeout: 5s",
                    '7:5: listeners.w.read_timeout: "read_timeout" is not for this protocol, but for http',
                ),
                ("requests: 1", '7:5: listeners.w.requests: "requests" is not for this protocol, but for udp'),
                ("accept_proxy_protocol: false", "7:5: listeners.w.accept_proxy_protocol: not supported yet"),
                ('send_proxy_protocol: "off"', "7:5: listeners.w.send_proxy_protocol: not supported yet"),
                ("tls: {}", '7:10: listeners.w.tls: "certificates" is missing'),
                ("tls: {certificates: []}", "7:25: listeners.w.tls.certificates: must not be empty"),
            ],
        )

    def test_udp(self) -> None:
        """Every way to get a UDP listener wrong, with its place."""
        self.refuses(
            UDP,
            [
                ("responses: x", '7:16: listeners.w.responses: must be a whole number, not "x"'),
                ("max_sessions: 0", "7:19: listeners.w.max_sessions: must be from 1 to 2147483647, not 0"),
                ("half_close: true", '7:5: listeners.w.half_close: "half_close" is not for this protocol, but for tcp'),
                ("tls: {}", '7:5: listeners.w.tls: "tls" is not for this protocol, but for http and tcp'),
            ],
        )
        self.refuses(
            "pools: {a: {servers: [10.0.0.1:80]}}\n",
            [
                (
                    "listeners: {w: {protocol: udp, listen: unix:/run/x, pool: a}}",
                    "2:40: listeners.w.listen: a udp listener cannot listen on a Unix socket",
                )
            ],
        )

    def test_http(self) -> None:
        """Every way to get an HTTP listener wrong, with its place."""
        self.refuses(
            HTTP + "pool: a\n    ",
            [
                (
                    "next_upstream: [eror]",
                    '7:20: listeners.w.next_upstream: unknown value "eror", did you mean "error"?',
                ),
                (
                    "next_upstream: [x]",
                    '7:20: listeners.w.next_upstream: unknown value "x"' + KNOWN,
                ),
                (
                    "next_upstream: []",
                    '7:20: listeners.w.next_upstream: must be a list such as [error, timeout], or "off"',
                ),
                (
                    "next_upstream: true",
                    '7:20: listeners.w.next_upstream: must be a list such as [error, timeout], or "off"',
                ),
                (
                    "next_upstream: [[]]",
                    '7:20: listeners.w.next_upstream: unknown value "[]"' + KNOWN,
                ),
                (
                    "client_max_body_size: 10q",
                    '7:27: listeners.w.client_max_body_size: must be a size such as 512, 16k, 10m or 1g, not "10q"',
                ),
                ("half_close: true", '7:5: listeners.w.half_close: "half_close" is not for this protocol, but for tcp'),
            ],
        )

    def test_routes(self) -> None:
        """Every way to get a route wrong, with its place."""
        self.refuses(
            HTTP + "routes:\n      - ",
            [
                (
                    "{pool: a, path: api}",
                    '7:25: listeners.w.routes.0.path: must begin with / and hold no space, ? or #, not "api"',
                ),
                (
                    "{pool: a, exact: '/a?b'}",
                    '7:26: listeners.w.routes.0.exact: must begin with / and hold no space, ? or #, not "/a?b"',
                ),
                (
                    "{pool: a, regex: '('}",
                    '7:26: listeners.w.routes.0.regex: "(" is no regular expression: '
                    "missing ), unterminated subpattern at position 0",
                ),
                (
                    r"{pool: a, regex: '\u002ejs$'}",
                    r'7:26: listeners.w.routes.0.regex: "\\u002ejs$" is no regular expression: bad escape \u at position 0',
                ),
                (
                    "{pool: a, regex: '(?u)a'}",
                    '7:26: listeners.w.routes.0.regex: "(?u)a" is no regular expression: '
                    "bad inline flags: cannot use 'u' flag with a bytes pattern at position 3",
                ),
                (
                    r"{pool: a, regex: '\N{DIGIT ONE}'}",
                    r'7:26: listeners.w.routes.0.regex: "\\N{DIGIT ONE}" is no regular expression: '
                    r"bad escape \N at position 0",
                ),
                (
                    "{pool: a, path: /, host: '*'}",
                    '7:34: listeners.w.routes.0.host: "*" is no IP address and no host name',
                ),
                ("{path: /}", '7:9: listeners.w.routes.0: "pool" is missing'),
                ("/", "7:9: listeners.w.routes.0: must be a mapping"),
            ],
        )
        self.refuses(HTTP, [("routes: []", "6:13: listeners.w.routes: must not be empty")])

    def test_shape(self) -> None:
        """A listener that is no mapping, or without the keys that each needs."""
        self.refuses(
            "pools: {a: {servers: [10.0.0.1:80]}}\n",
            [
                ("listeners: {w: }", "2:13: listeners.w: has no value"),
                ("listeners: {w: 80}", "2:16: listeners.w: must be a mapping"),
                ("listeners: {w: {listen: 80}}", '2:16: listeners.w: "protocol" is missing (http, tcp or udp)'),
                (
                    "listeners: {w: {protocol: htpp}}",
                    '2:27: listeners.w.protocol: unknown protocol "htpp", did you mean "http"?',
                ),
                (
                    "listeners: {w: {protocol: []}}",
                    '2:27: listeners.w.protocol: unknown protocol "[]", must be http, tcp or udp',
                ),
                ("listeners: {w: {protocol: }}", "2:17: listeners.w.protocol: has no value"),
                ("listeners: {w: {protocol: tcp, listen: 80}}", '2:16: listeners.w: "pool" is missing'),
                ("listeners: {w: {protocol: tcp, pool: a}}", '2:16: listeners.w: "listen" is missing'),
                ("listeners: {w: {protocol: tcp, pool: a, listen: }}", "2:41: listeners.w.listen: has no value"),
                ("listeners: {w: {protocol: tcp, pool: a, listen: []}}", "2:49: listeners.w.listen: must not be empty"),
                (
                    "listeners: {w: {protocol: tcp, pool: a, listen: [80, 0]}}",
                    "2:54: listeners.w.listen.1: port 0 is not from 1 to 65535",
                ),
                (
                    "listeners: {w: {protocol: tcp, pool: a, listen: 0}}",
                    "2:49: listeners.w.listen: port 0 is not from 1 to 65535",
                ),
                (
                    "listeners: {w: {protocol: tcp, pool: a, listen: {}}}",
                    "2:49: listeners.w.listen: must be text, not a mapping",
                ),
                ("listeners: [x]", "2:12: listeners: must be a mapping"),
            ],
        )


class TopMistakes(_Table):
    def test_each(self) -> None:
        """Every way to get the top of the file wrong, with its place."""
        self.refuses(
            TOP,
            [
                ("polls: {}", '3:1: polls: unknown key "polls", did you mean "pools"?'),
                ("workers: all", '3:10: workers: must be a whole number, not "all"'),
                ("workers: 257", "3:10: workers: must be from 1 to 256, not 257"),
                ("workers: 0", "3:10: workers: must be from 1 to 256, not 0"),
                ("workers: many", '3:10: workers: must be a whole number, not "many"'),
                ("resolver: 10.0.0.53", "3:11: resolver: must be a mapping"),
                ("resolver: {addresses: []}", "3:23: resolver.addresses: must not be empty"),
                (
                    "resolver: {addresses: [dns.test]}",
                    '3:24: resolver.addresses.0: "dns.test" is a name; write the IP address of the DNS server',
                ),
                ("resolver: {valid: 0}", "3:19: resolver.valid: must be longer than 0"),
                (
                    "resolver: {ipv4: false, ipv6: false}",
                    '3:11: resolver: "ipv4" and "ipv6" are both off: there would be no addresses',
                ),
                ("admin: {listen: 127.0.0.1:9900}", "3:1: admin: not supported yet"),
                (
                    "shutdown_timeout: soon",
                    '3:19: shutdown_timeout: must be a duration such as 500ms, 5s or 1m30s, not "soon"',
                ),
                ("max_connections: -1", "3:18: max_connections: must be from 0 to 2147483647, not -1"),
                ("trusted_proxies: 10.0.0.0/8", "3:18: trusted_proxies: must be a list"),
                (
                    "trusted_proxies: [10.0.0.1/8]",
                    '3:19: trusted_proxies.0: "10.0.0.1/8" is an address inside a network, did you mean "10.0.0.0/8"?',
                ),
                ("access_log: off", "3:13: access_log: must be a mapping"),
                (
                    "access_log: {format: jsn}",
                    '3:22: access_log.format: "jsn" is neither a format nor a template of variables, did you mean "json"?',
                ),
                (r'access_log: {format: "a\nb"}', "3:22: access_log.format: must be one line of printable characters"),
                (r'access_log: {path: "a\0b"}', r'3:20: access_log.path: "a\u0000b" is no path'),
                ("include: a.yaml", "3:10: include: must be a list"),
                ("include: [5]", "3:11: include.0: must be text, not 5"),
                (r'include: ["a\0b"]', r'3:11: include.0: "a\u0000b" is no pattern of files'),
            ],
        )


class Built(ConfigTestCase):
    """What a right configuration becomes."""

    def pool(self, **keys: object) -> model.PoolSpec:
        return self.config(pools={"a": {"servers": ["10.0.0.1:80"], **keys}}).pools["a"]

    def listener(self, **keys: object) -> model.Listener:
        return self.config(listeners={"w": {"listen": 8080, **keys}}).listeners["w"]

    def config(self, **keys: Any) -> model.Config:
        whole = {
            "pools": {"a": {"servers": ["10.0.0.1:80"]}},
            "listeners": {"w": {"protocol": "tcp", "listen": 8080, "pool": "a"}},
        }
        return from_dict({**whole, **keys})

    def test_defaults_are_the_models(self) -> None:
        """What is not written is left to the model."""
        server = model.ServerSpec(address=InetAddress("10.0.0.1", 80))
        listen = (InetAddress("0.0.0.0", 8080),)
        expected = model.Config(
            pools={"a": model.PoolSpec(name="a", servers=(server,))},
            listeners={"w": model.TcpListener(name="w", listen=listen, pool="a")},
        )
        self.assertEqual(expected, self.config())
        self.assertEqual(model.AccessLog(), self.config(access_log={}).access_log)
        self.assertEqual(model.UdpListener(name="w", listen=listen, pool="a"), self.listener(protocol="udp", pool="a"))

    def test_server(self) -> None:
        """Every key of a server, and the short form."""
        long = {
            "address": "unix:/run/a",
            "weight": 3,
            "backup": True,
            "down": True,
            "max_fails": 0,
            "fail_timeout": "1m",
            "max_conns": 9,
        }
        expected = model.ServerSpec(
            address=UnixAddress("/run/a"),
            weight=3,
            backup=True,
            down=True,
            max_fails=0,
            fail_timeout=60.0,
            max_conns=9,
        )
        short = model.ServerSpec(address=InetAddress("a.example", 80))
        self.assertEqual((expected, short), self.pool(servers=[long, "a.example:80"]).servers)

    def test_followed(self) -> None:
        """A name that is followed has a port, a service has its own."""
        name, service = self.pool(
            servers=[
                {"address": "a.example:80", "resolve": True},
                {"address": "a.example", "resolve": True, "service": "http"},
            ]
        ).servers
        self.assertEqual(model.ServerSpec(address=InetAddress("a.example", 80), resolve=True), name)
        self.assertEqual(model.ServerSpec(address=InetAddress("a.example", 0), resolve=True, service="http"), service)

    def test_pool(self) -> None:
        """The other keys of a pool."""
        pool = self.pool(
            balance={"method": "random", "two": "least_conn"},
            keepalive={"connections": 1, "requests": 2, "time": "3s", "timeout": "4s"},
            tls={"verify": False, "server_name": "a.example"},
        )
        self.assertEqual(model.Balance(method="random", two="least_conn"), pool.balance)
        self.assertEqual(model.Balance(method="least_conn"), self.pool(balance="least_conn").balance)
        self.assertEqual(
            model.Balance(method="hash", key="$remote_addr", consistent=True, bounded_load=1.25),
            self.pool(
                balance={"method": "hash", "key": "$remote_addr", "consistent": True, "bounded_load": "1.25"}
            ).balance,
        )
        self.assertEqual(model.Keepalive(connections=1, requests=2, time=3.0, timeout=4.0), pool.keepalive)
        self.assertEqual(model.UpstreamTLS(verify=False, server_name="a.example"), pool.tls)

    def test_tcp(self) -> None:
        """Every key of a TCP listener but tls."""
        listener = self.listener(
            protocol="tcp",
            listen=["127.0.0.1:1", "unix:/run/l"],
            pool="a",
            mode="0660",
            backlog=1024,
            reuseport=True,
            connect_timeout="1s",
            timeout="2s",
            half_close=False,
            next_upstream=False,
            next_upstream_tries=3,
            next_upstream_timeout="4s",
            tcp_nodelay=False,
            so_keepalive=True,
            socket_keepalive=True,
        )
        expected = model.TcpListener(
            name="w",
            listen=(InetAddress("127.0.0.1", 1), UnixAddress("/run/l")),
            mode=0o660,
            backlog=1024,
            reuseport=True,
            pool="a",
            connect_timeout=1.0,
            timeout=2.0,
            half_close=False,
            next_upstream=False,
            next_upstream_tries=3,
            next_upstream_timeout=4.0,
            tcp_nodelay=False,
            so_keepalive=True,
            socket_keepalive=True,
        )
        self.assertEqual(expected, listener)

    def test_udp(self) -> None:
        """Every key of a UDP listener."""
        listener = self.listener(protocol="udp", pool="a", responses=0, requests=2, timeout="3s", max_sessions=4)
        expected = model.UdpListener(
            name="w",
            listen=(InetAddress("0.0.0.0", 8080),),
            pool="a",
            responses=0,
            requests=2,
            timeout=3.0,
            max_sessions=4,
        )
        self.assertEqual(expected, listener)

    def test_http(self) -> None:
        """The keys that an HTTP listener alone has."""
        listener = self.listener(
            protocol="http",
            routes=[
                {"pool": "a", "path": "/api/", "host": "*.Example.com"},
                {"pool": "a", "exact": "/x"},
                {"pool": "a", "regex": "^/y", "host": "[::1]"},
            ],
            next_upstream=["error", "http_502"],
            send_timeout="1s",
            read_timeout="2s",
            client_max_body_size="1m",
            client_header_timeout="3s",
            client_body_timeout="4s",
            keepalive_timeout="5s",
        )
        expected = model.HttpListener(
            name="w",
            listen=(InetAddress("0.0.0.0", 8080),),
            routes=(
                Route(pool="a", path="/api/", host="*.example.com"),
                Route(pool="a", exact="/x"),
                Route(pool="a", regex="^/y", host="::1"),
            ),
            next_upstream=frozenset({"error", "http_502"}),
            send_timeout=1.0,
            read_timeout=2.0,
            client_max_body_size=1024 * 1024,
            client_header_timeout=3.0,
            client_body_timeout=4.0,
            keepalive_timeout=5.0,
        )
        self.assertEqual(expected, listener)

    def test_http_short_forms(self) -> None:
        """A pool alone is one route for everything; `off` means that nothing is tried again."""
        listener = self.listener(protocol="http", pool="a", next_upstream="off")
        assert isinstance(listener, model.HttpListener)
        self.assertEqual((Route(pool="a", path="/"),), listener.routes)
        self.assertEqual(frozenset(), listener.next_upstream)

    def test_top(self) -> None:
        """The keys at the top."""
        self.assertEqual(len(os.sched_getaffinity(0)), self.config(workers="auto").workers)
        config = self.config(
            workers=4,
            shutdown_timeout="5s",
            trusted_proxies=["10.0.0.0/8", "unix:"],
            max_connections=7,
            access_log={"path": "/var/log/a.log", "format": "$remote_addr"},
            resolver={"addresses": ["10.0.0.53", "[::1]:54"], "valid": "30s", "timeout": "2s", "ipv6": False},
        )
        self.assertEqual(4, config.workers)
        addresses = (InetAddress("10.0.0.53", 53), InetAddress("::1", 54))
        self.assertEqual(model.Resolver(addresses=addresses, valid=30.0, timeout=2.0, ipv6=False), config.resolver)
        self.assertEqual(model.Resolver(), self.config(resolver={}).resolver)
        self.assertEqual(5.0, config.shutdown_timeout)
        self.assertEqual(("10.0.0.0/8", "unix:"), config.trusted_proxies)
        self.assertEqual(7, config.max_connections)
        self.assertEqual(model.AccessLog(path="/var/log/a.log", format="$remote_addr"), config.access_log)
