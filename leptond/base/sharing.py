"""Work on lists in which one object may stand many times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def distinct(values: Iterable[T]) -> list[T]:
    """Return each object once, in the order of its first appearance.

    >>> one, other = [1], [1]
    >>> len(distinct([one, one, other]))
    2
    """
    return list({id(value): value for value in values}.values())
