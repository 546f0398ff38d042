"""From rows to values, and from values to columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

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


# -- rows as they should be, and rows that cannot be read ---------------------------------------------------

UNREADABLE = "its row in the database cannot be read"
"""The beginning of the explanation of a job that is shown in part."""

T = TypeVar("T", bound=msgspec.Struct)
E = TypeVar("E", bound=Enum)
_NEUTRAL: tuple[Any, ...] = (None, 0, "", False, [], {})


def in_part(
    values: Mapping[str, Any],
    kind: type[T],
    decode: Mapping[str, Callable[[str], Any]] = {},
    instead: Mapping[str, Any] = {},
) -> tuple[T, list[str]]:
    """Return what of a row can be read as a `kind`, and the columns that cannot. Those have the value of
    `instead`, else the field's default, else an empty one. `decode` reads columns of JSON."""
    found: dict[str, Any] = {}
    unreadable = []
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        try:
            value = decode[name](values[name]) if name in decode else values[name]
            found[name] = msgspec.convert(value, field.type)
            continue
        except (KeyError, TypeError, ValueError):  # msgspec's errors are of ValueError
            pass
        if name in values or field.required:
            unreadable.append(name)
        if name in instead:
            found[name] = instead[name]
        elif field.required:
            found[name] = next(value for value in _NEUTRAL if _is(value, field.type))
    return msgspec.convert(found, kind), unreadable


def _is(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def shown(
    values: Mapping[str, Any],
    kind: type[T],
    decode: Mapping[str, Callable[[str], Any]] = {},
    instead: Mapping[str, Any] = {},
) -> T:
    """Return a row for a view: whole, or what of it can be read (see :func:`in_part`)."""
    try:
        return msgspec.convert(
            {**values, **{name: read(values[name]) for name, read in decode.items()}}, kind
        )
    except (KeyError, TypeError, ValueError):
        return in_part(values, kind, decode, instead)[0]


def text_or(read: Callable[[str], Any], text: Any, otherwise: Any) -> Any:
    """Return what a column of JSON holds; `otherwise` where it cannot be read."""
    try:
        return read(text)
    except (TypeError, ValueError):
        return otherwise


def enum_or(kind: type[E], text: Any, otherwise: E) -> E:
    """Return the member of an enumeration that a column names; `otherwise` where it names none."""
    try:
        return kind(text)
    except ValueError:
        return otherwise


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


def readable_job(row: sqlite3.Row) -> Job | None:
    """A row of ``jobs``; None for one that cannot be read."""
    try:
        return job(row)
    except (KeyError, TypeError, ValueError):
        return None


def ref(row: sqlite3.Row) -> str:
    """The name that people use for the job of a row with `id`, `array_id` and `array_index`."""
    return ref_of(row["id"], row["array_id"], row["array_index"])


def ref_of(job_id: int, array_id: int | None, array_index: int | None) -> str:
    """The name that people use for a job."""
    return str(job_id) if array_id is None else f"{array_id}_{array_index}"


def shown_job(row: sqlite3.Row | Mapping[str, Any]) -> Job:
    """A row of ``jobs`` for a view: one that cannot be read says so as its explanation, so that it takes no
    list down. Nothing is started from it."""
    try:
        return job(row)
    except (KeyError, TypeError, ValueError):
        values = values_of(row)
        for name in _FLAGS:
            values[name] = bool(values[name])
        found, unreadable = in_part(values, Job, dict(_JSON), _INSTEAD)
        return msgspec.structs.replace(found, explanation=f"{UNREADABLE}: {', '.join(unreadable)}")


_INSTEAD = {"spec": {"argv": ["(unreadable)"]}, "state": "lost", "user": "(unreadable)", "name": "unreadable"}


def leased(text: str) -> list[LeasedGpu]:
    """The column ``attempts.gpus``."""
    return _gpus.decode(text)


def attempt(row: sqlite3.Row) -> Attempt:
    """A row of ``attempts``."""
    values = values_of(row)
    for name, decode in _JSON_OF_ATTEMPT.items():
        values[name] = decode(values[name])
    return msgspec.convert(values, Attempt)


_JSON_OF_ATTEMPT: Mapping[str, Callable[[str], Any]] = {
    "gpus": leased,
    "evidence": _lines.decode,
    "metrics": _metrics.decode,
    "knobs": _knobs.decode,
    "notes": _notes.decode,
}


def shown_attempt(row: sqlite3.Row) -> Attempt:
    """A row of ``attempts`` for a view: one that cannot be read says so as its explanation."""
    try:
        return attempt(row)
    except (KeyError, TypeError, ValueError):
        found, unreadable = in_part(values_of(row), Attempt, _JSON_OF_ATTEMPT, {"state": "ended"})
        return msgspec.structs.replace(found, explanation=f"{UNREADABLE}: {', '.join(unreadable)}")


def shown_gpus(text: Any) -> list[LeasedGpu]:
    """The column ``attempts.gpus`` for a view; empty where it cannot be read."""
    found: list[LeasedGpu] = text_or(leased, text, [])
    return found
