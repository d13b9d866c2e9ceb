"""The real program in a process of its own, between clients and servers in the test's.

Nothing here waits for a time: a program is ready when it says so, over when it has been reaped.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, ProcessProtocol, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tests.backends import Peer, echo, until

__all__ = [
    "EchoRig",
    "Program",
    "Rig",
    "Server",
    "all_at_once",
    "ask_http",
    "ask_tcp",
    "ask_udp",
    "free_port",
    "refuses",
]

TREE = Path(__file__).parents[2]
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; sys.exit(run())"
READY = r"room for \d+ connections"


#: Ports that have been given out: one that nobody uses now somebody else may have been promised.
_promised: set[int] = set()
#: Of each that any tests on this machine were given, one byte is locked until their process ends.
_promises = os.open(
    f"{tempfile.gettempdir()}/pylb-tests-{os.getuid()}.ports", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
)


def _promise(port: int) -> bool:
    """Whether the port is ours from now on."""
    if port in _promised:
        return False
    try:
        fcntl.lockf(_promises, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _promised.add(port)
    return True


def free_port() -> int:
    """A port of the loopback that nobody uses, below those that the kernel gives to clients; another one each time."""
    while True:
        port = random.randrange(15_000, 32_000)
        if not _promise(port):
            continue
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port


def all_at_once(tasks: Iterable[Awaitable[Any]]) -> Deferred[list[Any]]:
    """The results of coroutines that run side by side."""
    return gatherResults([Deferred.fromCoroutine(task) for task in tasks], consumeErrors=True)


class Program(ProcessProtocol):
    """A process, what it said, and how it ended; `path` is where its Python finds pylb."""

    def __init__(self, *command: str, cwd: Path, path: str = str(TREE)) -> None:
        self.said = ""
        #: The exit status, or minus the signal that ended it.
        self.status: int | None = None
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        self._process = reactor.spawnProcess(self, command[0], command, environment, str(cwd))
        self.pid = self._process.pid

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        self.said += data.decode(errors="replace")

    def processEnded(self, reason: Any) -> None:
        self.status = -reason.value.signal if reason.value.signal else reason.value.exitCode

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches."""
        await until(lambda: re.search(pattern, self.said) or self.status is not None)
        found = re.search(pattern, self.said)
        if found is None:
            raise AssertionError(f"ended with {self.status} instead of saying {pattern!r}:\n{self.said}")
        return found

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Wait for the end; the exit status."""
        await until(lambda: self.status is not None)
        assert self.status is not None
        return self.status

    async def kill(self) -> None:
        try:
            self._process.signalProcess("KILL")
        except ProcessExitedAlready:
            return
        await self.ended()

    def memory(self, what: str = "VmHWM") -> int:
        """Bytes; VmHWM is the most that the process ever had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) * 1024


@implementer(IHalfCloseableProtocol)
class _Connection(ProtocolWrapper):
    """Hands the end of the client's side on to those who want to know of it."""

    def readConnectionLost(self) -> None:
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nobody here half-closes and wants to hear of it."""


class _Connections(WrappingFactory):
    noisy = False
    protocol = _Connection


class Server:
    """A server of the test that can be killed and brought back.

    `make` makes its factory, which is given to a stream port or, if it is a DatagramProtocol, to a UDP port; `number` is
    the port's, 0 for any that stays its own while it is dead.
    """

    def __init__(self, make: Callable[[], Factory | DatagramProtocol], number: int = 0) -> None:
        self._make = make
        self._port: Any = None
        self._factory: _Connections | None = None
        self.number = number or free_port()
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.number}"

    def start(self) -> None:
        """Serve, at the port of before if there was one."""
        factory = self._make()
        if isinstance(factory, DatagramProtocol):
            self._port = reactor.listenUDP(self.number, factory, interface="127.0.0.1")
        else:
            factory.noisy = False
            self._factory = _Connections(factory)
            self._port = reactor.listenTCP(self.number, self._factory, interface="127.0.0.1")

    @property
    def clients(self) -> int:
        """How many connections it has."""
        return len(self._factory.protocols)

    async def kill(self) -> None:
        """What happens when a server's process is killed: nobody listens, and its connections are reset."""
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()
        for protocol in list(self._factory.protocols) if self._factory is not None else ():
            protocol.transport.abortConnection()


