"""Several worker processes: traffic over all of them, deaths, stalls, signals, and the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import trustme
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.backends import Peer, socket_path, until
from tests.functional.rig import (
    READY,
    EchoRig,
    Program,
    all_at_once,
    ask_http,
    ask_tcp,
    ask_udp,
    free_port,
    refuses,
)

#: A worker is killed that gives no sign of life for a second.
IMPATIENT = "import pylb.workers.supervisor; pylb.workers.supervisor.BEAT = 0.2\n"
#: Clients enough that no worker is left out, but once in 2**39 times.
MANY = 40
SERVES = re.compile(r"worker (\d) serves, process (\d+)\n")


def workers(said: str) -> dict[int, int]:
    """The processes of the workers, by their numbers, as far as the log tells."""
    return {int(number): int(pid) for number, pid in SERVES.findall(said)}


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody reaps, as in a container, has."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def end(pid: int) -> None:
    """Kill a process that is still there."""
    if not gone(pid):
        os.kill(pid, signal.SIGKILL)


def unprivileged() -> tuple[int, int]:
    """A user and a group with few rights, for whoever may shed its own, and if that user can run Python; else our own."""
    if os.getuid():
        return os.getuid(), os.getgid()
    command = ["sh", "-c", f"exec {sys.executable} -c pass"]
    runs = not subprocess.run(command, user=65534, stderr=subprocess.DEVNULL, check=False).returncode
    return 65534 if runs else 0, 65534


class Late(Resource):
    """Answers after 20 ms."""

    isLeaf = True

    def render(self, request: Any) -> int:
        reactor.callLater(0.02, self._answer, request)
        return NOT_DONE_YET

    def _answer(self, request: Any) -> None:
        if request.channel is not None:
            request.write(b"at last")
            request.finish()


class WorkersRig(EchoRig):
    async def end_all(self, program: Program, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal, after which no worker is left."""
        left = workers(program.said)
        await self.ends(program, number)
        self.assertEqual([pid for pid in left.values() if not gone(pid)], [])

    async def dies(self, program: Program, number: int) -> int:
        """Kill a worker, and wait for its successor, whose process this is."""
        victim = workers(program.said)[number]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: workers(program.said)[number] != victim)
        return workers(program.said)[number]


class TrafficTests(WorkersRig):
    async def test_everything(self) -> None:
        """All protocols and kinds of addresses; the log says once who serves, and every line of the access log is whole."""
        servers = {"tcp": self.tcp("server"), "http": self.http("page"), "udp": self.udp("time")}
        ports = {protocol: free_port() for protocol in servers}
        path = socket_path(self)
        program = await self.pylb(
            workers=2,
            access_log={"path": "-", "format": "$listener $remote_addr:$remote_port."},
            pools={name: {"servers": [server.address]} for name, server in servers.items()},
            listeners={
                **{
                    name: {"protocol": name, "listen": f"127.0.0.1:{port}", "pool": name}
                    for name, port in ports.items()
                },
                "unix": {"protocol": "tcp", "listen": f"unix:{path}", "pool": "tcp"},
            },
        )
        self.assertEqual(len(re.findall("pylb .* serves|listener unix: tcp on ", program.said)), 2)
        self.assertEqual(set(await all_at_once(ask_tcp(ports["tcp"]) for _ in range(MANY))), {b"server"})
        self.assertEqual(set(await all_at_once(ask_http(ports["http"]) for _ in range(MANY))), {(200, b"page")})
        self.assertEqual(set(await all_at_once(ask_udp(ports["udp"], b"?") for _ in range(MANY))), {b"time ?"})
        client = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Peer())
        await until(lambda: client.lost)
        self.assertEqual(bytes(client.heard), b"server")
        await self.end_all(program)
        lines = Counter(re.findall(r"(?m)^(\w+) [\w.:-]+\.$", program.said))
        self.assertEqual(lines, {"tcp": MANY, "http": MANY, "udp": MANY, "unix": 1})
        self.assertFalse((self.folder / "s").exists())

    async def test_shared_out(self) -> None:
        """Each worker has clients of its own, and the supervisor none."""
        port = free_port()
        program = await self.pylb(**self.echo(port, workers=2, shutdown_timeout="100ms"))
        for _ in range(MANY):
            await self.client(port)
        sockets = {pid: self.sockets(pid) for pid in (*workers(program.said).values(), program.pid)}
        self.assertEqual(sum(sockets.values()), 2 * MANY)
        self.assertEqual([pid for pid, number in sockets.items() if not number], [program.pid])
        await self.end_all(program, signal.SIGINT)

    def sockets(self, pid: int) -> int:
        """How many connections over TCP a process has."""
        table = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        connected = {f"socket:[{line.split()[9]}]" for line in table if line.split()[3] == "01"}
        return len(connected.intersection(os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()))


