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
