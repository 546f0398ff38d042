"""From rows to values, and from values to columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from leptond.core.jobs import fields
from leptond.core.jobs.field import Kind
from leptond.core.jobs.model import Attempt, Job, JobSpec, Knob, LeasedGpu, Tuned
from leptond.core.jobs.sources import Note

# Here and not at their first use, which may be in two threads at once: msgspec finds out about a type without
# a lock, and the process died of it (SIGSEGV, one start in a hundred on a busy machine).
for _type in (Job, Attempt):
    msgspec.json.Decoder(_type)

_gpus = msgspec.json.Decoder(list[LeasedGpu])
_lines = msgspec.json.Decoder(list[str])
_metrics = msgspec.json.Decoder(dict[str, float | None])
_knobs = msgspec.json.Decoder(dict[str, Knob])
_notes = msgspec.json.Decoder(list[Note])

_FLAGS = tuple(one.name for one in fields.FIELDS if one.column and one.kind is Kind.FLAG)
_JSON: tuple[tuple[str, Callable[[str], Any]], ...] = (
    ("spec", msgspec.json.Decoder(JobSpec).decode),
    ("labels", msgspec.json.Decoder(dict[str, str]).decode),
    ("tuned", msgspec.json.Decoder(dict[str, Tuned]).decode),
)
"""The columns of ``jobs`` that hold JSON, with what reads them (a test compares with the table of fields)."""


def _json(value: Any) -> str:
    return "{}" if value == {} else msgspec.json.encode(value).decode()


def _seconds(value: datetime | float | None) -> float | None:
    return value.timestamp() if isinstance(value, datetime) else value


_TO_COLUMN: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.FLAG: int,
    Kind.PAIRS: _json,
    Kind.JSON: _json,
    Kind.INSTANT: _seconds,
}
_ASKED = tuple(
    (one.name, one.fallback, _TO_COLUMN.get(one.kind)) for one in fields.FIELDS if one.asked and one.column
)


def columns_of(spec: JobSpec) -> dict[str, Any]:
    """The columns of ``jobs`` that hold what a spec asks for."""
    found: dict[str, Any] = {}
    for name, fallback, convert in _ASKED:
        value = getattr(spec, name)
        if value is None:
            value = fallback
        elif convert is not None:
            value = convert(value)
        found[name] = value
    return found


def changed_columns(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of a job's fields as columns."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        convert = _TO_COLUMN.get(fields.BY_NAME[name].kind)
        found[name] = convert(value) if convert is not None and value is not None else value
    return found


def values_of(row: sqlite3.Row | Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row by name. (``dict(row)`` looks each name up among all of them: with fifty columns
    that is most of the time that a row takes.)"""
    return dict(zip(row.keys(), row, strict=True)) if isinstance(row, sqlite3.Row) else dict(row)


def job(row: sqlite3.Row | Mapping[str, Any]) -> Job:
    """A row of ``jobs``."""
    values = values_of(row)
    for name, decode in _JSON:
        text = values[name]
        values[name] = decode(text) if text != "{}" else {}
    for name in _FLAGS:
        values[name] = values[name] != 0
    return msgspec.convert(values, Job)


def ref(row: sqlite3.Row) -> str:
    """The name that people use for the job of a row with `id`, `array_id` and `array_index`."""
    return str(row["id"]) if row["array_id"] is None else f"{row['array_id']}_{row['array_index']}"


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
    values["notes"] = _notes.decode(values["notes"]) if values["notes"] != "[]" else []
    return msgspec.convert(values, Attempt)