class DeathTests(WorkersRig):
    async def late(self, port: int, prelude: str = "", **more: Any) -> Program:
        """Two workers before a server that takes 20 ms."""
        return await self.pylb(
            prelude,
            workers=2,
            pools={"p": {"servers": [self.server(lambda: Site(Late())).address]}},
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
            **more,
        )

    async def outcome(self, port: int) -> str:
        """What becomes of a request over a connection of its own."""
        client = Peer()
        try:
            await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
        except ConnectError as error:
            return str(error)
        client.transport.write(b"GET / HTTP/1.1\r\nHost: lb.test\r\nConnection: close\r\n\r\n")
        await until(lambda: client.lost)
        return "answered" if b"at last" in client.heard else "cut"

    async def steady(self, port: int, death: Deferred[int]) -> Counter[str]:
        """What becomes of the requests that are made, 200 a second, until a worker has a successor."""
        asked = []
        while not death.called:
            asked.append(Deferred.fromCoroutine(self.outcome(port)))
            await deferLater(reactor, 0.005)
        return Counter([await each for each in asked])

    async def test_killed(self) -> None:
        """Nobody is refused, and nothing is lost but what was in flight at the worker that died."""
        port = free_port()
        program = await self.late(port)
        for number in (1, 2, 1):
            outcomes = await self.steady(port, Deferred.fromCoroutine(self.dies(program, number)))
            self.assertLessEqual(outcomes.keys(), {"answered", "cut"})
            self.assertGreater(outcomes["answered"], 20)
            # Some 4 are in flight at a time, and half of them there.
            self.assertLess(outcomes["cut"], 20, outcomes)
        await self.end_all(program)
        self.assertIn("worker 2 has ended, its successor starts now: SIGKILL", program.said)

    async def test_sockets_of_a_dead_worker(self) -> None:
        """Of every kind they are served by the other one, at once; a datagram waits as a connection does."""
        ports = {"tcp": free_port(), "udp": free_port()}
        servers = {"tcp": self.tcp("server"), "udp": self.udp("time")}
        path = socket_path(self)
        program = await self.pylb(
            workers=2,
            pools={name: {"servers": [server.address]} for name, server in servers.items()},
            listeners={
                **{
                    name: {"protocol": name, "listen": f"127.0.0.1:{port}", "pool": name}
                    for name, port in ports.items()
                },
                "unix": {"protocol": "tcp", "listen": f"unix:{path}", "pool": "tcp"},
            },
        )
        for number in (1, 2):
            os.kill(workers(program.said)[number], signal.SIGKILL)
            for _ in range(MANY // 4):
                self.assertEqual(await ask_udp(ports["udp"], b"?"), b"time ?")
                self.assertEqual(await ask_tcp(ports["tcp"]), b"server")
                client = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Peer())
                await until(lambda: client.lost)  # noqa: B023
                self.assertEqual(bytes(client.heard), b"server")
            await program.says(f"(?s)worker {number} has ended.*worker {number} serves")
        await self.end_all(program)

    async def test_stalled(self) -> None:
        """A worker that does not give signs of life is killed and replaced; nobody who comes meanwhile is refused."""
        port = free_port()
        program = await self.late(port, IMPATIENT)
        stalled = workers(program.said)[2]
        os.kill(stalled, signal.SIGSTOP)
        outcomes = [await self.outcome(port) for _ in range(10)]
        await program.says("worker 2 gives no sign of life and is killed")
        self.assertLessEqual(set(outcomes), {"answered", "cut"})
        await until(lambda: workers(program.said)[2] != stalled)
        self.assertEqual(await self.outcome(port), "answered")
        await self.end_all(program)

    async def test_dies_again_and_again(self) -> None:
        """The pauses grow, and another worker serves the sockets meanwhile."""
        port = free_port()
        program = await self.late(port)
        for _ in range(3):
            await self.dies(program, 1)
        os.kill(workers(program.said)[1], signal.SIGKILL)
        await program.says("worker 1 has ended, its successor starts in 0.4 s")
        outcomes = await all_at_once(self.outcome(port) for _ in range(MANY))
        self.assertEqual(set(outcomes), {"answered"})
        starts = re.findall(r"worker 1 has ended, its successor starts (now|in [\d.]+ s)", program.said)
        self.assertEqual(starts, ["now", "in 0.1 s", "in 0.2 s", "in 0.4 s"])
        await self.end_all(program)

    async def test_supervisor_killed(self) -> None:
        """What runs is finished, nobody new is served, and nothing is left."""
        port = free_port()
        program = await self.pylb(**self.echo(port, workers=2))
        client = await self.client(port)
        program.signal(signal.SIGKILL)
        await until(lambda: refuses(port))
        client.transport.write(b", still there?")
        await client.hears(b"hello, still there?")
        client.transport.loseConnection()
        self.assertEqual(await program.ended(), -signal.SIGKILL)
        await until(lambda: all(map(gone, workers(program.said).values())))


