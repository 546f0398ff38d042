"""The figures for people: a table for the terminal, one for the documentation, and a chart."""

from __future__ import annotations

import math
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table

from leptond import __version__
from tests.benchmarks.rows import Row, median

HEADS = ("figure", "unit", "leptond", "floor", "task-spooler", "Slurm", "bar", "stretch", "result", "")
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
COLORS = {"stretch": "#1a7f37", "met": "#0969da", "missed": "#cf222e"}


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
    return [
        row.figure,
        row.unit,
        number(median(row.leptond)),
        number(median(row.floor)),
        number(median(row.peers.get("task-spooler", ()))),
        number(median(row.peers.get("slurm", ()))),
        f"{sign} {number(row.bar)}" if row.bar is not None else "",
        f"{sign} {number(row.stretch)}" if row.stretch is not None else "",
        number(result) + factor if result is not None else "",
        row.verdict(),
    ]


def table(rows: Sequence[Row]) -> None:
    """Prints the rows, and under them what was not measured and why."""
    made = Table(title=f"leptond {__version__}: medians", title_justify="left")
    for place, head in enumerate(HEADS):
        made.add_column(head, justify="left" if place in (0, 1, 9) else "right", overflow="fold")
    for row in rows:
        made.add_row(*cells(row))
    Console(width=150).print(made)
    for row in rows:
        if row.note:
            print(f"  {row.figure}: {row.note}")


def markdown(rows: Sequence[Row]) -> str:
    """The same for the documentation."""
    lines = [f"| {' | '.join(HEADS[:-1])} | |", "| --- | --- |" + " ---: |" * 7 + " --- |"]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
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


def document(file: Path, chart_file: Path, rows: Sequence[Row], runs: int, seen: Mapping[str, str]) -> None:
    """Puts table and chart into the documentation; `seen` is the :func:`machine`. Raises ValueError when its
    marks are not there."""
    text = file.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file} has no {BEGIN} and {END}")
    where = f"{seen['cpu']}, {seen['memory']}, Linux {seen['kernel']}, Python {seen['python']}"
    head = f"leptond {__version__}, medians of {runs} runs on {where}, SQLite {seen['sqlite']},"
    head += f" with a load of {seen['load']} from other work when they began."
    picture = f"![How far each figure is from its bar]({chart_file.name})"
    file.write_text(f"{before}{BEGIN}\n{head}\n\n{picture}\n\n{markdown(rows)}{END}{after}")
    chart_file.write_text(chart(rows))


# -- the chart -----------------------------------------------------------------------------------------

_LEFT, _WIDTH, _ROW, _TOP = 430, 460, 24, 46
_SPAN = 3.5  # powers of two on each side of the bar


def chart(rows: Sequence[Row]) -> str:
    """An SVG: for each figure how far it is from its bar, by factors of two; to the right is better."""
    shown = [(row, result) for row in rows if row.bar is not None and (result := row.result()) is not None]
    height = _TOP + _ROW * len(shown) + 30
    width = _LEFT + _WIDTH + 90
    bottom = height - 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="20" font-size="14" font-weight="bold">leptond {escape(__version__)}:'
        " distance from the bar</text>",
    ]
    for power in range(-3, 4):
        x = _x(power)
        strong = power == 0
        label = "bar" if strong else f"{2**power} x" if power > 0 else f"1/{2**-power} x"
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}"'
            f' stroke="{"#24292f" if strong else "#d0d7de"}"/>'
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#57606a">{label}</text>'
        )
    for place, (row, result) in enumerate(shown):
        assert row.bar is not None
        y = _TOP + _ROW * place + 6
        color = COLORS[row.verdict()]
        at = _x(_better_by(row, result))
        parts.append(f'<text x="{_LEFT - 14}" y="{y + 4}" text-anchor="end">{escape(row.figure[:66])}</text>')
        parts.append(
            f'<line x1="{_x(0):.1f}" y1="{y}" x2="{at:.1f}" y2="{y}" stroke="{color}" stroke-width="6"/>'
        )
        if row.stretch is not None:
            goal = _x(_better_by(row, row.stretch))
            parts.append(f'<path d="M{goal:.1f} {y - 7}l5 7l-5 7l-5 -7z" fill="none" stroke="#57606a"/>')
        parts.append(f'<circle cx="{at:.1f}" cy="{y}" r="5" fill="{color}"/>')
        unit = "x" if row.against else row.unit
        parts.append(f'<text x="{_LEFT + _WIDTH + 8}" y="{y + 4}">{number(result)} {escape(unit)}</text>')
    parts.append(f'<text x="16" y="{bottom + 16}" fill="#57606a">circle: measured; diamond: stretch</text>')
    return "\n".join([*parts, "</svg>", ""])


def _better_by(row: Row, value: float) -> float:
    """By how many powers of two `value` is better than the bar."""
    assert row.bar is not None
    power = math.log2(row.bar / max(value, 1e-12))
    return power if row.better == "lower" else -power


def _x(power: float) -> float:
    return _LEFT + _WIDTH * (min(_SPAN, max(-_SPAN, power)) + _SPAN) / (2 * _SPAN)
