"""Times, durations, sizes and signals as people (and Slurm) write them. Pure; standard library only, for
the command line imports it.

Every parser raises ValueError with a sentence that says what was read and what would be understood. Array
specifications are in :mod:`leptond.core.jobs.arrays`.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from datetime import datetime, time, tzinfo
    from decimal import Decimal

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
WEEK = 7 * DAY

_UNITS = {
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("w", "week", "weeks"), WEEK),
}
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,18})?"
_PLAIN = rf"^{_NUMBER}\Z"
_PART = rf"(?a)({_NUMBER})\s*([a-z]+)\s*"
_SLURM = r"^(?:([0-9]{1,9})-)?([0-9]{1,9})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?\Z"
_CLOCK = r"^([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\Z"
_SIZE = rf"(?a)^({_NUMBER})\s*(?:([KMGTP])(?:I?B)?|B)?\Z"
_SIGNAL = r"^(?:SIG)?(HUP|INT|QUIT|USR1|USR2|TERM|CONT|ALRM|WINCH)\Z"

DEFAULT_WARNING_S = 60.0
"""Default of the time between a warning signal and the limit (sbatch(1), --signal)."""


def _exact(number: str | float) -> Decimal:
    from decimal import Decimal  # imported by those alone who read or write such a number

    return Decimal(number)


def parse_duration(text: str, *, bare_s: float) -> float:
    """Seconds. A number without a unit counts `bare_s` seconds each: pass 60 where Slurm means minutes
    (``--time``), 1 where it means seconds.

    Understood: ``90m``, ``1h30m``, ``1.5h``, ``2 days``; and sbatch(1)'s ``minutes:seconds``,
    ``hours:minutes:seconds``, ``days-hours``, ``days-hours:minutes``, ``days-hours:minutes:seconds``.

    >>> parse_duration("1-12:00:00", bare_s=60), parse_duration("1:30:00", bare_s=60)
    (129600.0, 5400.0)
    >>> parse_duration("45", bare_s=60), parse_duration("45", bare_s=1), parse_duration("1h30m", bare_s=1)
    (2700.0, 45.0, 5400.0)
    """
    word = text.strip().lower()
    if re.match(_PLAIN, word):
        return float(_exact(word) * _exact(bare_s))
    seconds = _slurm_duration(word)
    if seconds is None:
        seconds = _unit_duration(word)
    if seconds is None:
        raise ValueError(f"{text!r} is not a duration; write 90m, 1h30m, 2d, 1:30:00 or 1-12:00:00")
    return seconds


def _slurm_duration(word: str) -> float | None:
    match = re.match(_SLURM, word)
    if match is None:
        return None
    days, first, second, third = match.groups()
    low = [int(part) for part in (second, third) if part is not None]
    if any(part >= 60 for part in low):
        raise ValueError(f"{word!r} has 60 or more minutes or seconds")
    if days is not None:
        hours, minutes, seconds = int(first), *low, *[0] * (2 - len(low))
        return int(days) * DAY + hours * HOUR + minutes * MINUTE + seconds
    if third is not None:
        return int(first) * HOUR + int(second) * MINUTE + int(third)
    return int(first) * MINUTE + int(second)


def _unit_duration(word: str) -> float | None:
    total, at = _exact(0), 0
    while at < len(word):
        match = re.compile(_PART).match(word, at)
        if match is None or match[2] not in _UNITS:
            return None
        total += _exact(match[1]) * _exact(str(_UNITS[match[2]]))
        at = match.end()
    return float(total) if at else None


def format_duration(seconds: float) -> str:
    """For people: at most two units, rounded down, never negative.

    >>> [format_duration(s) for s in (0.25, 45, 360, 4320, 183600)]
    ['0s', '45s', '6m', '1h12m', '2d3h']
    """
    left = max(0, int(seconds))
    for name, size, lower, lower_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if left >= size:
            rest = left % size // lower_size
            return f"{left // size}{name}" + (f"{rest}{lower}" if rest else "")
    return f"{left}s"


def spell_duration(seconds: float) -> str:
    """The exact number of seconds, in a form that parse_duration reads back.

    >>> spell_duration(43200), spell_duration(5400), spell_duration(0.5)
    ('12h', '90m', '0.5s')
    """
    whole = int(seconds)
    if whole != seconds:
        return f"{_exact(repr(seconds)):f}s"
    for name, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole and whole % size == 0:
            return f"{whole // size}{name}"
    return f"{whole}s"


def parse_begin(text: str, *, now: datetime, zone: tzinfo | None = None) -> datetime:
    """An instant in UTC: ``now``, ``now+2h`` (a bare number counts seconds, as in Slurm), ``18:00`` (the
    next one), ``noon``, ``midnight``, ``2026-12-24``, ``2026-12-24T18:00`` or with an offset. Times
    without an offset are in `zone`; None is the system's own."""
    from datetime import UTC, datetime, time, timedelta

    word = text.strip()
    low = word.lower().replace(" ", "")
    if low == "now":
        return now.astimezone(UTC)
    try:
        if low.startswith("now+"):
            return now.astimezone(UTC) + timedelta(seconds=parse_duration(low[4:], bare_s=1))
        clock = re.match(_CLOCK, {"noon": "12:00", "midnight": "00:00"}.get(low, low))
        if clock is not None:
            return _next_time(time(int(clock[1]), int(clock[2]), int(clock[3] or 0)), now, zone)
        return _to_utc(datetime.fromisoformat(word), zone)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{text!r} is not a time; write now+2h, 18:00, 2026-12-24T18:00 or 2026-12-24T18:00:00Z"
        ) from None


