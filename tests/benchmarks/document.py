"""The figures in the documentation: its table, and a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from tests.benchmarks.rows import Row
from tests.benchmarks.show import in_order, markdown, number

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
COLORS = {"stretch": "#1a7f37", "met": "#0969da", "missed": "#cf222e"}
BUSY = "#57606a"


def write(file: Path, chart_file: Path, rows: Sequence[Row], seen: Mapping[str, str], version: str) -> None:
    """Put table and chart into the documentation; `seen` is the :func:`show.machine`. Raises ValueError when
    its marks are not there."""
    text = file.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file} has no {BEGIN} and {END}")
    where = f"{seen['cpu']}, {seen['memory']}, Linux {seen['kernel']}, Python {seen['python']}"
    head = f"leptond {version}, medians of {_runs(rows)} on {where}, SQLite {seen['sqlite']},"
    head += f" with a load of {seen['load']} from other work when they began."
    picture = f"![How far each figure is from its bar]({chart_file.name})"
    file.write_text(f"{before}{BEGIN}\n{head}\n\n{picture}\n\n{markdown(rows)}{END}{after}")
    chart_file.write_text(chart(rows, version))


def _runs(rows: Sequence[Row]) -> str:
    counts = sorted({len(row.leptond) for row in rows if row.leptond})
    words = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    return f"{words} run{'' if words == '1' else 's'}"


# -- the chart -----------------------------------------------------------------------------------------

_LEFT, _WIDTH, _ROW, _TOP = 470, 460, 24, 46
_SPAN = 3.5  # powers of two on each side of the bar


def chart(rows: Sequence[Row], version: str) -> str:
    """Return an SVG: for each figure how far it is from its bar, by factors of two; to the right is better. A
    filled circle is the figure on a quiet machine, a hollow one with all cores busy, held against the bar of
    the quiet one where it has none of its own."""
    quiet = {row.figure: row for row in rows if row.load == "quiet"}
    shown = [
        (row, quiet.get(row.figure, row), result)
        for row in in_order(rows)
        if (row.bar is not None or (row.figure in quiet and quiet[row.figure].bar is not None))
        and (result := row.result()) is not None
    ]
    figures = list(dict.fromkeys(row.figure for row, _, _ in shown))
    bottom = _TOP + _ROW * len(figures) + 4
    parts = [*_frame(version, bottom)]
    for row, bars, result in shown:
        y = _TOP + _ROW * figures.index(row.figure) + 6
        parts += _mark(row, bars if row.bar is None else row, result, y)
    told = "filled circle: quiet; hollow circle: all cores busy; diamond: stretch"
    parts.append(f'<text x="16" y="{bottom + 34}" fill="{BUSY}">{told}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _frame(version: str, bottom: int) -> list[str]:
    width, height = _LEFT + _WIDTH + 170, bottom + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="20" font-size="14" font-weight="bold">leptond {escape(version)}:'
        " distance from the bar</text>",
    ]
    for power in range(-3, 4):
        x = _x(power)
        strong = power == 0
        label = "bar" if strong else f"{2**power} x" if power > 0 else f"1/{2**-power} x"
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}"'
            f' stroke="{"#24292f" if strong else "#d0d7de"}"/>'
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="{BUSY}">{label}</text>'
        )
    return parts


def _mark(row: Row, bars: Row, result: float, y: int) -> list[str]:
    """A figure under one load: a circle, and for the quiet one its name, its line, its stretch and its
    value."""
    at = _x(_better_by(bars, result))
    unit = "x" if row.against else row.unit
    text = escape(f"{number(result)} {unit}")
    if row.load != "quiet":
        return [
            f'<circle cx="{at:.1f}" cy="{y}" r="5" fill="none" stroke="{BUSY}" stroke-width="2"/>',
            f'<text x="{_LEFT + _WIDTH + 88}" y="{y + 4}" fill="{BUSY}">{text}</text>',
        ]
    color = COLORS[row.verdict()]
    parts = [
        f'<text x="{_LEFT - 14}" y="{y + 4}" text-anchor="end">{escape(row.figure[:76])}</text>',
        f'<line x1="{_x(0):.1f}" y1="{y}" x2="{at:.1f}" y2="{y}" stroke="{color}" stroke-width="6"/>',
    ]
    if row.stretch is not None:
        goal = _x(_better_by(row, row.stretch))
        parts.append(f'<path d="M{goal:.1f} {y - 7}l5 7l-5 7l-5 -7z" fill="none" stroke="{BUSY}"/>')
    parts.append(f'<circle cx="{at:.1f}" cy="{y}" r="5" fill="{color}"/>')
    parts.append(f'<text x="{_LEFT + _WIDTH + 8}" y="{y + 4}">{text}</text>')
    return parts


def _better_by(row: Row, value: float) -> float:
    """By how many powers of two `value` is better than the bar of `row`."""
    assert row.bar is not None
    power = math.log2(row.bar / max(value, 1e-12))
    return power if row.better == "lower" else -power


def _x(power: float) -> float:
    return _LEFT + _WIDTH * (min(_SPAN, max(-_SPAN, power)) + _SPAN) / (2 * _SPAN)
