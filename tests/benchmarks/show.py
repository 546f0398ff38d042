"""The figures for people: a table for the terminal, and one for the documentation."""

from __future__ import annotations

import math
import os
import platform
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.rows import Row, median

HEADS = ("figure", "cores", "unit", "leptond", "beside it", "bar", "stretch", "result", "")


def number(value: float | None) -> str:
    """Three digits that count; nothing for what was not measured.

    >>> number(12.345), number(1234.5), number(0.01234), number(None)
    ('12.3', '1,234', '0.0123', '')
    """
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def cells(row: Row) -> list[str]:
    """A row under HEADS."""
    sign = "≤" if row.better == "lower" else "≥"
    result = row.result()
    factor = " x" if row.against else ""
    beside = {"floor": row.floor, **row.peers}
    return [
        row.figure,
        row.load,
        row.unit,
        number(median(row.leptond)),
        ", ".join(f"{name} {number(median(values))}" for name, values in beside.items() if values),
        f"{sign} {number(row.bar)}" if row.bar is not None else "",
        f"{sign} {number(row.stretch)}" if row.stretch is not None else "",
        number(result) + factor if result is not None else "",
        row.verdict(),
    ]


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with those of one figure next to each other, the quiet one first."""
    places = {figure: place for place, figure in enumerate(dict.fromkeys(row.figure for row in rows))}
    return sorted(rows, key=lambda row: (places[row.figure], row.load != "quiet"))


def table(rows: Sequence[Row], version: str) -> None:
    """Prints the rows, and under them what was not measured and why."""
    made = Table(title=f"leptond {version}: medians", title_justify="left")
    for place, head in enumerate(HEADS):
        made.add_column(head, justify="left" if place in (0, 1, 2, 4, 8) else "right", overflow="fold")
    for row in in_order(rows):
        made.add_row(*cells(row))
    Console(width=170).print(made)
    for row in in_order(rows):
        if row.note:
            print(f"  {row.label}: {row.note}")


def markdown(rows: Sequence[Row]) -> str:
    """The same for the documentation: two lines a figure, of which the second is the one with busy cores."""
    lines = [f"| {' | '.join(HEADS[:-1])} | |", "| --- | --- | --- | ---: | --- | ---: | ---: | ---: | --- |"]
    before = ""
    for row in in_order(rows):
        found = cells(row)
        if row.figure == before:
            found[0] = found[2] = ""
        before = row.figure
        lines.append(f"| {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return {
        "cpu": f"{os.cpu_count()} x {cpu}",
        "memory": f"{memory:.0f} GB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load": f"{os.getloadavg()[1]:.1f}",
    }
