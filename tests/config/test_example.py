"""etc/lb.yaml and what it includes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pylb.config import load
from pylb.config.yaml import parse
from pylb.model import HttpListener, InetAddress
from tests.config.files import ConfigTestCase
from tests.config.keys import KEYS

ETC = Path(__file__).parents[2] / "etc"
SETTING = re.compile(r"^( *)#(\S.*)$", re.MULTILINE)


def uncommented() -> str:
    """The example with everything switched on."""
    return SETTING.sub(r"\1\2", (ETC / "lb.yaml").read_text())


def written(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all keys, with * for names and places; headers are named by nobody but the operator."""
    if isinstance(tree, list):
        for item in tree:
            yield from written(item, (*path, "*"))
    elif isinstance(tree, dict) and path[-1:] not in (("headers",), ("header",)):
        for key, value in tree.items():
            step = "*" if path in (("pools",), ("listeners",)) else key
            yield (*path, step)
            yield from written(value, (*path, step))


class Example(ConfigTestCase):
    def test_as_it_is(self) -> None:
        """The example loads, and listens and serves on loopback addresses and ports that need no rights."""
        config = load(str(ETC / "lb.yaml"))
        self.assertEqual({"web", "mysql", "ntp", "redis"}, set(config.listeners))
        addresses = [address for listener in config.listeners.values() for address in listener.listen]
        addresses += [server.address for pool in config.pools.values() for server in pool.servers]
        for address in addresses:
            assert isinstance(address, InetAddress)
            self.assertIn(address.host, ["127.0.0.1", "::1"])
            self.assertGreater(address.port, 1024)

    def test_the_cookbook(self) -> None:
        """Its pools are the three of the nginx cookbook."""
        pools = load(str(ETC / "lb.yaml")).pools
        shares = {
            name: [(server.weight, server.backup) for server in pools[name].servers]
            for name in ("backend", "mysql_read", "ntp")
        }
        self.assertEqual(
            {
                "backend": [(1, False), (2, False), (1, True)],
                "mysql_read": [(5, False), (1, False), (1, True)],
                "ntp": [(2, False), (1, False)],
            },
            shares,
        )

    def test_every_key(self) -> None:
        """Every key stands in the example, switched on or not."""
        tree, reading = parse(uncommented().encode())
        self.assertEqual([], reading.mistakes)
        shown = {".".join(path) for path in written(tree)}
        self.assertEqual(set(), set(KEYS) - shown - {"listeners.*.pool"})
        self.assertEqual(set(), shown - set(KEYS) - {"pools.*", "listeners.*"})

    def test_everything_switched_on(self) -> None:
        """What is switched off would load as well."""
        shutil.copytree(ETC / "conf.d", self.folder / "conf.d")
        self.write_certificate("site", "site.example")
        config = self.load(uncommented())
        web = config.listeners["web"]
        assert isinstance(web, HttpListener) and web.tls
        self.assertEqual(5, len(web.routes))
        self.assertEqual(0o660, web.mode)

    def test_defaults(self) -> None:
        """What is said to be the default is: the plain values switched on change nothing but these."""
        shown = load(str(ETC / "lb.yaml"))
        shutil.copytree(ETC / "conf.d", self.folder / "conf.d")
        text = SETTING.sub(self._default, (ETC / "lb.yaml").read_text())
        self.assertEqual(shown, self.load(text))

    def _default(self, match: re.Match[str]) -> str:
        others = (
            "access_log|balance|certificates|fail_on|max_sessions|min_version|mode|queue|resolver|retry_budget|route|sticky|tls"
            "|trusted_proxies"
        )
        cookie = "domain|expires|httponly|name|path|refresh|samesite|secret|secure|strict|type"
        check = "headers|health_check|keepalive_time|match|method|unhealthy_interval"
        outlier = (
            "base_ejection_time|consecutive_errors|interval|max_ejected_percent|max_ejection_time|outlier|success_rate"
        )
        wanted = re.match(rf"(?!{others}|{outlier}|{cookie}|{check})\w+:", match[2])
        return match[1] + match[2] if wanted else match[0]
