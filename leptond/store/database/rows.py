"""From rows to values."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from leptond.core.jobs.model import Attempt, Job, JobSpec, Knob, LeasedGpu, Tuned

# Here and not at their first use, which may be in two threads at once: msgspec finds out about a type without
# a lock, and the process died of it (SIGSEGV, one start in a hundred on a busy machine).
for _type in (Job, Attempt):
    msgspec.json.Decoder(_type)

_spec = msgspec.json.Decoder(JobSpec)
_labels = msgspec.json.Decoder(dict[str, str])
_gpus = msgspec.json.Decoder(list[LeasedGpu])
_lines = msgspec.json.Decoder(list[str])
_tuned = msgspec.json.Decoder(dict[str, Tuned])
_metrics = msgspec.json.Decoder(dict[str, float | None])
_knobs = msgspec.json.Decoder(dict[str, Knob])


def values_of(row: sqlite3.Row | Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row by name. (``dict(row)`` looks each name up among all of them: with fifty columns
    that is most of the time that a row takes.)"""
    return dict(zip(row.keys(), row, strict=True)) if isinstance(row, sqlite3.Row) else dict(row)


def job(row: sqlite3.Row | Mapping[str, Any]) -> Job:
    """A row of ``jobs``."""
    values = values_of(row)
    values["spec"] = _spec.decode(values["spec"])
    values["labels"] = _labels.decode(values["labels"])
    for flag in ("held", "preemptible", "urgent"):
        values[flag] = bool(values[flag])
    values["exclusive"] = bool(values["exclusive"])
    values["tuned"] = _tuned.decode(values["tuned"])
    return msgspec.convert(values, Job)


def leased(text: str) -> list[LeasedGpu]:
    """The column ``attempts.gpus``."""
    return _gpus.decode(text)


def attempt(row: sqlite3.Row) -> Attempt:
    """A row of ``attempts``."""
    values = values_of(row)
    values["gpus"] = leased(values["gpus"])
    values["evidence"] = _lines.decode(values["evidence"])
    values["metrics"] = _metrics.decode(values["metrics"])
    values["knobs"] = _knobs.decode(values["knobs"])
    return msgspec.convert(values, Attempt)
