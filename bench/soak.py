"""Does pylb stay as it was while clients and servers do their worst?

    python -m bench.soak                          five minutes
    python -m bench.soak --seconds 60 --seed 7    one, with the random choices of an earlier run

README.md says what is done and what is looked at.
"""

from __future__ import annotations

import signal
import ssl
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random, SystemRandom
from tempfile import TemporaryDirectory
from threading import Event
from time import monotonic

import click

from bench import clients
from bench.clients import Act, Client, Tally
from bench.program import Program, running
from bench.run import prepare_itself
from bench.stays import Sample, errors, findings, grown, settled
from bench.targets import backend, missing, prepare, soaked

SERVERS = 3
SECONDS = 300

#: Kind, port, number of clients, what they do.
CLIENTS: list[tuple[str, str, int, Act]] = [
    *((f"{port} small", port, 3, clients.small) for port in ("http", "tcp", "tls")),
    *((f"{port} bulk", port, 1, clients.bulk) for port in ("http", "tcp", "tls")),
    *((f"{port} leave", port, 2, clients.leave) for port in ("http", "tcp", "tls")),
    *((f"{port} trickle", port, 2, clients.trickle) for port in ("http", "tcp", "tls")),
    *((f"{port} rubbish", port, 1, clients.rubbish) for port in ("http", "tcp", "tls")),
    *((f"{port} datagrams", port, 2, clients.datagrams) for port in ("udp", "udp_10")),
    *((f"{port} strange", port, 1, clients.strange_datagrams) for port in ("udp", "udp_10")),
]


def trouble(server: Program, random: Random, stop: Event) -> Tally:
    """Kill and start, or freeze and thaw, a server again and again; it runs in the end."""
    tally = Tally()
    while not stop.wait(random.uniform(3, 15)):
        if random.random() < 0.5:
            tally.done["killed"] += 1
            server.signal(signal.SIGKILL)
            stop.wait(random.uniform(0, 3))
            server.restart()
        else:
            tally.done["frozen"] += 1
            server.signal(signal.SIGSTOP)
            stop.wait(random.uniform(0, 3))
            server.signal(signal.SIGCONT)
    return tally


def soak(proxy: Program, servers: Sequence[Program], seconds: float, seed: int) -> tuple[list[Sample], Tally]:
    """Let all of them live for so long; a sample a second, and what clients saw."""
    stop = Event()
    with ThreadPoolExecutor(max_workers=100) as pool:
        try:
            lives = [*start_trouble(pool, servers, seed, stop), *start_clients(pool, proxy, seed, stop)]
            samples = list(sample(proxy, seconds))
        finally:
            stop.set()
    return samples, add(life.result() for life in lives)


def start_trouble(pool: ThreadPoolExecutor, servers: Sequence[Program], seed: int, stop: Event) -> list[Future[Tally]]:
    """Each server has its own."""
    return [
        pool.submit(trouble, server, Random(f"{seed} server {number}"), stop) for number, server in enumerate(servers)
    ]


def start_clients(pool: ThreadPoolExecutor, proxy: Program, seed: int, stop: Event) -> list[Future[Tally]]:
    """Each client has its own random choices, which the seed repeats."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return [
        pool.submit(
            clients.live,
            Client(kind, proxy.ports[port], Random(f"{seed} {kind} {number}"), context if port == "tls" else None),
            act,
            stop,
        )
        for kind, port, count, act in CLIENTS
        for number in range(count)
    ]


def sample(proxy: Program, seconds: float) -> Iterator[Sample]:
    """One a second, while the program runs."""
    end = monotonic() + seconds
    pause = Event()
    while monotonic() < end and proxy.is_running():
        yield Sample.of(proxy)
        pause.wait(1.0)


def add(tallies: Iterator[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.done += tally.done
        total.errors += tally.errors
        total.wrong += tally.wrong
    return total


def report(seed: int, before: Sample, samples: list[Sample], after: Sample, tally: Tally, printed: str) -> list[str]:
    """Print what was seen; what is wrong with it."""
    click.echo(f"seed {seed}, {len(samples)} samples")
    told = {"done": tally.done, "errors that clients saw": tally.errors, "errors that were logged": errors(printed)}
    for title, counter in told.items():
        click.echo(f"\n{title}:")
        for kind, count in sorted(counter.items()):
            click.echo(f"  {count:9,}  {kind}")
    click.echo(f"\nmemory in MB: {grown([sample.memory for sample in samples], 1e6)}")
    click.echo(f"descriptors: {grown([sample.descriptors.total() for sample in samples], 1)}")
    click.echo(f"descriptors in the midst {dict(samples[len(samples) // 2].descriptors)}")
    click.echo(f"descriptors before {dict(before.descriptors)}, afterwards {dict(after.descriptors)}")
    found = findings(before, samples, after, tally.wrong, printed)
    click.echo("\n" + ("\n".join(found) or "nothing is wrong"))
    return found


def run(folder: Path, stack: ExitStack, seconds: float, seed: int) -> list[str]:
    """Start all, let them live, and look; what is wrong is also printed."""
    servers = [stack.enter_context(running(server)) for server in make_servers(folder)]
    ports = {f"backend_{number}": server.ports["backend_1"] for number, server in enumerate(servers, 1)}
    proxy = stack.enter_context(running(soaked(folder, ports)))
    before = Sample.of(proxy)
    samples, tally = soak(proxy, servers, seconds, seed)
    return report(seed, before, samples, settled(proxy, before), tally, proxy.printed())


def make_servers(folder: Path) -> list[Program]:
    """Each a program of its own, in its own folder."""
    folders = [folder / f"server{number}" for number in range(SERVERS)]
    for each in (folder, *folders):
        each.mkdir(exist_ok=True)
        prepare(each)
    return [backend(each) for each in folders]


@click.command()
@click.option("--seconds", type=click.FloatRange(3), default=SECONDS, show_default=True, help="How long it lasts.")
@click.option("--seed", type=int, default=None, help="Of the random choices; by default another each time.")
def main(seconds: float, seed: int | None) -> None:
    """Let pylb serve among clients and servers that do their worst."""
    if packages := missing():
        raise click.ClickException(f"this needs programs that are not there: apt install {' '.join(packages)}")
    prepare_itself()
    with TemporaryDirectory(prefix="pylb-soak-") as name, ExitStack() as stack:
        try:
            found = run(Path(name), stack, seconds, SystemRandom().randrange(1_000_000) if seed is None else seed)
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
