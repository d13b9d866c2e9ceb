"""How many requests are lost when workers are killed?

    python -m bench.kills        half a minute

400 requests a second, a connection for each, to a server that takes 20 ms, by way of two workers; every 1.25 s the older one
of them is killed with SIGKILL, 8 times.  First pylb, then nginx with a socket for each worker.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.program import Program, running
from bench.targets import free_ports, kills

RATE = 400
KILLS = 8
BETWEEN = 1.25
#: Seconds that the server takes, and a client waits.
LATE, PATIENCE = 0.02, 10.0

_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nat last\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server: one answer after another, each late."""
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(LATE)
            writer.write(_ANSWER)
    writer.close()


async def ask(port: int) -> str:
    """What becomes of one request."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_REQUEST)
            answer = await reader.read()
            writer.close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "late"
    except OSError:
        return "cut"
    return "answered" if b"at last" in answer else "cut"


async def kill(program: Program, asked: list[asyncio.Task[str]]) -> int:
    """Kill one worker after another; how many requests were under way just then, at all workers."""
    under_way = 0
    for _ in range(KILLS):
        await asyncio.sleep(BETWEEN)
        under_way += sum(not task.done() for task in asked)
        os.kill(program.children()[0], signal.SIGKILL)
    return under_way


async def outcomes(program: Program, server_port: int) -> Counter[str]:
    """What becomes of all requests while workers are killed, and for a moment after; and how many were under way then."""
    async with await asyncio.start_server(serve, "127.0.0.1", server_port):
        asked: list[asyncio.Task[str]] = []
        killing = asyncio.create_task(kill(program, asked))
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not killing.done() or loop.time() < began + KILLS * BETWEEN + 0.5:
            asked.append(asyncio.create_task(ask(program.ports["http"])))
            await asyncio.sleep(began + len(asked) / RATE - loop.time())
        return Counter({"under way at a kill": await killing}) + Counter(await asyncio.gather(*asked))


def main() -> None:
    """Print what becomes of the requests by way of each."""
    with TemporaryDirectory(prefix="pylb-bench-") as folder:
        for name in ("pylb", "nginx"):
            [server] = free_ports(["server"]).values()
            with running(kills(name, Path(folder), server)) as program:
                counts = asyncio.run(outcomes(program, server))
            print(f"{name}: {', '.join(f'{number} {what}' for what, number in sorted(counts.items()))}", flush=True)


if __name__ == "__main__":
    main()
