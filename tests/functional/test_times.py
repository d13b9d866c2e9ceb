"""Methods that measure times in the running program: whoever is slow serves less, for every protocol and metric."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.web.server import NOT_DONE_YET, Site

from tests.functional.rig import NamedDatagrams, NamedPage, Rig, all_at_once, ask_http, ask_tcp, ask_udp, free_port

#: Seconds that the slow server needs; the quick one less than half of it, also while the machine is busy with all rows.
SLOW = 0.9
ROWS = [
    (protocol, balance)
    for protocol, metrics in {
        "tcp": ("first_byte", "last_byte"),
        "udp": ("first_byte", "last_byte"),
        "http": ("header", "last_byte"),
    }.items()
    for metric in metrics
    for balance in (
        {"method": "least_time", "metric": metric},
        {"method": "least_time", "metric": metric, "inflight": True},
        {"method": "random", "two": "least_time", "metric": metric},
        {"method": "peak_ewma", "metric": metric},
    )
]


class SlowPage(NamedPage):
    def render(self, request: Any) -> Any:
        reactor.callLater(SLOW, self._answer, request, super().render(request))
        return NOT_DONE_YET

    def _answer(self, request: Any, page: bytes) -> None:
        request.write(page)
        request.finish()


class SlowDatagrams(NamedDatagrams):
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        reactor.callLater(SLOW, super().datagramReceived, datagram, addr)


async def ask(protocol: str, port: int) -> bytes:
    """The name of whoever answers."""
    if protocol == "udp":
        return (await ask_udp(port, b"?")).split()[0]
    if protocol == "http":
        return (await ask_http(port))[1]
    return (await ask_tcp(port, b"GET / HTTP/1.0\r\n\r\n")).split()[-1]


class TimesTests(Rig):
    async def test_slow_serves_less(self) -> None:
        """Once both servers are known the quick one serves."""
        numbers = {name: free_port() for name in ("slow", "quick")}
        self.server(lambda: Site(SlowPage("slow")), numbers["slow"])
        self.server(lambda: SlowDatagrams("slow"), numbers["slow"])
        self.http("quick", numbers["quick"])
        self.udp("quick", numbers["quick"])
        servers = [f"127.0.0.1:{number}" for number in numbers.values()]
        ports = [free_port() for _ in ROWS]
        program = await self.pylb(
            shutdown_timeout=0,
            pools={f"p{row}": {"servers": servers, "balance": balance} for row, (_, balance) in enumerate(ROWS)},
            listeners={
                f"l{row}": {"protocol": protocol, "listen": f"127.0.0.1:{ports[row]}", "pool": f"p{row}"}
                | ({"responses": 1} if protocol == "udp" else {})
                for row, (protocol, _) in enumerate(ROWS)
            },
        )
        seen = await all_at_once(self.know_then_ask(protocol, ports[row]) for row, (protocol, _) in enumerate(ROWS))
        self.assertEqual(list(zip(ROWS, seen, strict=True)), [(row, [b"quick"] * 6) for row in ROWS])
        await self.ends(program)

    async def know_then_ask(self, protocol: str, port: int) -> list[bytes]:
        """Who serves six requests after both have served."""
        known: set[bytes] = set()
        while len(known) < 2:
            known.add(await ask(protocol, port))
        return [await ask(protocol, port) for _ in range(6)]
