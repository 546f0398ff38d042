"""The lists of a job's fields that the page uses, made from the table of fields: ``api/web/fields.js``."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from msgspec import Meta

from leptond.core.jobs.field import Field, Kind
from leptond.core.jobs.fields import FIELDS, FILTERS
from leptond.core.jobs.model import JobSpec

HEAD = """\
// The fields of a job, as the page shows, asks for and searches them.
// Made from leptond/core/jobs/fields.py by python -m leptond.docs_build.reference.
"""


def script() -> str:
    """The module: INPUTS of the submit form, FACTS of a job by their group, FILTERS of the lists."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for field in FIELDS:
        if field.shown and field.label is not None and field.kind in (Kind.TEXT, Kind.COUNT):
            groups.setdefault(field.group, []).append({"name": field.name, "label": field.label})
    parts = {
        "INPUTS": _list([_input(field) for field in sorted(FIELDS, key=_last) if field.input is not None]),
        "FACTS": _object({group: _list(facts, 2) for group, facts in groups.items()}),
        "FILTERS": _list([field.name for field in FILTERS]),
    }
    return HEAD + "".join(f"\nexport const {name} = {text};\n" for name, text in parts.items())


def _last(field: Field) -> bool:
    """False for the fields that a form begins with, as the resubmit line does."""
    return field.option is None or field.option.place != "first"


def _input(field: Field) -> dict[str, Any]:
    assert field.input is not None
    words = {name: getattr(field.input, name) for name in ("label", "placeholder", "initial")}
    found = {"name": field.name, "kind": field.kind.value, **words}
    if field.kind is Kind.COUNT:
        meta = _meta(get_type_hints(JobSpec, include_extras=True)[field.name])
        found |= {"min": meta.ge, "max": meta.le}
    return {name: value for name, value in found.items() if value != ""}


def _meta(hint: Any) -> Meta:
    """The bounds of a number's type, which may be optional."""
    if get_origin(hint) is Annotated:
        return next(one for one in get_args(hint) if isinstance(one, Meta))
    return next(_meta(one) for one in get_args(hint) if get_origin(one) is Annotated)


def _list(items: list[Any], depth: int = 1) -> str:
    space = "  " * depth
    lines = "".join(f"{space}{json.dumps(item)},\n" for item in items)
    return f"[\n{lines}{space[2:]}]"


def _object(items: dict[str, str]) -> str:
    return "{\n" + "".join(f"  {name}: {text},\n" for name, text in items.items()) + "}"
