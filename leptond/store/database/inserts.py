"""Rows inserted many at a time: what they have in common is bound once a statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

SIZES = (128, 64, 32, 16, 8, 4, 2, 1)
"""Rows in one statement. Each statement hands the interpreter's lock over, which costs more than a row; and a
few sizes are a few statements, which stay prepared."""


def insert(
    db: sqlite3.Connection,
    table: str,
    shared: Mapping[str, Any],
    own: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert `rows` in their order. Each holds the values of the columns `own`; those of the other columns
    are the same for all (`shared`)."""
    columns, names, same = tuple(shared), tuple(own), tuple(shared.values())
    for part in _parts(rows):
        values = [*same, *(value for row in part for value in row)]
        db.execute(statement(table, columns, names, len(part)), values)


def _parts(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    begin = 0
    for size in SIZES:
        while len(rows) - begin >= size:
            yield rows[begin : begin + size]
            begin += size


@lru_cache(maxsize=256)
def statement(table: str, shared: tuple[str, ...], own: tuple[str, ...], count: int) -> str:
    """Return the INSERT of `count` rows. The first parameters are the values that they share, the next ones
    those of each row.

    >>> statement("jobs", ("user",), ("id", "name"), 2)
    'INSERT INTO jobs (user, id, name) VALUES (?1, ?2, ?3), (?1, ?4, ?5)'
    """
    first = [f"?{number + 1}" for number in range(len(shared))]
    marks = []
    for row in range(count):
        begin = len(shared) + row * len(own) + 1
        marks.append(f"({', '.join([*first, *(f'?{begin + number}' for number in range(len(own)))])})")
    return f"INSERT INTO {table} ({', '.join([*shared, *own])}) VALUES {', '.join(marks)}"
