"""The widths of a table's columns: what tells jobs apart and what they wait for always stands, names are
shortened in the middle, numbers are never cut. Pure."""

from __future__ import annotations

from collections.abc import Sequence

GAP = 2
"""Cells between two columns."""

FOLD_MIN = 24
"""The least width of a column that is folded, while others can give way."""

FEW, SOME = 16, 60
"""Widths that names, and columns that are folded, get before the others get all that they want."""


class Column:
    """A column's head, and how it gives way on a narrow terminal: `fold` over several lines; `shorten` in the
    middle, down to so many characters (0: never); `drop` it, the lowest number first (0: never). `right`: it
    holds numbers."""

    __slots__ = ("drop", "fold", "head", "right", "shorten")

    def __init__(
        self,
        head: str,
        right: bool = False,
        fold: bool = False,
        shorten: int = 0,
        drop: int = 0,
    ) -> None:
        self.head = head
        self.right = right
        self.fold = fold
        self.shorten = shorten
        self.drop = drop


def fit(columns: Sequence[Column], wanted: Sequence[int], room: int) -> dict[int, int]:
    """The widths of the columns that are shown, by position, in a line of `room` characters; `wanted` are the
    widths with which nothing is cut. Only where even the least widths are too much is a line longer.

    >>> fit([Column("ID", right=True), Column("NAME", shorten=8)], [3, 60], 40)
    {0: 3, 1: 35}
    """
    shown = list(range(len(columns)))
    dropped = sorted((column.drop, at) for at, column in enumerate(columns) if column.drop)
    while True:
        least = {at: _least(columns[at], wanted[at]) for at in shown}
        left = room - sum(least.values()) - GAP * (len(shown) - 1)
        if left >= 0 or not dropped:
            break
        shown.remove(dropped.pop(0)[1])
    if left < 0:
        return {at: _narrowest(columns[at], wanted[at], least[at], -left) for at in shown}
    for bound, folded in ((FEW, False), (SOME, True), (room, False), (room, True)):
        left = _widen(least, [at for at in shown if columns[at].fold is folded], wanted, bound, left)
    return least


def _least(column: Column, wanted: int) -> int:
    if column.fold:
        return min(wanted, max(FOLD_MIN, len(column.head)))
    return min(wanted, max(column.shorten, len(column.head))) if column.shorten else wanted


def _narrowest(column: Column, wanted: int, least: int, missing: int) -> int:
    """The width on a terminal that is too narrow for anything: what is folded gives way."""
    return max(min(wanted, len(column.head)), least - missing) if column.fold else least


def _widen(
    widths: dict[int, int], columns: Sequence[int], wanted: Sequence[int], bound: int, left: int
) -> int:
    """Share `left` among `columns`, evenly and none over `bound`; return what is left then."""
    while left > 0:
        wanting = [at for at in columns if widths[at] < min(wanted[at], bound)]
        if not wanting:
            break
        narrow = min(wanting, key=lambda at: widths[at])
        widths[narrow] += 1
        left -= 1
    return left


def shortened(text: str, width: int) -> str:
    """A text of at most `width` characters: shortened in the middle, for names often differ at their ends.

    >>> shortened("finetune-llama-lr3e-4-seed12", 12)
    'finetu…eed12'
    """
    if len(text) <= width:
        return text
    if width < 3:
        return text[:width]
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
