"""What is left of a run?  A page in Markdown with the table, and every sample in JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.table import Row, shortfalls, table

__all__ = ["page", "plain", "save"]


def page(rows: list[Row], date: datetime, machine: dict[str, str]) -> str:
    """The table, where and when it was made, and what was not reached."""
    where = ", ".join(machine.values())
    short = [f"- {line}" for line in shortfalls(rows)] or ["Every must is met."]
    return "\n".join([table(rows), "", f"{date:%Y-%m-%d}, {where}.", "", *short, ""])


def plain(rows: list[Row], date: datetime, machine: dict[str, str]) -> dict[str, Any]:
    """The same as JSON has it, with all samples in order; times in seconds."""
    return {
        "date": date.isoformat(timespec="seconds"),
        "machine": machine,
        "loads": {row.load.name: _plain_row(row) for row in rows},
    }


def save(folder: Path, rows: list[Row], date: datetime, machine: dict[str, str]) -> Path:
    """Write both into a folder, and nothing over what is there; the path of the page."""
    folder.mkdir(exist_ok=True)
    name = f"{date:%Y%m%dT%H%M%SZ}"
    (folder / f"{name}.json").write_text(json.dumps(plain(rows, date, machine), indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page(rows, date, machine), encoding="utf-8")
    return folder / f"{name}.md"


def _plain_row(row: Row) -> dict[str, Any]:
    return {
        "unit": row.load.unit,
        "must": row.load.must,
        "reached": row.reached,
        "failures": row.failures,
        "samples": {name: [asdict(sample) for sample in samples] for name, samples in row.samples.items()},
    }
