"""What do the measurements say?

Proxies take turns, so that a measurement of one has its pair in the next of the other: the ratio is the median of the pairs,
with the least and the greatest in brackets.  All other figures are medians.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median

from bench.loads import Load
from bench.measure import Sample

__all__ = ["PROXIES", "Ratio", "Row", "ratio", "shortfalls", "table"]

PROXIES = ("pylb", "nginx", "haproxy")

_HEAD = (
    "load | unit | pylb | nginx | HAProxy | to nginx | must | to HAProxy"
    " | per second: pylb, nginx, HAProxy | p50 ms | p99 ms"
)
_ALIGN = "---|---|--:|--:|--:|---|--:|---|---|---|---"


@dataclass(frozen=True)
class Ratio:
    """The median of pairs, the least and the greatest."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        if self.least == self.greatest:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.least:.2f}-{self.greatest:.2f})"


@dataclass(frozen=True)
class Row:
    """What was measured of a load: samples by proxy, in the order of the pairs, and what failed."""

    load: Load
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {name: [] for name in PROXIES})
    failures: list[str] = field(default_factory=list)

    @property
    def reached(self) -> float | None:
        """What is compared with the load's `must`; None when it was not measured."""
        if not self.load.is_ratio:
            return _median(self.samples["pylb"], lambda sample: sample.figure)
        found = ratio(self.samples["pylb"], self.samples["nginx"])
        return found.median if found else None


def ratio(ours: list[Sample], theirs: list[Sample]) -> Ratio | None:
    """Of the figures of two proxies, pair by pair; None without a pair."""
    # A load may be over before the clock of a proxy has ticked.
    pairs = [mine.figure / other.figure for mine, other in zip(ours, theirs, strict=False) if other.figure > 0]
    return Ratio(median(pairs), min(pairs), max(pairs)) if pairs else None


def table(rows: Iterable[Row]) -> str:
    """The rows, in Markdown."""
    return "\n".join([f"| {_HEAD} |", f"|{_ALIGN}|", *(f"| {' | '.join(_cells(row))} |" for row in rows)])


def shortfalls(rows: Iterable[Row]) -> list[str]:
    """What was not reached or not measured, a line each."""
    lines = []
    for row in rows:
        lines += [f"{row.load.name}: {failure}" for failure in row.failures]
        if row.reached is not None and row.reached > row.load.must:
            over = row.reached / row.load.must - 1
            lines.append(f"{row.load.name}: {row.reached:.2f} where {row.load.must:g} is allowed ({over:.0%} over)")
    return lines


def _cells(row: Row) -> list[str]:
    ours, nginx, haproxy = (row.samples[name] for name in PROXIES)
    figures = [_number(_median(samples, lambda sample: sample.figure)) for samples in (ours, nginx, haproxy)]
    must = f"{row.load.must:g}" if row.load.is_ratio else f"{row.load.must:g} {row.load.unit}"
    ratios = [str(ratio(ours, theirs) or "-") for theirs in (nginx, haproxy)]
    rates = _each(row, lambda sample: sample.rate)
    p50 = _each(row, lambda sample: sample.p50 and sample.p50 * 1000)
    p99 = _each(row, lambda sample: sample.p99 and sample.p99 * 1000)
    return [row.load.title, row.load.unit, *figures, ratios[0], must, ratios[1], rates, p50, p99]


def _each(row: Row, of: Callable[[Sample], float | None]) -> str:
    medians = [_median(row.samples[name], of) for name in PROXIES]
    return "-" if medians == [None] * len(PROXIES) else ", ".join(map(_number, medians))


def _median(samples: Iterable[Sample], of: Callable[[Sample], float | None]) -> float | None:
    values = [value for sample in samples if (value := of(sample)) is not None]
    return median(values) if values else None


def _number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
