"""The instants that leptond takes and shows. Standard library alone."""

from __future__ import annotations

from datetime import UTC, datetime

FIRST_S = datetime(1, 1, 2, tzinfo=UTC).timestamp()
LAST_S = datetime(9999, 12, 31, tzinfo=UTC).timestamp() - 1
"""The first and last instant, in UTC seconds: a day inside the years 1 to 9999, so that each can be written
with every offset from UTC."""


def epoch(at: datetime) -> float:
    """Return an instant in UTC seconds (without an offset: in the system's zone). Raises ValueError for one
    outside [FIRST_S, LAST_S].

    >>> epoch(datetime(2026, 12, 24, 18, tzinfo=UTC))
    1798135200.0
    """
    try:
        seconds = at.timestamp()
    except (ValueError, OverflowError, OSError):
        seconds = float("inf")
    if not FIRST_S <= seconds <= LAST_S:
        raise ValueError(
            f"{at.isoformat()} is at the edge of the calendar: write a time in the years 1 to 9999"
        )
    return seconds


def within(seconds: float) -> float:
    """Return UTC seconds, or the nearest of [FIRST_S, LAST_S] (for NaN the first)."""
    return seconds if FIRST_S <= seconds <= LAST_S else LAST_S if seconds > LAST_S else FIRST_S


def clamped(seconds: float) -> datetime:
    """Return UTC seconds as an instant, to the millisecond; one outside [FIRST_S, LAST_S] as the nearest
    inside.

    >>> clamped(float("inf")).isoformat()
    '9999-12-30T23:59:59+00:00'
    """
    return datetime.fromtimestamp(round(within(seconds), 3), UTC)
