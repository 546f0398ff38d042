"""The finding of one of doctor's checks."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "OK", "WARN", "FAIL"


@dataclass(frozen=True)
class Finding:
    """The result of one check: `level` is OK, WARN or FAIL; `fix` says what to do."""

    level: str
    check: str
    detail: str
    fix: str | None = None
