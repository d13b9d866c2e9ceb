"""What does a request cost with two workers beside one?

    python -m bench.scaling [LOAD]      a load of bench/loads.py, http-small by default; 15 seconds

The load and the servers need processors too: where these are scarce, what counts is the CPU time of a request, which two
workers should not raise, and not how many requests there are in a second.
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
from bench.targets import backend, prepare, pylb

WORKERS = (1, 2)
PAIRS = 5


def describe(workers: int, samples: list[Sample], unit: str) -> str:
    """A line about the medians."""
    figure, rate = (
        median(values) for values in zip(*((each.figure, each.rate or 0.0) for each in samples), strict=True)
    )
    return f"{workers} workers: {figure:.1f} {unit}, {rate:,.0f} a second"


def main(name: str = "http-small") -> None:
    """Print what a load costs with one worker and with two, which take turns."""
    with TemporaryDirectory(prefix="pylb-bench-") as place, ExitStack() as stack:
        folders = {workers: Path(place) / str(workers) for workers in WORKERS}
        for folder in folders.values():
            folder.mkdir()
            prepare(folder)
        [load] = [load for load in make_loads(folders[1]) if load.name == name]
        servers = stack.enter_context(running(backend(folders[1]))).ports
        programs = [
            stack.enter_context(running(pylb(folders[workers], servers, workers=workers))) for workers in WORKERS
        ]
        samples = [[load.measure(program) for program in programs] for _ in range(PAIRS)]
    for workers, column in zip(WORKERS, zip(*samples, strict=True), strict=True):
        print(describe(workers, list(column), load.unit))


if __name__ == "__main__":
    main(*sys.argv[1:2])
