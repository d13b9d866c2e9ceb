"""What signals do, and how the program ends."""

from __future__ import annotations

import signal

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.backends import Peer, until
from tests.functional.rig import EchoRig, all_at_once, ask_tcp, free_port, refuses

#: Sends the program a signal when the first heavy module of pylb is imported: it is far from ready.
EARLY = """
import os, sys
class Early:
    def find_spec(self, name, *more):
        if name == "pylb.program":
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Early())
"""

#: Sends it one when Python has forgotten all handlers.
LATE = """
import os, sys
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid()):
        kill(pid, {number})
sys.late = Late()
"""


class HeldPage(Resource):
    """Keeps requests until the test answers them."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.requests = []

    def render(self, request):
        self.requests.append(request)
        return NOT_DONE_YET


class MomentTests(EchoRig):
    """Signals that come before the program serves, or when its reactor has ended, with one process or several."""

    async def test_stopped_early(self):
        """It ends as it does later, and says so."""
        for workers in (1, 2):
            for number in (signal.SIGINT, signal.SIGTERM):
                path = self.configure(**self.echo(free_port(), workers=workers))
                prelude = EARLY.format(number=int(number))
                program = self.run_twistd("-n", "--pidfile=", "pylb", "--config", str(path), prelude=prelude)
                self.assertEqual(await program.ended(), 0, program.said)
                self.assertIn(f"{number.name}: stopping", program.said)
                self.assertNotRegex(program.said, "Traceback|KeyboardInterrupt")

    async def test_told_early(self):
        """What should reopen logs, or reload, kills nobody who has just been started."""
        for workers in (1, 2):
            for number in (signal.SIGUSR1, signal.SIGHUP):
                prelude = EARLY.format(number=int(number))
                await self.ends(await self.pylb(prelude, **self.echo(free_port(), workers=workers)))

    async def test_told_late(self):
        """Nor one that has done its work: it ends with exit status 0."""
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
            await self.ends(await self.pylb(LATE.format(number=int(number)), **self.echo(free_port())))


class SignalTests(EchoRig):
    async def test_access_log_is_rotated(self):
        """After SIGUSR1 lines go to a new file; none is lost, whatever is under way."""
        server = self.tcp("server")
        port = free_port()
        log = self.folder / "access.log"
        program = await self.pylb(
            access_log={"path": "access.log"},
            pools={"p": {"servers": [server.address]}},
            listeners={"tcp": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        for number in range(5):
            answers = all_at_once(ask_tcp(port) for _ in range(20))
            log.rename(log.with_suffix(f".{number}"))
            program.signal(signal.SIGUSR1)
            await until(log.exists)
            await answers
        await self.ends(program)
        lines = {path.name: len(path.read_text().splitlines()) for path in self.folder.glob("access.*")}
        self.assertEqual((len(lines), sum(lines.values())), (6, 100), lines)

    async def test_drain(self):
        """The first signal refuses new clients and lets what runs finish."""
        port = free_port()
        program = await self.pylb(**self.echo(port))
        client = await self.client(port)
        program.signal(signal.SIGTERM)
        await program.says("SIGTERM: stopping")
        await until(lambda: refuses(port))
        client.transport.write(b", still there?")
        await client.hears(b"hello, still there?")
        self.assertIsNone(program.status)
        client.transport.loseConnection()
        self.assertEqual(await program.ended(), 0)

    async def test_drain_http(self):
        """A request that runs is answered whole and told that the connection closes; an idle connection is closed."""
        page = HeldPage()
        port = free_port()
        server = self.server(lambda: Site(page))
        program = await self.pylb(
            pools={"p": {"servers": [server.address]}},
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        where = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        idle, busy = [await connectProtocol(where, Peer()) for _ in range(2)]
        busy.transport.write(b"GET / HTTP/1.1\r\nHost: lb.test\r\n\r\n")
        await until(lambda: page.requests)
        program.signal(signal.SIGTERM)
        await until(lambda: idle.lost)
        self.assertFalse(busy.lost)
        page.requests[0].write(b"at last")
        page.requests[0].finish()
        await until(lambda: busy.lost)
        self.assertTrue(busy.clean)
        head, _, body = bytes(busy.heard).partition(b"\r\n\r\n")
        self.assertIn(b"connection: close", head.lower().split(b"\r\n"))
        self.assertIn(b"at last", body)
        self.assertEqual(await program.ended(), 0)

    async def test_shutdown_timeout(self):
        port = free_port()
        program = await self.pylb(**self.echo(port, shutdown_timeout="100ms"))
        client = await self.client(port)
        await self.ends(program)
        await until(lambda: client.lost)

    async def test_second_signal(self):
        """Whoever is in a hurry asks twice."""
        port = free_port()
        program = await self.pylb(**self.echo(port))
        client = await self.client(port)
        program.signal(signal.SIGINT)
        await program.says("SIGINT: stopping")
        await self.ends(program)
        await until(lambda: client.lost)
