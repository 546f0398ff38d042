"""Array specifications, as Slurm writes them."""

from __future__ import annotations

import re

_RANGE = re.compile(r"^([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?\Z")


def parse_array(text: str, *, max_members: int) -> tuple[list[int], int | None]:
    """The indices of an array, ascending, and how many may run at a time (None: any number). Raises
    ValueError, which says what is wrong.

    >>> parse_array("0-6:3,10%2", max_members=100)
    ([0, 3, 6, 10], 2)
    """
    ranges, percent, throttle = text.partition("%")
    limit: int | None = None
    if percent:
        if not re.fullmatch(r"[0-9]{1,9}", throttle) or int(throttle) == 0:
            raise ValueError(f"the array's limit after % must be a number from 1 on, not {throttle!r}")
        limit = int(throttle)
    indices: set[int] = set()
    for part in ranges.split(","):
        match = _RANGE.match(part)
        if match is None:
            raise ValueError(
                f"{part!r} is not an array range; write 0-9, 1,3,5 or 0-20:5, and %4 for a limit"
            )
        first = int(match[1])
        last = int(match[2]) if match[2] is not None else first
        step = int(match[3]) if match[3] is not None else 1
        if last < first or step == 0:
            raise ValueError(f"the array range {part!r} is empty")
        if len(indices) + (last - first) // step + 1 > max_members:
            raise ValueError(f"the array has more than {max_members} members")
        indices.update(range(first, last + 1, step))
    return sorted(indices), limit
