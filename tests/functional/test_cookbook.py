"""The three configurations of the nginx cookbook's load-balancing chapter, counted."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Awaitable, Callable

from twisted.internet.protocol import DatagramProtocol

from tests.functional.rig import Rig, ask_http, ask_tcp, ask_udp, free_port

#: Long enough that no test ends a pause by accident, short enough to wait for.
PAUSE = "300ms"


class CookbookTests(Rig):
    async def counted(self, ask: Callable[[], Awaitable[str]], number: int) -> dict[str, int]:
        return dict(Counter([await ask() for _ in range(number)]))

    async def fails_over(self, ask, servers, spare: str) -> None:
        """Without its primaries a pool lands on the backup, losing nobody, and returns to whoever comes back."""
        for server in servers.values():
            await server.kill()
        self.assertEqual(await self.counted(ask, 10), {spare: 10})
        name, server = next(iter(servers.items()))
        server.start()
        while (answer := await ask()) != name:
            self.assertEqual(answer, spare)
        self.assertEqual(await self.counted(ask, 10), {name: 10})

    async def test_http(self):
        """An HTTP pool 1:2 with a spare."""
        servers = {name: self.http(name) for name in ("one", "two")}
        spare = self.http("spare")
        port = free_port()
        program = await self.pylb(
            pools={
                "backend": {
                    "servers": [
                        {"address": servers["one"].address, "weight": 1, "fail_timeout": PAUSE},
                        {"address": servers["two"].address, "weight": 2, "fail_timeout": PAUSE},
                        {"address": spare.address, "backup": True},
                    ]
                }
            },
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "backend"}},
        )

        async def ask() -> str:
            status, body = await ask_http(port)
            self.assertEqual(status, 200)
            return body.decode()

        self.assertEqual(await self.counted(ask, 30), {"one": 10, "two": 20})
        await self.fails_over(ask, servers, "spare")
        await self.ends(program)

    async def test_mysql(self):
        """A read pool 5:1 over TCP, with a backup."""
        servers = {name: self.tcp(name) for name in ("read1", "read2")}
        spare = self.tcp("spare")
        port = free_port()
        program = await self.pylb(
            pools={
                "mysql_read": {
                    "servers": [
                        {"address": servers["read1"].address, "weight": 5, "fail_timeout": PAUSE},
                        {"address": servers["read2"].address, "fail_timeout": PAUSE},
                        {"address": spare.address, "backup": True},
                    ]
                }
            },
            listeners={"mysql": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "mysql_read"}},
        )

        async def ask() -> str:
            return (await ask_tcp(port)).decode()

        for _ in range(5):
            self.assertEqual(await self.counted(ask, 6), {"read1": 5, "read2": 1})
        await self.fails_over(ask, servers, "spare")
        await self.ends(program)

    async def test_ntp(self):
        """An NTP pool 2:1 over UDP; each question comes from a source of its own and has one answer."""
        servers = {name: self.server(lambda name=name: Clock(name)) for name in ("ntp1", "ntp2")}
        port = free_port()
        program = await self.pylb(
            pools={"ntp": {"servers": [{"address": servers["ntp1"].address, "weight": 2}, servers["ntp2"].address]}},
            listeners={"ntp": {"protocol": "udp", "listen": f"127.0.0.1:{port}", "pool": "ntp", "responses": 1}},
        )

        async def ask() -> str:
            answer = await ask_udp(port, ntp_packet(mode=3, sent=1234.5))
            self.assertEqual(ntp_origin(answer), 1234.5)
            return ntp_name(answer)

        self.assertEqual(await self.counted(ask, 30), {"ntp1": 20, "ntp2": 10})
        await self.ends(program)


def ntp_packet(mode: int, sent: float, name: str = "", origin: float = 0.0) -> bytes:
    """RFC 5905: version 4, stratum 1, the reference's name, and when the question and the answer were sent."""
    stamps = [int(seconds * 2**32) for seconds in (0.0, origin, sent, sent)]
    return struct.pack("!BBbb2I4s4Q", 0x20 | mode, 1, 4, -20, 0, 0, name.encode(), *stamps)


def ntp_origin(packet: bytes) -> float:
    return struct.unpack("!Q", packet[24:32])[0] / 2**32


def ntp_name(packet: bytes) -> str:
    return packet[12:16].decode()


class Clock(DatagramProtocol):
    """A very small NTP server."""

    noisy = False

    def __init__(self, name: str) -> None:
        self._name = name

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        asked = struct.unpack("!Q", datagram[40:48])[0] / 2**32
        self.transport.write(ntp_packet(4, 9999.0, self._name, asked), addr)
