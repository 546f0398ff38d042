"""A job's fields on the command line: the options of each, and what their values mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from leptond.base.usage import UsageError
from leptond.cli.framework.declare import F, option
from leptond.cli.framework.params import BEGIN, JOB, LIMIT, SECONDS, SIGNAL, SIZE, Parsed, commas
from leptond.core.jobs.field import Field, Kind, Option
from leptond.core.jobs.fields import FILTERS, OPTIONS
from leptond.core.jobs.scalars import scalar

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

Add = Callable[["Any"], "Any"]

_TYPES: Mapping[Kind, Any] = {
    Kind.COUNT: int,
    Kind.LIMIT: LIMIT,
    Kind.SECONDS: SECONDS,
    Kind.SIZE: SIZE,
    Kind.INSTANT: BEGIN,
    Kind.SIGNAL: SIGNAL,
    Kind.JOBS: JOB,
}
CONFIGURED = frozenset({"gpus"})
"""Counts whose default is the daemon's to decide: what is not said is not sent."""

_REPEATED = frozenset({Kind.TEXTS, Kind.JOBS, Kind.PAIRS, Kind.SCALARS, Kind.VARIABLES})


def _option(field: Field, words: Option, help: str, **more: Any) -> Add:
    if field.kind in _TYPES:
        more["type"] = _TYPES[field.kind]
    if field.kind in _REPEATED:
        more["multiple"] = True
    if words.choices:
        more["type"] = Parsed("word", partial(_one_of, words.choices))
    if words.metavar is not None:
        more["metavar"] = words.metavar
    return option(*words.names, field.name, help=help, **more)


def _one_of(choices: tuple[str, ...], text: str) -> str:
    if text not in choices:
        raise ValueError(f"{text!r} is not {' or '.join(choices)}")
    return text


def submit_option(field: Field) -> Add:
    """The option of a field with which a job is submitted; its value goes by the name of the field."""
    words = field.option
    assert words is not None
    if field.kind in (Kind.FLAG, Kind.OFF):
        return _option(field, words, words.help, is_flag=True)
    if field.kind is Kind.SWITCH:
        return _option(field, words, words.help, default=None)
    if field.kind is Kind.COUNT and field.default is not None and field.name not in CONFIGURED:
        return _option(field, words, words.help, default=field.default)
    return _option(field, words, words.help)


def asked_value(field: Field, given: Any) -> Any:
    """The value of a field in a spec from that of its option; None where the spec need not say it. Raises
    UsageError."""
    match field.kind:
        case Kind.FLAG:
            return given or None
        case Kind.OFF:
            return False if given else None
        case Kind.COUNT:
            return None if given == field.default else given
        case Kind.TEXTS | Kind.JOBS:
            return commas(given) or None
        case Kind.PAIRS:
            return dict(pair(field, text) for text in given) or None
        case Kind.SCALARS:
            return {name: scalar(value) for name, value in (pair(field, text) for text in given)} or None
        case Kind.SIGNAL:
            if not given:
                return None
            name, before_s, batch = given
            return {"signal": name, "before_s": before_s, **({"batch": True} if batch else {})}
        case _:
            return given


def pair(field: Field, text: str) -> tuple[str, str]:
    """A name and a value, written K=V. Raises UsageError."""
    name, equals, value = text.partition("=")
    if not equals:
        assert field.option is not None
        raise UsageError(f"{text!r} is not K=V", option=field.option.name)
    return name, value


def _added(options: list[Add]) -> Callable[[F], F]:
    def add(function: F) -> F:
        for one in reversed(options):
            function = one(function)
        return function

    return add


edit_options = _added(
    [_option(field, words, words.edit) for field, words in OPTIONS if words.edit is not None]
)
"""The options of ``leptonctl edit``."""

retry_options = _added(
    [_option(field, words, words.retry) for field, words in OPTIONS if words.retry is not None]
)
"""The options of ``leptonctl retry``."""

FILTER_HELP = {f"--{field.name}": field.filter for field in FILTERS}
"""The options that narrow a list of jobs by a field, with their help."""

filter_options = _added([option(name, help=help) for name, help in FILTER_HELP.items()])
"""The same as options of a command."""


def changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """The patch that the options of ``edit`` or ``retry`` ask for, without labels. A text that may be null is
    taken away by an empty one."""
    patch: dict[str, Any] = {}
    for field, _ in OPTIONS:
        value = given.get(field.name)
        if value is None or field.kind is Kind.PAIRS:
            continue
        patch[field.name] = None if value == "" and field.nullable else value
    return patch
