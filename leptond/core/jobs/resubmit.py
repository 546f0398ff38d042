"""The command line that submits a job again, and how its words are quoted. Pure; standard library alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from leptond.core.jobs.field import Field, Kind, Option
from leptond.core.jobs.fields import OPTIONS
from leptond.core.jobs.timespec import spell_duration

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

HIDDEN = "***"
"""Shown by the API in place of a variable that looks like a secret."""

_IN_ORDER = sorted(OPTIONS, key=lambda pair: ("first", "middle", "last").index(pair[1].place))
_PRINTABLE = re.compile(r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]*\Z")


def words(
    spec: Mapping[str, Any], *, name: str, array_index: int | None = None, has_copy: bool = False
) -> list[str]:
    """The words after ``leptonctl`` that submit the job of `spec` (as JSON has it) again just as it was. A
    member of an array comes back alone, under its own index. `has_copy`: it runs a copy of a script, whose
    file is copied again, while what its own lines ask for is among these words already."""
    asked = {**spec, "name": spec.get("name") or name}
    if array_index is not None:
        asked["array"] = str(array_index)
    found = ["submit"]
    for field, option in _IN_ORDER:
        found += _words_of(field, option, asked.get(field.name))
    return [*found, *(["--no-directives"] if has_copy else []), "--", *spec["argv"]]


def line(
    spec: Mapping[str, Any], *, name: str, array_index: int | None = None, has_copy: bool = False
) -> str:
    """The same, as a line for a shell.

    >>> line({"argv": ["python", "my train.py"], "gpus": 2, "time_limit_s": 7200.0}, name="x")
    "leptonctl submit --name x --gpus 2 --time 2h --export NONE -- python 'my train.py'"
    """
    found = words(spec, name=name, array_index=array_index, has_copy=has_copy)
    return " ".join(["leptonctl", *map(quote, found)])


def _words_of(field: Field, option: Option, value: Any) -> list[str]:
    match field.kind:
        case Kind.VARIABLES:
            # the API does not give secrets away: the line takes them from the shell that runs it
            given = [key if text == HIDDEN else f"{key}={text}" for key, text in (value or {}).items()]
            return ["--export", "NONE", *_each(option, given)]
        case Kind.FLAG:
            return [option.name] if value else []
        case Kind.OFF:
            return [option.name] if value is False else []
        case Kind.SWITCH:
            # what it says when it is on is what a machine does anyway
            return [option.no_name] if value is False else []
        case Kind.PAIRS | Kind.SCALARS:
            return _each(option, [f"{key}={one}" for key, one in (value or {}).items()])
    if field.name == "gpus" and value == 0:
        return [option.name, "0"]  # without it a machine may have another default
    usual = option.choices[0] if option.choices else field.fallback if field.kind is Kind.TEXT else None
    if value in (None, "", [], field.default, usual):
        return []
    match field.kind:
        case Kind.LIMIT | Kind.SECONDS:
            return [option.name, spell_duration(value)]
        case Kind.SIGNAL:
            batch = "B:" if value.get("batch") else ""
            return [option.name, f"{batch}{value['signal']}@{spell_duration(value['before_s'])}"]
        case Kind.TEXTS | Kind.JOBS:
            return [option.name, ",".join(value)]
    return [option.name, str(value)]


def _each(option: Option, values: list[str]) -> list[str]:
    return [word for value in values for word in (option.name, value)]


def quote(word: str) -> str:
    """A word as a shell reads it back; control characters are spelled out, so that it is safe to print."""
    if _PRINTABLE.match(word):
        return shlex.quote(word)
    spelled = "".join(_spell(char) for char in word)
    return f"$'{spelled}'"


def _spell(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    if _PRINTABLE.match(char):
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
