"""The real program gets one configuration after the other, while clients are served."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.web.client import Agent, HTTPConnectionPool

from tests.backends import Peer, echo, until
from tests.functional.rig import EchoRig, Program, ask_http, ask_tcp, ask_udp, free_port, refuses

RELOADS = 10


class ReloadRig(EchoRig):
    async def reload(self, program: Program, says: str = "reloaded: ", **config: Any) -> str:
        """Write another configuration and have it read; what the log says."""
        before = len(program.said)
        path = self.folder / "new.yaml"
        path.write_text(json.dumps(config))
        path.rename(self.folder / "lb.yaml")
        program.signal(signal.SIGHUP)
        await until(lambda: re.search(says, program.said[before:]) or program.status is not None)
        return program.said[before:]

    async def is_served(self, port: int) -> None:
        """By an echo."""
        client = await self.client(port)
        client.transport.loseConnection()
        await until(lambda: client.lost)

    def workers(self, program: Program) -> list[int]:
        """Process numbers of the workers that there are."""
        return [int(pid) for pid in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()]


class TrafficTests(ReloadRig):
    timeout = 120

    async def traffic(self, workers: int) -> None:
        """Over many reloads no request is lost, of whatever kind, and no connection of TCP."""
        web, tcp, udp, other = (free_port() for _ in range(4))
        servers = {
            "http": [self.http(f"http{number}").address for number in range(3)],
            "tcp": [self.tcp(f"tcp{number}").address for number in range(3)],
            "udp": [self.udp(f"udp{number}").address for number in range(3)],
            "echo": [self.server(lambda: Factory.forProtocol(partial(Peer, echo))).address],
        }
        echoes = free_port()

        def config(number: int) -> dict[str, Any]:
            """Servers and weights that change, and a listener that comes and goes."""
            pools: dict[str, Any] = {
                name: {"servers": [{"address": where, "weight": 1 + number % 3} for where in some[number % 2 :]]}
                for name, some in servers.items()
                if name != "echo"
            }
            pools["echo"] = {"servers": servers["echo"]}
            listeners: dict[str, Any] = {
                "http": {"protocol": "http", "listen": f"127.0.0.1:{web}", "pool": "http"},
                "tcp": {"protocol": "tcp", "listen": f"127.0.0.1:{tcp}", "pool": "tcp"},
                "udp": {"protocol": "udp", "listen": f"127.0.0.1:{udp}", "pool": "udp", "responses": 1},
                "echo": {"protocol": "tcp", "listen": f"127.0.0.1:{echoes}", "pool": "echo"},
            }
            if number % 2:
                listeners["other"] = {"protocol": "http", "listen": f"127.0.0.1:{other}", "pool": "http"}
            return {"workers": workers, "pools": pools, "listeners": listeners}

        program = await self.pylb(**config(0))
        long = await self.client(echoes)
        kept = Agent(reactor, pool=HTTPConnectionPool(reactor))
        self.addCleanup(kept._pool.closeCachedConnections)
        ends = False
        errors: list[Any] = []
        answers = dict.fromkeys(("kept", "new", "tcp", "udp"), 0)

        async def ask(kind: str, question: Any) -> None:
            while not ends:
                await question()
                answers[kind] += 1

        async def http(agent: Agent | None = None) -> None:
            status, name = await ask_http(web, agent=agent)
            self.assertEqual((status, name[:4]), (200, b"http"))

        async def connection() -> None:
            self.assertEqual((await ask_tcp(tcp))[:3], b"tcp")

        numbers = count()

        async def datagram() -> None:
            question = b"%d" % next(numbers)
            self.assertRegex(await ask_udp(udp, question), rb"^udp. " + question)

        asking = [
            Deferred.fromCoroutine(ask(kind, question)).addErrback(errors.append)
            for kind, question in (
                ("kept", partial(http, kept)),
                ("new", http),
                ("tcp", connection),
                ("udp", datagram),
            )
        ]
        for number in range(1, RELOADS + 1):
            await self.reload(program, **config(number))
            # Workers that retire hear of it a moment later.
            await until(lambda: refuses(other) == (number % 2 == 0))  # noqa: B023
            before = dict(answers)
            await until(lambda: errors or all(answers[kind] > before[kind] + 3 for kind in answers))  # noqa: B023
            self.assertEqual(errors, [], (number, answers))
        ends = True
        for each in asking:
            await each
        long.transport.write(b" again")
        await long.hears(b"hello again")
        if workers > 1:
            await until(lambda: len(self.workers(program)) == workers + 1)  # one has a client still
        long.transport.loseConnection()
        if workers > 1:
            await until(lambda: len(self.workers(program)) == workers)
        await self.ends(program)

    async def test_one_process(self) -> None:
        await self.traffic(1)

    async def test_several_workers(self) -> None:
        await self.traffic(2)


class MistakeTests(ReloadRig):
    async def test_mistakes(self) -> None:
        """With one process or several: all is said, and the old configuration goes on."""
        for workers in (1, 2):
            port = free_port()
            config = self.echo(port, workers=workers)
            program = await self.pylb(**config)
            pids = self.workers(program)
            stays = "no reload, the configuration stays as it was"
            said = await self.reload(program, stays, **config | {"wrokers": 3})
            self.assertIn("wrokers", said)
            said = await self.reload(program, stays, **config | {"workers": workers + 1})
            self.assertIn(f"workers: a reload cannot make it {workers + 1}", said)
            taken = self.tcp("taken").number
            listeners = config["listeners"] | {"b": {"protocol": "tcp", "listen": f"127.0.0.1:{taken}", "pool": "p"}}
            said = await self.reload(program, stays, **config | {"listeners": listeners})
            self.assertIn(f"listeners.b: cannot listen on tcp 127.0.0.1:{taken}", said)
            await self.is_served(port)
            self.assertEqual(self.workers(program), pids)
            await self.ends(program)

    async def test_stopped_meanwhile(self) -> None:
        """SIGTERM during a reload ends the program as ever, and leaves nobody behind."""
        for workers in (1, 2):
            config = self.echo(free_port(), workers=workers)
            program = await self.pylb(**config)
            program.signal(signal.SIGHUP)
            await program.says("reloading")
            pids = self.workers(program)
            await self.ends(program)
            self.assertFalse(any(Path(f"/proc/{pid}").exists() for pid in pids))

    async def test_new_worker_cannot_serve(self) -> None:
        """A crew that cannot serve is given up, the old one serves on."""
        port = free_port()
        config = self.echo(port, workers=2)
        program = await self.pylb(**config)
        pids = self.workers(program)
        program.signal(signal.SIGHUP)
        await until(lambda: set(self.workers(program)) - set(pids))
        new = min(set(self.workers(program)) - set(pids))
        os.kill(new, signal.SIGKILL)
        await program.says("no reload, the configuration stays as it was")
        self.assertIn("ended before it served: SIGKILL", program.said)
        await until(lambda: self.workers(program) == pids)
        await self.is_served(port)
        await self.reload(program, **config)
        await self.is_served(port)
        await self.ends(program)


class Silent(DatagramProtocol):
    """Hears datagrams, and answers none."""

    noisy = False

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard.append(datagram)


class BackAgainTests(ReloadRig):
    async def test_addresses(self) -> None:
        """Addresses that the last reload gave up can be asked for at once, also while a reply is owed there."""
        for workers in (1, 2):
            ports = [free_port(), free_port()]
            silent = Silent()
            address = self.server(lambda: silent).address  # noqa: B023

            def config(number: int) -> dict[str, Any]:
                where = f"127.0.0.1:{ports[number % 2]}"  # noqa: B023
                dns = {"protocol": "udp", "listen": where, "pool": "silent", "responses": 1, "timeout": "1h"}
                echoes = self.echo(ports[number % 2], workers=workers, shutdown_timeout="100ms")  # noqa: B023
                echoes["pools"]["silent"] = {"servers": [address]}  # noqa: B023
                return {**echoes, "listeners": {**echoes["listeners"], "dns": dns}}

            program = await self.pylb(**config(0))
            for number in range(1, 5):
                asked = len(silent.heard)
                with socket.socket(type=socket.SOCK_DGRAM) as client:
                    client.sendto(b"?", ("127.0.0.1", ports[(number - 1) % 2]))
                    await until(lambda: len(silent.heard) > asked)  # noqa: B023
                    await self.reload(program, **config(number))
            await self.is_served(ports[0])
            await self.ends(program)


class PersistentTests(ReloadRig):
    async def test_persistent(self) -> None:
        """A mandatory check that is persistent lets servers serve on, whoever does not answer; another does not."""
        for persistent in (False, True):
            for workers in (1, 2):
                await self.serves_on(persistent, workers)

    async def serves_on(self, persistent: bool, workers: int) -> None:
        asked: list[Peer] = []
        answers = True

        def answer(peer: Peer, data: bytes) -> None:
            if data == b"well?":
                asked.append(peer)
            if data and (answers or data != b"well?"):
                peer.transport.write(b"yes")

        server = self.server(lambda: Factory.forProtocol(partial(Peer, answer)))
        check = {"type": "tcp", "send": "well?", "expect": "yes", "mandatory": True, "persistent": persistent}
        port = free_port()
        config = {
            "workers": workers,
            "pools": {"p": {"servers": [server.address], "health_check": {**check, "interval": "1h", "timeout": "1m"}}},
            "listeners": {"tcp": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        }
        program = await self.pylb(**config)
        await program.says("is healthy")
        answers = False
        await self.reload(program, **config)
        if persistent:
            await self.serves(port)
            self.assertEqual(len(asked), 1)
        else:
            await until(lambda: len(asked) == 2)
            self.assertEqual(await ask_tcp(port, b"?"), b"")
        await self.ends(program)

    async def serves(self, port: int) -> None:
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Peer())
        self.addCleanup(until, lambda: client.lost)
        client.transport.write(b"?")
        await client.hears(b"yes")
        client.transport.loseConnection()
