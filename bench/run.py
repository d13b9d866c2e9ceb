"""What does pylb cost beside nginx and HAProxy?

    python -m bench.run                                         all loads, about five minutes
    python -m bench.run --pairs 1                               each once, about a minute
    python -m bench.run --only tcp-small,http-small --pairs 3   some of them
    python -m bench.run --only http-small --profile             where pylb alone spends its time

README.md says what is measured and how.
"""

from __future__ import annotations

import pstats
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench.loads import Load, make_loads
from bench.machine import describe
from bench.outcome import LoadFailed
from bench.program import Program, running
from bench.report import page, save
from bench.table import Row
from bench.targets import backend, haproxy, missing, nginx, prepare, pylb

RESULTS = Path(__file__).parent / "results"
PAIRS = 5


def choose(loads: list[Load], names: str) -> list[Load]:
    """The loads with these names, all when there are none.  Raises click.BadParameter."""
    known = [load.name for load in loads]
    wanted = names.split(",") if names else known
    if unknown := [name for name in wanted if name not in known]:
        raise click.BadParameter(
            f"no load is called {', '.join(unknown)}; there are {', '.join(known)}", param_hint="--only"
        )
    return [load for load in loads if load.name in wanted]


def measure(load: Load, proxies: Iterable[Program], pairs: int) -> Row:
    """The proxies take turns under a load, until one fails."""
    row = Row(load)
    for proxy in [proxy for proxy in proxies if proxy.name != "haproxy" or load.has_haproxy] * pairs:
        try:
            row.samples[proxy.name].append(load.measure(proxy))
        except (LoadFailed, OSError) as error:
            row.failures.append(f"{proxy.name} failed: {error}")
            break
    return row


def measure_all(loads: Iterable[Load], proxies: list[Program], pairs: int) -> Iterator[Row]:
    """Row after row; standard error tells how far it is."""
    for load in loads:
        click.echo(f"{load.name:16}", err=True, nl=False)
        row = measure(load, proxies, pairs)
        reached = "-" if row.reached is None else f"{row.reached:.2f}"
        click.echo("failed" if row.failures else f"{reached} of {load.must:g}", err=True)
        yield row


def compare(folder: Path, stack: ExitStack, loads: list[Load], pairs: int) -> None:
    """Measure all three, print the table, and keep it."""
    servers = stack.enter_context(running(backend(folder))).ports
    proxies = [stack.enter_context(running(make(folder, servers))) for make in (nginx, haproxy, pylb)]
    rows = list(measure_all(loads, proxies, pairs))
    date, machine = datetime.now(UTC), describe()
    click.echo(page(rows, date, machine))
    click.echo(f"kept in {save(RESULTS, rows, date, machine).relative_to(RESULTS.parent.parent)}", err=True)


def profile(folder: Path, stack: ExitStack, loads: list[Load], pairs: int) -> None:
    """Put the loads on pylb alone, and print where it spent its time."""
    servers = stack.enter_context(running(backend(folder))).ports
    with running(pylb(folder, servers, folder / "profile")) as proxy:
        list(measure_all(loads, [proxy], pairs))
    pstats.Stats(str(folder / "profile")).strip_dirs().sort_stats("tottime").print_stats(30)


def prepare_itself() -> None:
    """End as after Ctrl-C when told to end, and let programs have as many descriptors as they may."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@click.command()
@click.option("--only", metavar="LOADS", default="", help="Names of loads, separated by commas; by default all.")
@click.option("--pairs", type=click.IntRange(1), default=PAIRS, show_default=True, help="How often each load runs.")
@click.option("--profile", "profiles", is_flag=True, help="Run pylb alone, under cProfile.")
def main(only: str, pairs: int, profiles: bool) -> None:
    """Measure pylb beside nginx and HAProxy."""
    if packages := missing():
        raise click.ClickException(f"this needs programs that are not there: apt install {' '.join(packages)}")
    prepare_itself()
    with TemporaryDirectory(prefix="pylb-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        loads = choose(make_loads(folder), only)
        prepare(folder)
        try:
            (profile if profiles else compare)(folder, stack, loads, pairs)
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
