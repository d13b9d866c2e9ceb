"""pylb.config.sticky: how sessions that stay are asked for."""

from __future__ import annotations

from dataclasses import fields
from math import inf
from typing import Any

from pylb.config.sticky import StickyForm
from pylb.model import Sticky, StickyCookie, StickyLearn, StickyRoute
from tests.config.files import ConfigTestCase

SECRET = "correct horse battery"


class StickyTests(ConfigTestCase):
    def text(self, sticky: str, server: str = "10.0.0.1:80", protocols: str = "http") -> str:
        listeners = "".join(
            f"  l{number}: {{protocol: {protocol}, listen: {number}, pool: p}}\n"
            for number, protocol in enumerate(protocols.split(), 1)
        )
        return f"pools:\n  p:\n    servers: [{server}]\n    sticky: {{{sticky}}}\nlisteners:\n{listeners}"

    def sticky(self, sticky: str, **more: str) -> Sticky | None:
        return self.load(self.text(sticky, **more)).pools["p"].sticky

    def wrong(self, sticky: str, **more: str) -> list[str]:
        """The mistakes, without the path that they have in common."""
        return [mistake.replace("pools.p.", "") for mistake in self.mistakes(self.text(sticky, **more))]

    def test_each_type(self) -> None:
        """All keys; what is not written is the model's default; one variable may stand without a list."""
        cookie = "name: id, expires: 1h, domain: .Example.com, path: /a, secure: true, httponly: true, samesite: none"
        table: dict[str, Any] = {
            "type: cookie, name: id": StickyCookie(name="id"),
            f"type: cookie, {cookie}, secret: {SECRET}, refresh: true, strict: true": StickyCookie(
                name="id",
                expires=3600.0,
                domain=".example.com",
                path="/a",
                secure=True,
                httponly=True,
                samesite="none",
                secret=SECRET,
                refresh=True,
                strict=True,
            ),
            "type: cookie, name: id, expires: max": StickyCookie(name="id", expires=inf),
            "type: route, variables: $cookie_a": StickyRoute(variables=("$cookie_a",)),
            "type: route, variables: [$cookie_a, $arg_b], strict: true": StickyRoute(
                variables=("$cookie_a", "$arg_b"), strict=True
            ),
            "type: learn, create: $upstream_cookie_a, lookup: $cookie_a": StickyLearn(
                create=("$upstream_cookie_a",), lookup=("$cookie_a",)
            ),
            "type: learn, create: [$remote_addr], lookup: [$remote_addr], timeout: 5s, size: 7, header: true": StickyLearn(
                create=("$remote_addr",), lookup=("$remote_addr",), timeout=5.0, size=7, header=True
            ),
        }
        for text, expected in table.items():
            self.assertEqual(self.sticky(text), expected)

    def test_every_key(self) -> None:
        """The form has the keys of the three types and no others."""
        built = {field.name for kind in (StickyCookie, StickyRoute, StickyLearn) for field in fields(kind)}
        self.assertEqual(set(StickyForm.model_fields), built | {"type"})

    def test_route_of_a_server(self) -> None:
        """A text that a cookie may hold."""
        spec = self.load(self.text("type: cookie, name: a", server="{address: 'a:1', route: node-1}")).pools["p"]
        self.assertEqual(spec.servers[0].route, "node-1")
        for route in ("''", "'a b'", "'a;b'", '"a\\"b"', "é", "x" * 33):
            [mistake] = self.wrong("type: cookie, name: a", server=f"{{address: 'a:1', route: {route}}}")
            self.assertIn("servers.0.route: must", mistake)

    def test_wrong_values(self) -> None:
        """Each with its place and what to do."""
        table = {
            "type: cooky, name: a": 'type: must be "cookie" or "route" or "learn", not "cooky"',
            "type: cookie, name: a b": 'name: "a b" is no name of a cookie: no spaces and none of (),/:;<=>?@[]{}',
            "type: cookie, name: a, expires: 500ms": "expires: must be 1s or more, or max",
            "type: cookie, name: a, domain: a_;": 'domain: "a_;" is no IP address and no host name',
            "type: cookie, name: a, path: a": 'path: must begin with / and hold no space and no ;, not "a"',
            "type: cookie, name: a, path: /;": 'path: must begin with / and hold no space and no ;, not "/;"',
            "type: cookie, name: a, samesite: Lax": 'samesite: must be "strict" or "lax" or "none", not "Lax"',
            "type: cookie, name: a, secret: fifteen letters": "secret: must be text of 16 characters or more",
            "type: route, variables: []": "variables: must not be empty",
            "type: route, variables: $a": 'variables: no protocol has a "$a"',
            "type: route, variables: [$host, x]": 'variables.1: must be one variable, such as $remote_addr, not "x"',
            "type: learn, create: $host, lookup: $upstream_http_a": 'lookup: "$upstream_http_a" is not known before a server'
            " has answered",
            "type: learn, create: $host, lookup: $host, timeout: 0": "timeout: must be longer than 0",
        }
        for text, mistake in table.items():
            [found] = self.wrong(text)
            self.assertEqual(found.partition("sticky.")[2].partition(", did you mean")[0], mistake)

    def test_wrong_together(self) -> None:
        """Keys of another type, keys that are missing, and what browsers refuse."""
        table = {
            "name: a": '"type" is missing',
            "type: cookie": 'the type cookie needs "name"',
            "type: learn": 'the type learn needs "create" and "lookup"',
            "type: cookie, name: a, lookup: $host": '"lookup" belongs to the type learn, not to cookie',
            "type: route, variables: $host, secret: 0123456789abcdefg": '"secret" belongs to the type cookie, not to route',
            "type: cookie, name: __Secure-a": (
                'a cookie of the name "__Secure-a" needs "secure: true", or browsers refuse it'
            ),
            "type: cookie, name: __Host-a, secure: true": (
                'a cookie of the name "__Host-a" needs "path: /" and no "domain", or browsers refuse it'
            ),
            "type: cookie, name: a, samesite: none": '"samesite: none" needs "secure: true", or browsers refuse the cookie',
        }
        for text, mistake in table.items():
            self.assertEqual(self.wrong(text), [f"lb.yaml:4:13: sticky: {mistake}"])

    def test_secret_is_not_repeated(self) -> None:
        """Neither by a mistake nor by the configuration's repr."""
        self.assertNotIn("hush", str(self.wrong("type: cookie, name: a, secret: hush")))
        self.assertNotIn(SECRET, repr(self.sticky(f"type: cookie, name: a, secret: {SECRET}")))

    def test_protocols(self) -> None:
        """Every protocol that uses the pool must have what tells its sessions."""
        uses = "and a listener of {} uses this pool"
        for text, protocols, mistakes in (
            ("type: cookie, name: a", "http tcp", ["4:20: sticky.type: tcp has no cookies, " + uses.format("tcp")]),
            ("type: cookie, name: a", "udp", ["4:20: sticky.type: udp has no cookies, " + uses.format("udp")]),
            (
                "type: route, variables: [$ssl_server_name, $cookie_a]",
                "http udp",
                [
                    '4:39: sticky.variables.0: udp has no "$ssl_server_name", ' + uses.format("udp"),
                    '4:57: sticky.variables.1: udp has no "$cookie_a", ' + uses.format("udp"),
                ],
            ),
            (
                "type: learn, create: $upstream_http_a, lookup: $remote_addr",
                "tcp",
                ['4:35: sticky.create: tcp has no "$upstream_http_a", ' + uses.format("tcp")],
            ),
        ):
            self.assertEqual(self.wrong(text, protocols=protocols), [f"lb.yaml:{mistake}" for mistake in mistakes])
        self.assertTrue(
            self.sticky("type: learn, create: $remote_addr, lookup: $remote_addr", protocols="http tcp udp")
        )

    def test_no_header(self) -> None:
        """What learns when the header has come learns nothing where there is none."""
        learn = "type: learn, create: $remote_addr, lookup: $remote_addr, header: true"
        expected = "only HTTP answers have a head, and no listener of http uses this pool"
        for protocols in ("tcp", "udp tcp"):
            self.assertEqual(self.wrong(learn, protocols=protocols), [f"lb.yaml:4:71: sticky.header: {expected}"])
        self.assertTrue(self.sticky(learn, protocols="http tcp"))
        self.assertTrue(self.sticky(learn.replace("true", "false"), protocols="tcp"))

    def test_same_route(self) -> None:
        """Two servers of one pool cannot be told apart by one route."""
        servers = "{address: 'a:1', route: x}, {address: 'b:1', route: y}, {address: 'c:1', route: x}"
        self.assertEqual(
            self.wrong("type: cookie, name: a", server=servers),
            ['lb.yaml:3:95: servers.2.route: the route "x" is taken, at lb.yaml:3:39'],
        )
