"""The fields of a job as keywords with types, for editors and type checkers: ``client/typed_fields.py``, made
from the table of fields."""

from __future__ import annotations

from collections.abc import Iterable

from leptond.core.jobs.field import Field, Kind
from leptond.core.jobs.fields import FIELDS

HEAD = '''\
"""The fields of a job as keywords of the Python clients.

Made from leptond/core/jobs/fields.py by python -m leptond.docs_build.reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict
'''

TYPES: dict[Kind, str] = {
    Kind.TEXT: "str",
    Kind.COUNT: "int",
    Kind.REAL: "float",
    Kind.FLAG: "bool",
    Kind.OFF: "bool",
    Kind.SWITCH: "bool",
    Kind.LIMIT: "float",
    Kind.SECONDS: "float",
    Kind.SIZE: "int",
    Kind.INSTANT: "str",
    Kind.PATH: "str",
    Kind.SIGNAL: "Mapping[str, Any]",
    Kind.TEXTS: "Sequence[str]",
    Kind.JOBS: "Sequence[str]",
    Kind.PAIRS: "Mapping[str, str]",
    Kind.SCALARS: "Mapping[str, int | float | str]",
    Kind.VARIABLES: "Mapping[str, str]",
    Kind.JSON: "Mapping[str, Any]",
}
"""The type of a keyword; one of time is in RFC 3339."""


def module() -> str:
    """The module."""
    asked = [field for field in FIELDS if field.asked and field.name != "argv"]
    return HEAD + "".join(
        (
            _class(
                "JobFields(TypedDict, total=False)",
                "What a job may be asked to be, beside its command.",
                asked,
            ),
            '\n\nclass JobWords(JobFields):\n    """A job with its command."""\n\n'
            "    argv: Required[Sequence[str]]\n",
            _class(
                "JobChanges(TypedDict, total=False)",
                "What may be changed of a job.",
                [field for field in asked if field.editable is not None],
            ),
        )
    )


def _class(head: str, doc: str, fields: Iterable[Field]) -> str:
    return f'\n\nclass {head}:\n    """{doc}"""\n\n' + "".join(map(_line, fields))


def _line(field: Field) -> str:
    optional = " | None" if field.default is None or field.nullable else ""
    line = f"    {field.name}: {TYPES[field.kind]}{optional}\n"
    return line + (f'    """{_words(field.option.help, field.kind)}"""\n' if field.option is not None else "")


def _words(help: str, kind: Kind) -> str:
    """An option's help without the ways to write it on a command line."""
    match kind:
        case Kind.LIMIT | Kind.SECONDS:
            return f"{help.partition(':')[0].rstrip('.')} (seconds)."
        case Kind.SIZE:
            return f"{help.partition(', as ')[0].rstrip('.')} (bytes)."
        case Kind.INSTANT:
            return f"{help.partition(':')[0]} (RFC 3339)."
        case Kind.SIGNAL:
            return f"{help.partition(', as ')[0]}: {{'signal': 'USR1', 'before_s': 120}}."
        case _:
            return help
