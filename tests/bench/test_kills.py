from __future__ import annotations

import asyncio
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import kills, targets
from bench.targets import free_ports
from pylb.config import load


class OutcomeTests(SynchronousTestCase):
    def asked(self, answer: bytes | None) -> str:
        """What is said of a request that is answered like this, by pylb's server if it is None."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer or b"")
            writer.close()

        async def ask() -> str:
            [port] = free_ports(["server"]).values()
            async with await asyncio.start_server(kills.serve if answer is None else serve, "127.0.0.1", port):
                return await kills.ask(port)

        return asyncio.run(ask())

    def test_outcomes(self) -> None:
        """An answer counts when it is there; a connection that ends before is one that was cut."""
        self.patch(kills, "PATIENCE", 0.5)
        self.patch(kills, "LATE", 0.0)
        self.assertEqual(self.asked(b"HTTP/1.1 200 OK\r\n\r\nat last\n"), "answered")
        self.assertEqual(self.asked(b"HTTP/1.1 502 No\r\n\r\n"), "cut")
        self.assertEqual(self.asked(b""), "cut")

    def test_refused(self) -> None:
        [port] = free_ports(["server"]).values()
        self.assertEqual(asyncio.run(kills.ask(port)), "refused")

    def test_late(self) -> None:
        """Also when the connection is never ended, as the server's is not."""
        self.patch(kills, "PATIENCE", 0.05)
        self.assertEqual(self.asked(None), "late")


class TargetTests(SynchronousTestCase):
    def test_two_workers(self) -> None:
        """Both listen where they are asked, with two workers before the one server."""
        folder = Path(self.mktemp())
        folder.mkdir()
        ports = {name: targets.kills(name, folder, 7).ports["http"] for name in ("pylb", "nginx")}
        config = load(str(folder / "kills.yaml"))
        self.assertEqual(config.workers, 2)
        self.assertEqual([str(where) for where in config.listeners["http"].listen], [f"127.0.0.1:{ports['pylb']}"])
        self.assertEqual([str(server.address) for server in config.pools["late"].servers], ["127.0.0.1:7"])
        text = (folder / "kills.conf").read_text()
        self.assertEqual(re.findall(r"worker_processes (\d)|(?:listen|server) 127.0.0.1:(\d+)", text)[0][0], "2")
        self.assertEqual(re.findall(r"(?:listen|server) 127.0.0.1:(\d+)", text), ["7", str(ports["nginx"])])