class SessionTests(WorkersRig):
    async def test_learned_sessions(self) -> None:
        """A session that began at one worker is known at the other, and outlives both."""
        port = free_port()
        program = await self.pylb(
            workers=2,
            pools={
                "p": {
                    "servers": [self.http(name).address for name in ("one", "two", "three")],
                    "sticky": {"type": "learn", "create": "$arg_begin", "lookup": "$arg_session"},
                }
            },
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        _, name = await ask_http(port, "/?begin=7")

        async def names() -> set[bytes]:
            return {body for _, body in await all_at_once(ask_http(port, "/?session=7") for _ in range(MANY))}

        while await names() != {name}:
            pass
        await self.dies(program, 1)
        await self.dies(program, 2)
        self.assertEqual(await names(), {name})
        await self.end_all(program)


class ReactorTests(WorkersRig):
    async def test_other_reactors(self) -> None:
        """Workers have the one that twistd was told to use."""
        for name in ("select", "asyncio"):
            port = free_port()
            path = self.configure(**self.echo(port, workers=2))
            program = self.run_twistd("-n", "-r", name, "--pidfile=", "pylb", "--config", str(path))
            await program.says(READY)
            for pid in workers(program.said).values():
                self.assertIn(f"twisted.internet.{name}reactor", Path(f"/proc/{pid}/cmdline").read_text())
            await self.dies(program, 1)
            for _ in range(MANY // 4):
                (await self.client(port)).transport.loseConnection()
            await self.end_all(program)


class DaemonTests(WorkersRig):
    async def test_daemon(self) -> None:
        """From any folder; the workers are told by the process that the pidfile names."""
        port = free_port()
        self.configure(**self.echo(port, workers=2))
        (self.folder / "run").mkdir()
        log = self.folder / "run" / "twistd.log"
        program = self.run_twistd(
            "--pidfile", str(self.folder / "pid"), "--logfile", str(log), "-d", "run", "pylb", "--config", "lb.yaml"
        )
        self.assertEqual(await program.ended(), 0, program.said)
        pid = int((self.folder / "pid").read_text())
        self.addCleanup(end, pid)
        await until(lambda: re.search(READY, log.read_text()))
        (await self.client(port)).transport.loseConnection()
        pids = workers(log.read_text())
        os.kill(pids[1], signal.SIGKILL)
        await until(lambda: workers(log.read_text())[1] != pids[1])
        (await self.client(port)).transport.loseConnection()
        os.kill(pid, signal.SIGTERM)
        await until(lambda: gone(pid) and all(map(gone, workers(log.read_text()).values())))
        self.assertNotIn("Traceback", log.read_text())

    async def test_privileges(self) -> None:
        """Workers have those of the user that twistd sheds to; certificates, keys and the log are there already."""
        uid, gid = unprivileged()
        port = free_port()
        pair = trustme.CA().issue_cert("lb.test")
        pair.private_key_and_cert_chain_pem.write_to_path(self.folder / "site.pem")
        (self.folder / "site.pem").chmod(0o600)
        self.folder.chmod(0o700)
        config = self.echo(port, workers=2, access_log={"path": "access.log"})
        config["listeners"]["echo"]["tls"] = {"certificates": [{"cert": "site.pem", "key": "site.pem"}]}
        path = self.configure(**config)
        program = self.run_twistd("-n", "--pidfile=", f"--uid={uid}", f"--gid={gid}", "pylb", "--config", str(path))
        await program.says(READY)
        for _ in range(2):
            await self.dies(program, 1)
            for pid in workers(program.said).values():
                status = Path(f"/proc/{pid}/status").read_text()
                self.assertRegex(status, rf"(?m)^Uid:(\t{uid}){{4}}$")
                self.assertRegex(status, rf"(?m)^Gid:(\t{gid}){{4}}$")
            endpoint = wrapClientTLS(
                ssl.CertificateOptions(verify=False), TCP4ClientEndpoint(reactor, "127.0.0.1", port)
            )
            for _ in range(10):
                client = await connectProtocol(endpoint, Peer())
                client.transport.write(b"hello")
                await client.hears(b"hello")
                client.transport.loseConnection()
                await until(lambda: client.lost)  # noqa: B023
        await self.end_all(program)
        # What a worker has not written yet dies with it.
        self.assertGreaterEqual(len((self.folder / "access.log").read_text().splitlines()), 10)


class SignalTests(WorkersRig):
    async def test_drain(self) -> None:
        """The first signal refuses new clients and lets what runs finish, in every worker."""
        port = free_port()
        program = await self.pylb(**self.echo(port, workers=2))
        clients = [await self.client(port) for _ in range(MANY)]
        program.signal(signal.SIGTERM)
        await until(lambda: refuses(port))
        for client in clients:
            client.transport.write(b", still there?")
            await client.hears(b"hello, still there?")
            client.transport.loseConnection()
        self.assertEqual(await program.ended(), 0)
        self.assertTrue(all(map(gone, workers(program.said).values())))

    async def test_ctrl_c(self) -> None:
        """A terminal sends it to all processes; the second time ends all at once."""
        port = free_port()
        program = await self.pylb(**self.echo(port, workers=2))
        client = await self.client(port)
        for pid in workers(program.said).values():
            os.kill(pid, signal.SIGINT)
        program.signal(signal.SIGINT)
        await program.says("SIGINT: stopping")
        await until(lambda: refuses(port))
        self.assertFalse(client.lost)
        await self.end_all(program, signal.SIGINT)
        await until(lambda: client.lost)

    async def test_shutdown_timeout(self) -> None:
        """A worker that is stopped, and cannot end by itself, does not keep the others."""
        port = free_port()
        program = await self.pylb(IMPATIENT, **self.echo(port, workers=2, shutdown_timeout="100ms"))
        client = await self.client(port)
        os.kill(workers(program.said)[1], signal.SIGSTOP)
        await self.end_all(program)
        await until(lambda: client.lost)

    async def test_during_the_start(self) -> None:
        """At any moment of it: nothing is left, and nothing is said of errors."""
        for moment in ("reactor class", "Starting|pylb|worker"):
            path = self.configure(**self.echo(free_port(), workers=2))
            program = self.run_twistd("-n", "--pidfile=", "pylb", "--config", str(path))
            await program.says(moment)
            children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
            await until(lambda: children.read_text())  # noqa: B023
            pids = [int(pid) for pid in children.read_text().split()]
            for pid in (*pids, program.pid):
                os.kill(pid, signal.SIGINT)
            self.assertEqual(await program.ended(), 0, program.said)
            self.assertNotIn("Traceback", program.said)
            self.assertTrue(all(map(gone, pids)))

    async def test_access_log_is_rotated(self) -> None:
        """After SIGUSR1 all workers write to the new file, those that are started later too; no line is lost."""
        server = self.tcp("server")
        port = free_port()
        log = self.folder / "access.log"
        program = await self.pylb(
            workers=2,
            access_log={"path": "access.log"},
            pools={"p": {"servers": [server.address]}},
            listeners={"tcp": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        await all_at_once(ask_tcp(port) for _ in range(MANY))
        log.rename(self.folder / "old.log")
        program.signal(signal.SIGUSR1)
        await until(log.exists)
        await until(lambda: len((self.folder / "old.log").read_text().splitlines()) == MANY)
        await self.dies(program, 1)
        await all_at_once(ask_tcp(port) for _ in range(MANY))
        await self.end_all(program)
        self.assertEqual(len(log.read_text().splitlines()), MANY)
