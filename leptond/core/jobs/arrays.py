"""Array specifications, as Slurm writes them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import overload

_RANGE = re.compile(r"^([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?\Z")


class Indices(Sequence[int]):
    """The indices of an array, ascending, each once. What is written as ranges is kept as ranges, so that
    a million of them cost no more than ten."""

    def __init__(self, ranges: Sequence[range]) -> None:
        parts = sorted((one for one in ranges if one), key=lambda one: one.start)
        if _cross(parts):
            # with steps, only spelled out they can be put in order
            spelled = any(one.step > 1 for one in parts)
            parts = _runs(sorted(set().union(*parts))) if spelled else _merged(parts)
        self._parts = parts
        self._begins = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._begins[-1]

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...
    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError(at)
        part = bisect_right(self._begins, at) - 1
        return self._parts[part][at - self._begins[part]]

    def __iter__(self) -> Iterator[int]:
        for part in self._parts:
            yield from part

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self.position(index) is not None

    def position(self, index: int) -> int | None:
        """Which of the indices `index` is, counted from 0; None when it is none of them."""
        part = bisect_right(self._parts, index, key=lambda one: one.start) - 1
        if part < 0 or index not in self._parts[part]:
            return None
        return self._begins[part] + self._parts[part].index(index)


def _cross(parts: Sequence[range]) -> bool:
    """Return True if some of these ranges, in the order of their beginnings, have numbers beyond the
    beginning of the next."""
    return any(one[-1] >= other.start for one, other in pairwise(parts))


def _merged(parts: Sequence[range]) -> list[range]:
    """Ranges of the step 1, in the order of their beginnings, as ranges that do not overlap."""
    found: list[range] = []
    for part in parts:
        if found and part.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, part.stop))
        else:
            found.append(part)
    return found


def _runs(numbers: Sequence[int]) -> list[range]:
    """Ascending numbers as ranges of the step 1."""
    found: list[range] = []
    for number in numbers:
        if found and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found


@lru_cache(maxsize=64)
def parse_array(
    text: str, *, max_members: int, max_crossing: int | None = None
) -> tuple[Indices, int | None]:
    """The indices of an array, and how many may run at a time (None: any number). `max_crossing`: most
    members of ranges with steps that go through one another, which are kept one by one. Raises ValueError,
    which says what is wrong.

    >>> indices, limit = parse_array("0-6:3,10%2", max_members=100)
    >>> list(indices), limit
    ([0, 3, 6, 10], 2)
    """
    ranges, percent, throttle = text.partition("%")
    limit: int | None = None
    if percent:
        if not re.fullmatch(r"[0-9]{1,9}", throttle) or int(throttle) == 0:
            raise ValueError(f"the array's limit after % must be a number from 1 on, not {throttle!r}")
        limit = int(throttle)
    found: list[range] = []
    count = 0
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
        found.append(range(first, last + 1, step))
        count += len(found[-1])
        if count > max_members:
            raise ValueError(f"the array has more than {max_members} members")
    if max_crossing is not None and count > max_crossing and any(one.step > 1 for one in found):
        found.sort(key=lambda one: one.start)
        if _cross(found):
            raise ValueError(
                f"the array's ranges with steps go through one another, and have {count} members;"
                f" at most {max_crossing} can be written so"
            )
    return Indices(found), limit
