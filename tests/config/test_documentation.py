"""docs/configuration.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from pylb.config import from_dict
from pylb.config.yaml import parse
from tests.config.keys import KEYS, NOT_YET, PROTOCOLS

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
HEADING = re.compile(r"## (?:The main file|`(?P<path>[\w.*]+)`(?: \((?P<which>.*)\))?)")
ROW = re.compile(r"\| `(?P<key>[\w.*]+)` \| (?P<form>.+?) \| (?P<default>.+?) \| (?P<meaning>.+) \|")
REFUSED = re.compile(r"\| `(?P<key>[\w.*]+)` \| [^|]+ \|")
WHICH = {
    "every protocol": {"http", "tcp", "udp"},
    "http and tcp": {"http", "tcp"},
    "http": {"http"},
    "tcp": {"tcp"},
    "udp": {"udp"},
}


class Entry(NamedTuple):
    """One documented key."""

    path: str
    protocols: set[str]
    default: str


def entries() -> Iterator[Entry]:
    """What the tables before `Not supported yet` say."""
    supported, _ = PAGE.read_text().split("## Not supported yet")
    section: re.Match[str] | None = None
    for line in supported.splitlines():
        if line.startswith("## "):
            section = HEADING.fullmatch(line)
        elif section and (row := ROW.fullmatch(line)):
            path = ".".join(filter(None, (section["path"], row["key"])))
            yield Entry(path, WHICH.get(section["which"] or "", set()), row["default"])


class Documentation(SynchronousTestCase):
    def test_keys(self) -> None:
        """Every key has an entry, and every entry is a key."""
        self.assertEqual(KEYS, {entry.path for entry in entries()})

    def test_protocols(self) -> None:
        """A listener's key is documented for the protocols that have it."""
        documented: dict[str, set[str]] = {}
        for entry in entries():
            if entry.path in PROTOCOLS:
                documented.setdefault(entry.path, set()).update(entry.protocols)
        self.assertEqual({key: value for key, value in PROTOCOLS.items() if key in KEYS}, documented)

    def test_not_supported_yet(self) -> None:
        """The keys that are refused are the ones that the page says are."""
        _, refused = PAGE.read_text().split("## Not supported yet")
        self.assertEqual(NOT_YET, {match["key"] for match in REFUSED.finditer(refused)})

    def test_defaults(self) -> None:
        """Writing the documented defaults changes nothing."""
        for protocol in ("http", "tcp", "udp"):
            self.assertEqual(from_dict(self.plain(protocol)), from_dict(self.with_defaults(protocol)))

    def plain(self, protocol: str) -> dict[str, Any]:
        pool: dict[str, Any] = {"servers": [{"address": "10.0.0.1:80"}], "keepalive": {}}
        listener = {"protocol": protocol, "listen": 80, "pool": "a"}
        return {"pools": {"a": pool}, "listeners": {"w": listener}, "access_log": {}}

    def with_defaults(self, protocol: str) -> dict[str, Any]:
        config = self.plain(protocol)
        pool, listener = config["pools"]["a"], config["listeners"]["w"]
        places = {
            "": config,
            "access_log": config["access_log"],
            "pools.*": pool,
            "pools.*.servers.*": pool["servers"][0],
            "pools.*.keepalive": pool["keepalive"],
            "listeners.*": listener,
        }
        for entry in entries():
            around, _, key = entry.path.rpartition(".")
            applies = around in places and protocol in (entry.protocols or {protocol})
            if applies and entry.default.startswith("`") and key != "pools":
                places[around][key], _ = parse(entry.default.strip("`").encode())
        return config
