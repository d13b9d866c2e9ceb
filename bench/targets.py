"""What is measured, and how is it configured?

Texts in etc/ are filled in with free ports.  These lie below those that the kernel gives to connections, which could take
the port of a program that is started again.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

import trustme

from bench.program import Program
from bench.streams import MB

__all__ = [
    "Text",
    "backend",
    "checked",
    "free_ports",
    "haproxy",
    "kills",
    "missing",
    "nginx",
    "prepare",
    "program",
    "pylb",
    "soaked",
]

_TEXTS = Path(__file__).parent / "etc"
#: Debian keeps daemons where users other than root do not look.
_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
#: What must be there, with Debian's package for it.
_NEEDED = {
    "nginx": "nginx",
    _STREAM_MODULE: "libnginx-mod-stream",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "ab": "apache2-utils",
}
_TWISTD = (str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=")
#: What pylb says when all workers do; its sockets listen before.
_SERVES = "room for "
_BACKEND_PORTS = ("backend_1", "backend_2")
_TCP_PORTS = ("http", "tcp", "tls")
_UDP_PORTS = ("udp", "udp_10")


class Text(Template):
    """A configuration with places for ports, "@name", beside nginx's own "$name"."""

    delimiter = "@"


def missing() -> list[str]:
    """Debian's packages of the programs that are not there."""
    return [package for need, package in _NEEDED.items() if not (_find(need) or Path(need).is_file())]


def program(name: str) -> str:
    """Where a program is, if it is there."""
    return _find(name) or name


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A port for each name, free for TCP and UDP just now."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = iter(random.sample(range(1024, max(lowest, 2048)), 1000))
    return {name: next(port for port in candidates if _is_free(port)) for name in names}


def prepare(folder: Path) -> None:
    """Put into a folder what the programs serve: a certificate, and bodies of 1 MB and 100 MB."""
    folder.chmod(0o755)  # workers of nginx may run as somebody else
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "site.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "site.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    (folder / "bodies").mkdir()
    for megabytes in (1, 100):
        with (folder / "bodies" / f"{megabytes}m").open("wb") as file:
            file.truncate(megabytes * MB)


def backend(folder: Path) -> Program:
    """The servers behind all proxies."""
    return _nginx("backend", folder, free_ports(_BACKEND_PORTS), {})


def nginx(folder: Path, servers: Mapping[str, int], workers: int = 1) -> Program:
    """nginx in front of the servers at these ports."""
    return _nginx("nginx", folder, free_ports(_TCP_PORTS + _UDP_PORTS), {**servers, "workers": workers})


def haproxy(folder: Path, servers: Mapping[str, int]) -> Program:
    """HAProxy, likewise; it has no UDP."""
    ports = free_ports(_TCP_PORTS)
    config = _fill("haproxy.cfg", folder, {**ports, **servers})
    return Program("haproxy", [program("haproxy"), "-db", "-f", str(config)], folder, ports)


def pylb(folder: Path, servers: Mapping[str, int], profile: Path | None = None, workers: int = 1) -> Program:
    """pylb, as a user starts it; with `profile` cProfile watches it, and writes that file at the end."""
    ports = free_ports(_TCP_PORTS + _UDP_PORTS)
    config = _fill("pylb.yaml", folder, {**ports, **servers, "workers": workers})
    twistd = list(_TWISTD)
    if profile:
        twistd += ["--profiler=cprofile", "--savestats", f"--profile={profile}"]
    return Program("pylb", [*twistd, "pylb", "--config", str(config)], folder, ports, _SERVES)


def soaked(folder: Path, servers: Mapping[str, int]) -> Program:
    """pylb as the soak wants it, in front of the servers at these ports."""
    ports = free_ports(_TCP_PORTS + _UDP_PORTS)
    config = _fill("soak.yaml", folder, {**ports, **servers})
    return Program("pylb", [*_TWISTD, "pylb", "--config", str(config)], folder, ports, _SERVES)


def checked(config: Path, listen: int) -> Program:
    """pylb with the configuration at `config`, which listens at this port."""
    return Program("pylb", [*_TWISTD, "pylb", "--config", str(config)], config.parent, {"tcp": listen}, _SERVES)


def kills(name: str, folder: Path, server: int) -> Program:
    """pylb or nginx with two workers, in front of the server at this port."""
    ports = free_ports(["http"])
    config = _fill("kills.yaml" if name == "pylb" else "kills.conf", folder, {**ports, "server": server})
    if name == "pylb":
        return Program(name, [*_TWISTD, "pylb", "--config", str(config)], folder, ports, _SERVES)
    return Program(name, [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)], folder, ports)


def _nginx(name: str, folder: Path, ports: Mapping[str, int], servers: Mapping[str, int]) -> Program:
    values = {**ports, **servers, "stream_module": _STREAM_MODULE}
    config = _fill(f"{name}.conf", folder, values)
    return Program(name, [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)], folder, ports)


def _fill(name: str, folder: Path, values: Mapping[str, object]) -> Path:
    (folder / name).write_text(Text((_TEXTS / name).read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
    return folder / name


def _find(name: str) -> str | None:
    return shutil.which(name, path=_PATH)


def _is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as taken:
                taken.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
