"""Output: tables for people, tab-separated lines for pipes, and no control characters in either."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from leptond.cli.framework.session import Session
from leptond.cli.framework.terminal import clean, echo

STYLES = {
    "pending": "yellow",
    "starting": "cyan",
    "running": "green",
    "stopping": "magenta",
    "succeeded": "green dim",
    "failed": "red",
    "timed_out": "red",
    "cancelled": "dim",
    "lost": "red",
}


class Column(NamedTuple):
    """A column's head, whether it holds numbers, and whether it may be folded on a narrow terminal."""

    head: str
    right: bool = False
    fold: bool = False


Cell = str | int | float | None


def print_table(
    session: Session,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    *,
    title: str | None = None,
    header: bool = True,
) -> None:
    """A table on a terminal; else the same columns with tabs between them and nothing cut off. The cell
    of a column STATE is coloured by what it says."""
    if not session.table:
        if header:
            echo("\t".join(column.head for column in columns))
        for row in rows:
            echo(plain_row(row))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, title=title, title_justify="left", title_style="bold", show_header=header, pad_edge=False
    )
    for column in columns:
        table.add_column(
            column.head,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
            header_style="dim",
        )
    for row in rows:
        cells = zip(columns, map(_plain, row), strict=True)
        table.add_row(
            *(
                Text(cell, style=STYLES.get(cell, "") if column.head == "STATE" else "")
                for column, cell in cells
            )
        )
    console(session).print(table)


def print_pairs(session: Session, pairs: Iterable[tuple[str, Cell]]) -> None:
    """Names and values, aligned on a terminal, else with a tab between them. Empty values are left out."""
    shown = [(name, _plain(value)) for name, value in pairs if value not in (None, "")]
    if not session.table:
        for name, value in shown:
            echo(f"{name}\t{value}")
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in shown:
        grid.add_row(name, Text(value, style=STYLES.get(value, "") if name == "state" else ""))
    console(session).print(grid)


def print_line(session: Session, text: str, *, style: str = "") -> None:
    """One line of data."""
    if session.table and style:
        from rich.text import Text

        console(session).print(Text(clean(text), style=style))
    else:
        echo(clean(text))


def console(session: Session) -> Any:
    """A rich console on standard output, for a terminal only."""
    from rich.console import Console

    # without colours no bold or dim either: then the text is all there is
    return Console(color_system="auto" if session.color else None, highlight=False, markup=False, emoji=False)


def plain_row(row: Iterable[Cell]) -> str:
    """Cells with tabs between them; an empty one is ``-``, so that every line has all its columns."""
    return "\t".join(_plain(cell) for cell in row)


def _plain(cell: Cell) -> str:
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, float):
        return f"{cell:g}"
    return clean(cell)
