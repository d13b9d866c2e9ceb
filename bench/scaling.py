"""What does a request cost with two workers beside one?

    python -m bench.scaling [LOAD]      a load of bench/loads.py, http-small by default; half a minute

pylb and nginx, each with one worker and with two, take turns.  The load and the servers need processors too: where these are
scarce, what counts is the CPU time of a request, and not how many requests there are in a second.  Two workers on processors
that share a core are each slower there, whoever's they are: that is what nginx is for.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.loads import make_loads
from bench.measure import Sample
from bench.program import running
from bench.targets import backend, nginx, prepare, pylb

WORKERS = (1, 2)
PAIRS = 5


def describe(name: str, samples: list[list[Sample]], unit: str) -> str:
    """A line about the samples of one program, with one worker and with two."""
    one, two = (median(sample.figure for sample in column) for column in samples)
    ratio = median(b.figure / a.figure for a, b in zip(*samples, strict=True))
    rates = " and ".join(f"{median(sample.rate or 0.0 for sample in column):,.0f}" for column in samples)
    return f"{name}: {one:.1f} and {two:.1f} {unit}, {ratio:.2f} times as much with two; {rates} a second"


def main(name: str = "http-small") -> None:
    """Print what a load costs."""
    with TemporaryDirectory(prefix="pylb-bench-") as place, ExitStack() as stack:
        folders = [Path(place) / str(workers) for workers in WORKERS]
        for folder in folders:
            folder.mkdir()
            prepare(folder)
        [load] = [load for load in make_loads(folders[0]) if load.name == name]
        servers = stack.enter_context(running(backend(folders[0]))).ports
        programs = [
            stack.enter_context(running(make(folder, servers, workers=workers)))
            for make in (pylb, nginx)
            for folder, workers in zip(folders, WORKERS, strict=True)
        ]
        samples = [[load.measure(program) for program in programs] for _ in range(PAIRS)]
        columns = [list(column) for column in zip(*samples, strict=True)]
    print(describe("pylb", columns[:2], load.unit))
    print(describe("nginx", columns[2:], load.unit))


if __name__ == "__main__":
    main(*sys.argv[1:2])
