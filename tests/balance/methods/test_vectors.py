"""Do keys land where a real nginx 1.22 put them?  nginx_vectors.py made vectors.json and knows the keys."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods import Tools, at_once, make_method
from pylb.balance.request import compile_key, network
from pylb.balance.server import Server
from pylb.model import Address, Balance, InetAddress, ServerSpec, UnixAddress
from tests.balance.fakes import LETTERS
from tests.balance.methods.nginx_vectors import KEYS, VECTORS

CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))


def address(text: str) -> Address:
    if text.startswith("unix:"):
        return UnixAddress(text.removeprefix("unix:"))
    name, _, port = text.rpartition(":")
    return InetAddress(name.strip("[]"), int(port))


class Client:
    """A request of which only one thing matters."""

    def __init__(self, key: str) -> None:
        self.key = key

    def variable(self, name: str) -> bytes:
        return self.key.encode()


TOOLS = Tools(random=Random(1), key=compile_key("$remote_addr"), address=network, elsewhere=at_once)


def chosen(case: dict[str, Any]) -> str:
    """The letters of the servers that pylb chooses, key by key."""
    method, _, rest = case["method"].partition(" ")
    servers = [
        Server(ServerSpec(address=address(text), weight=weight, down=down)) for text, weight, down in case["servers"]
    ]
    made = make_method(servers, Balance(method=method, consistent="consistent" in rest), TOOLS)
    for server in servers:
        if server.switch == "up":
            made.add(server)
    letters = dict(zip([server.name for server in servers], LETTERS, strict=False))
    nobody = case["keys"] == "nobody"
    requests = [None if nobody else Client(key) for key in KEYS[case["keys"]]()]
    return "".join(letters[made.choose(request, (), 0.0).name] for request in requests)


class VectorTests(SynchronousTestCase):
    def compare(self, *words: str) -> None:
        """Every key of every case whose name begins with one of `words`."""
        cases = [case for case in CASES if case["name"].startswith(words)]
        self.assertTrue(cases)
        for case in cases:
            self.assertEqual((case["name"], chosen(case)), (case["name"], case["chosen"]))

    def test_hash(self) -> None:
        """hash: by weight, with a server that is down, with so many slots down that round robin has to stand in."""
        self.compare("hash, ")

    def test_hash_consistent(self) -> None:
        """hash ... consistent: the same, and every kind of address."""
        self.compare("hash consistent, ")

    def test_ip_hash(self) -> None:
        """ip_hash: IPv4, IPv6 and clients on a Unix socket."""
        self.compare("ip_hash, ")

    def test_stream(self) -> None:
        """nginx's stream side places keys alike."""
        self.compare("stream ")

    def test_all(self) -> None:
        """No case is left out, and each has all its keys."""
        self.assertEqual([len(case["chosen"]) for case in CASES], [len(KEYS[case["keys"]]()) for case in CASES])
        self.assertEqual(len(CASES), 21)
