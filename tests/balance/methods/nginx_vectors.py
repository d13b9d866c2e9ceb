"""Ask a real nginx where keys land, and write it down in vectors.json: run by hand, the tests only read.

    python -m tests.balance.methods.nginx_vectors

nginx runs on loopback, with itself as the servers, in one process, so what falls back to round robin is in order too.
A letter stands for each server; a case is its servers, how keys are chosen, and one letter a key.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TypeAlias

VECTORS = Path(__file__).with_name("vectors.json")
PORT = 18100
#: (address, weight, down)
Line: TypeAlias = tuple[str, int, bool]


def keys() -> list[str]:
    """Short ones, long ones, empty ones, and some that are not ASCII."""
    numbers = [str(number) for number in range(200)]
    paths = [f"/shop/{number % 17}/item?id={number * 7919}" for number in range(150)]
    return [*numbers, "", *paths, "", "", "ä", "日本", "€" * 100, "x" * 1000]


def addresses() -> list[str]:
    """IPv4 and IPv6 addresses all over the place, and some neighbours."""
    v4 = [str(IPv4Address(number * 2654435761 % 2**32)) for number in range(1, 250)]
    near = [f"192.0.2.{number}" for number in range(0, 250, 50)]
    v6 = [str(IPv6Address(number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for number in range(1, 150)]
    return [*v4, *near, *v6]


def loopback() -> list[str]:
    """Addresses that a client on this machine can have."""
    return [f"127.{number % 7}.{number * 37 % 250}.{number % 249 + 1}" for number in range(1, 250)]


def nobody() -> list[str]:
    """Clients that have no address."""
    return [""] * 10


def filled() -> list[str]:
    """Without the empty ones: pylb's round robin does not know of the turns that the addresses of one name took."""
    return [key for key in keys() if key]


KEYS = {"filled": filled, "keys": keys, "addresses": addresses, "loopback": loopback, "nobody": nobody}


def case(name: str, method: str, kinds: str, *lines: Line) -> dict[str, Any]:
    return {"name": name, "method": method, "keys": kinds, "servers": lines, "protocol": "http"}


def server(number: int, weight: int = 1, down: bool = False) -> Line:
    return f"127.1.0.{number}:18101", weight, down


def cases() -> Iterator[dict[str, Any]]:
    level = [server(1), server(2), server(3)]
    weighted = [server(1, 5), server(2), server(3, 2), server(4, 3), server(5)]
    one_down = [server(1, 2), server(2, 3, True), server(3), server(4, 2)]
    mostly_down = [server(1), server(2, 400, True), server(3), server(4, 2)]
    other_kinds = [("[::1]:18101", 1, False), ("unix:app.sock", 2, False), server(3), ("localhost:18102", 2, False)]
    pools = {
        "level": level,
        "weighted": weighted,
        "one down": one_down,
        "mostly down": mostly_down,
        "other kinds": other_kinds,
    }
    for what, lines in pools.items():
        yield case(f"hash, {what}", "hash $http_k", "keys", *lines)
        yield case(f"hash consistent, {what}", "hash $http_k consistent", "keys", *lines)
        yield case(f"ip_hash, {what}", "ip_hash", "addresses", *lines)
    yield case(
        "hash consistent, one twice", "hash $http_k consistent", "filled", server(1, 2), server(2, 2), server(1, 3)
    )
    yield case("ip_hash, clients on a Unix socket", "ip_hash", "nobody", *weighted)
    for what in ("weighted", "mostly down"):
        for how in ("hash", "hash consistent"):
            method = how.replace("hash", "hash $remote_addr")
            yield case(f"stream {how}, {what}", method, "loopback", *pools[what]) | {"protocol": "stream"}


def config(case: dict[str, Any], folder: str) -> str:
    lines = "".join(f"server {address} weight={weight} {'down' * down};" for address, weight, down in case["servers"])
    upstream = f"upstream servers {{ {case['method']}; {lines} }}"
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    front = f"""
        server {{ listen 127.1.0.9:{PORT}; listen unix:front.sock; location / {{ proxy_pass http://servers; }}
        set_real_ip_from 127.0.0.0/8; real_ip_header Client; large_client_header_buffers 4 32k; }}"""
    listens = "".join(f"listen 127.1.0.{number}:18101;" for number in range(1, 6))
    stream = f"server {{ listen 127.1.0.9:{PORT}; proxy_pass servers; }}"
    return f"""
        load_module /usr/lib/nginx/modules/ngx_stream_module.so;
        daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 512; }}
        http {{ access_log off; {paths}
        server {{ {listens} return 200 $server_addr:$server_port; }}
        server {{ listen [::1]:18101; return 200 [::1]:18101; }}
        server {{ listen 127.0.0.1:18102; return 200 localhost:18102; }}
        server {{ listen unix:app.sock; return 200 unix:app.sock; }}
        {upstream + front if case["protocol"] == "http" else ""} }}
        {f"stream {{ {upstream} {stream} }}" if case["protocol"] == "stream" else ""}"""


def ask(case: dict[str, Any], key: str, folder: str) -> str:
    """The address of the server that answers."""
    with socket.socket(socket.AF_UNIX if case["keys"] == "nobody" else socket.AF_INET) as client:
        client.settimeout(5.0)
        if case["keys"] == "loopback":
            client.bind((key, 0))
        client.connect(f"{folder}/front.sock" if case["keys"] == "nobody" else ("127.1.0.9", PORT))
        header = "Client" if case["keys"] == "addresses" else "K"
        client.sendall(f"GET / HTTP/1.0\r\nHost: a\r\n{header}: {key}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    return answer.partition(b"\r\n\r\n")[2].decode()


@contextmanager
def nginx(case: dict[str, Any], folder: str) -> Iterator[None]:
    Path(folder, "nginx.conf").write_text(config(case, folder))
    with subprocess.Popen(["nginx", "-p", folder, "-c", f"{folder}/nginx.conf"], cwd=folder) as process:
        try:
            time.sleep(0.5)
            yield
        finally:
            process.terminate()


def chosen(case: dict[str, Any]) -> str:
    """The letters of the servers that nginx chose, key by key."""
    letters = dict(zip([address for address, *_ in case["servers"]], "abcdefgh", strict=False))
    with tempfile.TemporaryDirectory() as folder, nginx(case, folder):
        return "".join(letters[ask(case, key, folder)] for key in KEYS[case["keys"]]())


def main() -> None:
    found = [each | {"chosen": chosen(each)} for each in cases()]
    VECTORS.write_text("[\n" + ",\n".join(json.dumps(each) for each in found) + "\n]\n")


if __name__ == "__main__":
    main()
