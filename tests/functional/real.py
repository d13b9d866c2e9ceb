"""Servers that others wrote: Redis, chronyd, grpcio's health server, Python's web server, and twisted.names.

Each is started, made to hang, to answer wrongly, to go, and to be as before.  All but twisted.names are processes of their
own.
"""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from collections.abc import Mapping
from signal import SIGCONT, SIGSTOP
from typing import Any, ClassVar

from twisted.internet.utils import getProcessOutputAndValue
from twisted.names import dns
from twisted.names.server import DNSServerFactory
from twisted.trial.unittest import SkipTest

from tests.backends import socket_path, until
from tests.functional.rig import Program, Rig, Server, ask_tcp, free_port
from tests.functional.zone import Zone

__all__ = ["PACKAGES", "Chronyd", "GrpcHealth", "NameServer", "RealServer", "Redis", "WebServer"]

#: Programs that not every machine has, and Debian's packages for them.
PACKAGES: Mapping[str, str] = {"redis-server": "redis-server", "chronyd": "chrony"}

#: Where servers are, though not every user's PATH leads there.
_SBIN = f"{os.pathsep}/usr/sbin"


def _installed(program: str) -> str:
    """Its path; a test that needs one that is missing is skipped."""
    path = shutil.which(program, path=os.environ["PATH"] + _SBIN)
    if path is None:
        raise SkipTest(f"{program} is missing. On Debian and Ubuntu: apt install {PACKAGES[program]}")
    return path


class RealServer:
    """A program at a port of its own; `name` is what it tells its clients."""

    PROGRAM: ClassVar[str] = sys.executable
    #: What it says when it serves.
    READY: ClassVar[str]

    def __init__(self, rig: Rig, number: int) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.folder = rig.folder / f"server{number}"
        self.folder.mkdir()
        self._rig = rig
        self._path = _installed(self.PROGRAM)
        self._program: Program

    @property
    def name(self) -> str:
        return str(self.port)

    def arguments(self) -> list[str]:
        """The program's."""
        raise NotImplementedError

    async def start(self) -> None:
        self._program = self._rig.start(self._path, *self.arguments())
        await self._program.says(self.READY)

    async def hang(self) -> None:
        self._program.signal(SIGSTOP)

    async def wake(self) -> None:
        self._program.signal(SIGCONT)

    async def kill(self) -> None:
        await self._program.kill()


class Redis(RealServer):
    """Goes wrong by wanting a password; its name is the port."""

    PROGRAM = "redis-server"
    READY = "Ready to accept connections"

    def arguments(self) -> list[str]:
        return ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]

    async def go_wrong(self) -> None:
        await self._does(b"CONFIG SET requirepass secret")

    async def go_right(self) -> None:
        await self._does(b"AUTH secret", b'CONFIG SET requirepass ""')

    async def _does(self, *commands: bytes) -> None:
        lines = [*commands, b"QUIT"]
        self._rig.assertEqual(await ask_tcp(self.port, b"\r\n".join([*lines, b""])), b"+OK\r\n" * len(lines))


class Chronyd(RealServer):
    """Serves the time without touching the clock, at the stratum that is its name; goes wrong by losing its source."""

    PROGRAM = "chronyd"
    READY = "Disabled control of system clock"

    def __init__(self, rig: Rig, number: int) -> None:
        super().__init__(rig, number)
        self._commands = socket_path(rig)
        self._stratum = number

    @property
    def name(self) -> str:
        return str(self._stratum)

    def arguments(self) -> list[str]:
        lines = ["bindaddress 127.0.0.1", f"port {self.port}", "allow 127.0.0.1", f"pidfile {self.folder / 'pid'}"]
        lines += ["cmdport 0", f"bindcmdaddress {self._commands}"]
        return ["-x", "-d", "-U", "-u", getpass.getuser(), *lines]

    async def start(self) -> None:
        self._commands.unlink(missing_ok=True)
        await super().start()
        await until(self._commands.exists)
        await self.go_right()

    async def go_wrong(self) -> None:
        await self._is_told("local", "off")

    async def go_right(self) -> None:
        await self._is_told("local", "stratum", self.name)

    async def _is_told(self, *words: str) -> None:
        said = await getProcessOutputAndValue("chronyc", ["-h", str(self._commands), *words])
        self._rig.assertEqual(said[0], b"200 OK\n", said)


class GrpcHealth(RealServer):
    """grpcio's own, which has one name for all who serve."""

    READY = "serves"
    name = "SERVING"

    def arguments(self) -> list[str]:
        return self._does("serve", self.port)

    async def go_wrong(self) -> None:
        self._program.transport.write(b"NOT_SERVING\n")

    async def go_right(self) -> None:
        self._program.transport.write(b"SERVING\n")

    @classmethod
    def client(cls, rig: Rig, port: int) -> Program:
        """One that asks whenever it gets a line, over a new connection, and prints the answer."""
        return rig.start(cls.PROGRAM, *cls._does("ask", port))

    @staticmethod
    def _does(what: str, port: int) -> list[str]:
        return ["-m", "tests.functional.grpc_health", what, str(port)]


class WebServer(RealServer):
    """Python's http.server; goes wrong by missing its page /health, and its name is in /name."""

    READY = "Serving HTTP"

    def __init__(self, rig: Rig, number: int) -> None:
        super().__init__(rig, number)
        (self.folder / "name").write_text(self.name)
        self._page = self.folder / "health"
        self._page.touch()

    def arguments(self) -> list[str]:
        return ["-m", "http.server", "--bind", "127.0.0.1", "--directory", str(self.folder), str(self.port)]

    async def go_wrong(self) -> None:
        self._page.unlink()

    async def go_right(self) -> None:
        self._page.touch()


class _Names(DNSServerFactory):
    """As it is, unless there is a `code` with which to answer, or it is `silent`."""

    noisy = False
    code: int | None = None
    silent = False

    def __init__(self, zone: Zone) -> None:
        super().__init__(authorities=[zone])
        #: Questions that it has heard.
        self.asked = 0

    def handleQuery(self, message: Any, protocol: Any, address: Any) -> Any:
        self.asked += 1
        if self.silent:
            return None
        if self.code is None:
            return super().handleQuery(message, protocol, address)
        message.rCode, message.answer = self.code, True
        return self.sendReply(protocol, message, address)


class NameServer:
    """twisted.names, in the test's own process; its name is the address of who.test."""

    def __init__(self, rig: Rig, number: int) -> None:
        self.name = f"192.0.2.{number}"
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        zone = Zone()
        zone.has(b"who.test", self.name)
        self.names = _Names(zone)
        self._rig = rig
        self._server: Server

    async def start(self) -> None:
        self._server = self._rig.server(self._protocol, self.port)

    async def hang(self) -> None:
        self.names.silent = True

    async def wake(self) -> None:
        self.names.silent = False

    async def go_wrong(self, code: int = dns.ESERVER) -> None:
        self.names.code = code

    async def go_right(self) -> None:
        self.names.code = None

    async def kill(self) -> None:
        await self._server.kill()

    def _protocol(self) -> dns.DNSDatagramProtocol:
        protocol = dns.DNSDatagramProtocol(self.names)
        protocol.noisy = False
        return protocol