def parse_since(text: str, *, now: datetime, zone: tzinfo | None = None) -> datetime:
    """An instant in the past, in UTC: ``2h`` or ``3d`` ago, ``today``, or an ISO date or time."""
    from datetime import UTC, datetime, time, timedelta

    word = text.strip()
    try:
        if word.lower() == "today":
            return _to_utc(datetime.combine(now.astimezone(zone).date(), time()), zone)
        if word[-1:].isalpha() and word[-1:] not in "Zz":
            return now.astimezone(UTC) - timedelta(seconds=parse_duration(word, bare_s=1))
        return _to_utc(datetime.fromisoformat(word), zone)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is not a time; write 2h, 3d, today or 2026-12-24") from None


def _to_utc(instant: datetime, zone: tzinfo | None) -> datetime:
    from datetime import UTC

    if instant.tzinfo is None and zone is not None:
        instant = instant.replace(tzinfo=zone)
    return instant.astimezone(UTC)  # without an offset: the system's zone, with its summer time


def _next_time(clock: time, now: datetime, zone: tzinfo | None) -> datetime:
    from datetime import datetime, timedelta

    today = now.astimezone(zone).date()
    at = _to_utc(datetime.combine(today, clock), zone)
    return at if at > now else _to_utc(datetime.combine(today + timedelta(days=1), clock), zone)


def parse_size(text: str) -> int:
    """Bytes. Units are powers of 1024, with or without B or iB, as in Slurm.

    >>> parse_size("256M"), parse_size("1.5GiB"), parse_size("65536")
    (268435456, 1610612736, 65536)
    """
    match = re.match(_SIZE, text.strip().upper())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 65536, 256M or 1.5G (powers of 1024)")
    power = "KMGTP".index(match[2]) + 1 if match[2] else 0
    return int(_exact(match[1]) * 1024**power)


def format_size(size: float) -> str:
    """For people, in powers of 1024.

    >>> format_size(512), format_size(268435456), format_size(85899345920)
    ('512 B', '256 MiB', '80 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}".replace(".0 ", " ")


def parse_signal(text: str) -> tuple[str, float, bool]:
    """A signal's name without SIG, how many seconds before the limit it is sent, and whether to the batch
    script alone: ``USR1@120``, ``B:USR1@2m``; ``USR1`` alone means 60 s before, as in Slurm.

    >>> parse_signal("SIGUSR1@2m")
    ('USR1', 120.0, False)
    """
    whom, colon, rest = text.strip().partition(":")
    batch = bool(colon) and whom.upper() == "B"
    name, at, before = (rest if batch else text.strip()).partition("@")
    match = re.match(_SIGNAL, name.upper())
    if match is None:
        raise ValueError(
            f"{name!r} is not a warning signal; write USR1@120, or B:USR1@120 for the batch script alone "
            "(HUP, INT, QUIT, USR1, USR2, TERM, CONT, ALRM or WINCH)"
        )
    before_s = parse_duration(before, bare_s=1) if at else DEFAULT_WARNING_S
    if before_s <= 0:
        raise ValueError(f"{text!r}: the signal must come before the limit, so the time must be over 0")
    return match[1], before_s, batch