class Named(Protocol):
    """Says its name and closes."""

    name = b""

    def connectionMade(self) -> None:
        self.transport.write(self.name)
        self.transport.loseConnection()


class NamedDatagrams(DatagramProtocol):
    """Answers with its name and the question."""

    noisy = False

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(self._name + b" " + datagram, addr)


class NamedPage(Resource):
    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name.encode()

    def render(self, request: Any) -> bytes:
        return self._name


class Rig(TestCase):
    """Programs, servers and folders that go when the test is over."""

    timeout = 50

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def tcp(self, name: str) -> Server:
        return self.server(lambda: Factory.forProtocol(type("Server", (Named,), {"name": name.encode()})))

    def udp(self, name: str, number: int = 0) -> Server:
        return self.server(lambda: NamedDatagrams(name), number)

    def http(self, name: str, number: int = 0) -> Server:
        return self.server(lambda: Site(NamedPage(name)), number)

    def server(self, make: Callable[[], Factory | DatagramProtocol], number: int = 0) -> Server:
        server = Server(make, number)
        self.addCleanup(server.kill)
        return server

    def configure(self, **config: Any) -> Path:
        """Write a configuration; YAML includes JSON."""
        path = self.folder / "lb.yaml"
        path.write_text(json.dumps(config))
        return path

    def run_twistd(self, *arguments: str, prelude: str = "") -> Program:
        """twistd; `prelude` is Python that runs in its process before it."""
        return self.start(sys.executable, "-c", prelude + TWISTD, *arguments)

    def start(self, *command: str, path: str = str(TREE)) -> Program:
        """A program in the test's folder."""
        program = Program(*command, cwd=self.folder, path=path)
        self.addCleanup(program.kill)
        return program

    async def pylb(self, prelude: str = "", **config: Any) -> Program:
        """pylb in the foreground, ready to serve."""
        path = self.configure(**config)
        program = self.run_twistd("-n", "--pidfile=", "pylb", "--config", str(path), prelude=prelude)
        await program.says(READY)
        return program

    async def ends(self, program: Program, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal; it must end well and have said nothing of errors, nor anything for each connection."""
        program.signal(number)
        self.assertEqual(await program.ended(), 0, program.said)
        self.assertNotRegex(program.said, "Traceback|Unhandled|#critical|(?i:(starting|stopping) factory)")
        # The servers of a demo, which are Twisted's, do say that they start.
        self.assertNotRegex(program.said, r"(Factory|Front) starting on |\((TCP|UNIX) Port")


class EchoRig(Rig):
    """With an echo over TCP."""

    def echo(self, port: int, **more) -> dict:
        """A configuration with one TCP listener and an echo behind it."""
        return {
            "pools": {"p": {"servers": [self.server(lambda: Factory.forProtocol(partial(Peer, echo))).address]}},
            "listeners": {"echo": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
            **more,
        }

    async def client(self, port: int) -> Peer:
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Peer())
        self.addCleanup(until, lambda: client.lost)
        self.addCleanup(client.transport.abortConnection)
        client.transport.write(b"hello")
        await client.hears(b"hello")
        return client


def refuses(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


async def ask_tcp(port: int, question: bytes = b"") -> bytes:
    """What a server says, until it closes, after `question`."""
    try:
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Peer())
    except ConnectError as error:
        # A connection that is reset as soon as it is accepted looks to Twisted like one that failed.
        if error.osError != errno.ECONNRESET:
            raise
        return b""
    client.transport.write(question)
    await until(lambda: client.lost)
    return bytes(client.heard)


class _Asker(DatagramProtocol):
    noisy = False

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard.append(datagram)


async def ask_udp(port: int, question: bytes) -> bytes:
    """The answer to a datagram from a source of its own, which hears nobody else."""
    asker = _Asker()
    mine = reactor.listenUDP(0, asker, interface="127.0.0.1")
    try:
        asker.transport.connect("127.0.0.1", port)
        asker.transport.write(question)
        await until(lambda: asker.heard)
    finally:
        await mine.stopListening()
    return asker.heard[0]


async def ask_http(port: int, path: str = "/", agent: Agent | None = None) -> tuple[int, bytes]:
    """Status and body, over a connection of its own unless the agent keeps some."""
    response = await (agent or Agent(reactor)).request(b"GET", f"http://127.0.0.1:{port}{path}".encode())
    return response.code, await readBody(response)
