"""Output: tables for people, tab-separated lines for pipes, and no control characters in either."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leptond.cli.framework.layout import GAP, Column, fit, shortened
from leptond.cli.framework.session import Session
from leptond.cli.framework.terminal import clean, echo

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Cell", "Column", "console", "plain_row", "print_line", "print_pairs", "print_table"]

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
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    lines = [[_for_people(cell) for cell in row] for row in rows]
    wanted = [
        max([len(column.head) if header else 0, *(cell_len(line[at]) for line in lines)])
        for at, column in enumerate(columns)
    ]
    out = console(session)
    widths = fit(columns, wanted, out.width)
    table = Table(
        box=None, title=title, title_justify="left", title_style="bold", show_header=header, pad_edge=False
    )
    for at, width in widths.items():
        column = columns[at]
        table.add_column(
            column.head,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "crop",
            header_style="dim",
            width=width,
        )
    for line in lines:
        table.add_row(
            *(
                Text(
                    shortened(line[at], width) if columns[at].shorten else line[at],
                    style=STYLES.get(line[at], "") if columns[at].head == "STATE" else "",
                )
                for at, width in widths.items()
            )
        )
    # never narrower than its columns: then the terminal breaks the line, and no number is cut
    out.print(table, width=max(out.width, sum(widths.values()) + GAP * (len(widths) - 1)))


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


def _for_people(cell: Cell) -> str:
    """A cell of a table: no number in scientific notation."""
    if isinstance(cell, float) and cell:
        return f"{cell:g}" if "e" not in f"{cell:g}" else f"{cell:.6f}".rstrip("0").rstrip(".") or "0"
    return _plain(cell)


def _plain(cell: Cell) -> str:
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, float):
        return f"{cell:g}"
    return clean(cell)
