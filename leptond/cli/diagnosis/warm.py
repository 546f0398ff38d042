"""Doctor's lines about warm starts: an environment each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leptond.cli.diagnosis.finding import OK, WARN, Finding
from leptond.core.jobs.timespec import format_size

SHOWN = 12
"""Packages that are named; the rest is counted."""


def environments(items: list[dict[str, Any]]) -> Iterator[Finding]:
    """Tell of each environment what is warm, what was learned and what was left out."""
    for one in items:
        detail = f"{one['python']}: {one['state']}"
        if one["state"] == "warm":
            detail += f", {one['imports']} modules, {format_size(one['bytes'])}"
        if one["learned"]:
            detail += f"; learned {_some(one['learned'])}"
        if one["untried"]:
            detail += f"; to be tried {_some(one['untried'])}"
        if one["left_out"]:
            detail += f"; left out {_reasons(one['left_out'])}"
        if one["unseen"]:
            detail += f"; nothing more is learned, because of a job {one['unseen']}"
        if one["why"]:
            yield Finding(
                WARN,
                "warm starts",
                f"{detail}; {one['why']}",
                "see docs/operations.md, Warm starts",
            )
        else:
            yield Finding(OK, "warm starts", detail)
        for command, why in list(one["misfits"].items())[:SHOWN]:
            yield Finding(OK, "warm starts", f"{command}: {why.removeprefix('cold: ')}")


def _some(names: list[str]) -> str:
    named = ", ".join(names[-SHOWN:])
    more = len(names) - SHOWN
    return f"{named} and {more} more" if more > 0 else named


def _reasons(left_out: Mapping[str, str]) -> str:
    named = ", ".join(f"{name} ({why})" for name, why in list(left_out.items())[:SHOWN])
    more = len(left_out) - SHOWN
    return f"{named} and {more} more" if more > 0 else named
