"""Requests decoded: JSON that all readers understand alike, within bounds, and all faults of a body or a
query in plain words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import Any

import msgspec
from msgspec import inspect

from leptond.base.errors import BadRequest, Fault, Invalid
from leptond.core.jobs import instants

MAX_DEPTH = 32
MAX_VALUES = 20_000
MAX_BATCH_VALUES = 2_000_000
"""Most values (of objects and lists, however nested) in a body, and in that of a batch."""

MAX_DIGITS = 400
"""Most characters of a number."""

MAX_FAULTS = 20
"""Most faults that one answer names."""

HINT = "see /v1/openapi.json for the fields and their types"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadRequest(f"the key {name[:100]!r} stands twice in one object")
            seen.add(name)
    return found


def _no_constant(name: str) -> Any:
    raise BadRequest(f"{name} is not a JSON number")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise BadRequest(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _real(text: str) -> float:
    if len(text) > MAX_DIGITS:
        raise BadRequest(f"a number has more than {MAX_DIGITS} digits")
    return float(text)


def check_json(data: bytes, most: int = MAX_VALUES, *, depth: int = MAX_DEPTH) -> tuple[Any, int]:
    """Return the decoded JSON, and the number of values in it. Raises BadRequest for what only a lenient
    reader takes as JSON (duplicate keys, NaN), for nesting deeper than `depth`, and for more than `most`
    values."""
    try:
        value = json.loads(
            data,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_int=_whole,
            parse_float=_real,
        )
    except RecursionError:
        raise BadRequest(f"the JSON is nested deeper than {MAX_DEPTH} levels") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    level, count = [value], 0
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value, count
        count += len(level)
        if count > most:
            raise BadRequest(f"the body has more than {most} values", hint="send it in parts")
    raise BadRequest(f"the JSON is nested deeper than {MAX_DEPTH} levels")


def decode_body(decoder: msgspec.json.Decoder[Any], data: bytes, most: int = MAX_VALUES) -> Any:
    """Return a body as the decoder's type. Raises BadRequest, and Invalid with all faults."""
    value, kind = check_json(data, most)[0], decoder.type
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise refusal(error, faults_of(value, info_of(kind), "")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def decode_query(pairs: Mapping[str, str], kind: type[msgspec.Struct]) -> Any:
    """Return the parameters of a query as a `kind`. Raises Invalid with all faults."""
    try:
        found = msgspec.convert(dict(pairs), kind, strict=False)
    except msgspec.ValidationError as error:
        info = info_of(kind)
        assert isinstance(info, inspect.StructType)
        kinds = {field.encode_name: field.type for field in info.fields}
        read = {name: _read(text, kinds.get(name)) for name, text in pairs.items()}
        raise refusal(error, faults_of(read, info, "")) from None
    for name in pairs:
        value = getattr(found, name, None)
        if isinstance(value, datetime):
            if re.match(r"[0-9]{4}-", pairs[name]) is None:  # the decoder takes numbers as well
                raise Invalid(
                    f"{name} {_of_instant(None, _AN_INSTANT, told(pairs[name]))}", pointer=f"/{name}"
                )
            try:
                instants.epoch(value)
            except ValueError as error:
                raise Invalid(str(error), pointer=f"/{name}") from None
    return found


def refusal(error: msgspec.ValidationError, faults: Iterator[Fault]) -> Invalid:
    """Return the refusal of a body or a query: its faults, else what the decoder says."""
    found = list(islice(faults, MAX_FAULTS + 1))
    if not found:
        what, _, path = (
            str(error).rpartition(" - at `$") if " - at `$" in str(error) else (str(error), "", "")
        )
        names = re.findall(r"\.([^.\[]+)|\[([^\]]*)\]", path.rstrip("`")[:1000])
        found = [Fault("".join(f"/{_escape(name or index)}" for name, index in names) or "/", what[:500])]
    more = len(found) > MAX_FAULTS
    return Invalid.of(found[:MAX_FAULTS], hint=HINT, more=more)


# -- faults ------------------------------------------------------------------------------------------------


def info_of(kind: Any) -> inspect.Type:
    """Return what msgspec knows of a type, with the descriptions of its parts."""
    if kind not in _known:
        _known[kind] = inspect.type_info(kind)
    return _known[kind]


_known: dict[Any, inspect.Type] = {}


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def spoken(pointer: str) -> str:
    """Return the name of what a pointer points at, for a sentence.

    >>> spoken("/jobs/2/gpus"), spoken("/env/A~1B"), spoken("")
    ('jobs[2].gpus', 'env.A/B', 'the body')
    """
    name = ""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        name += f"[{part}]" if name and part.isdecimal() else f".{part}" if name else part
    return name or "the body"


def told(value: Any) -> str:
    """Return a JSON value in a few words."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:60]}...")
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if value is None:
        return "null"
    return str(value).lower()[:60]


def faults_of(value: Any, kind: inspect.Type, pointer: str, words: str | None = None) -> Iterator[Fault]:
    """Yield the faults of a JSON value that should be of a type, the first ones first. `words` describe the
    type."""
    if isinstance(kind, inspect.Metadata):
        kind, described = _bare(kind)
        yield from faults_of(value, kind, pointer, described or words)
    elif isinstance(kind, inspect.UnionType):
        yield from _of_union(value, kind, pointer, words)
    elif isinstance(kind, inspect.StructType):
        yield from _of_struct(value, kind, pointer)
    elif isinstance(kind, inspect.ListType):
        yield from _of_list(value, kind, pointer)
    elif isinstance(kind, inspect.DictType):
        yield from _of_dict(value, kind, pointer)
    else:
        fault = _of_leaf(value, kind, words)
        if fault is not None:
            yield Fault(pointer or "/", f"{spoken(pointer)} {fault}")


def _of_union(value: Any, kind: inspect.UnionType, pointer: str, words: str | None) -> Iterator[Fault]:
    some = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
    if value is None and len(some) < len(kind.types):
        return
    every = [list(islice(faults_of(value, one, pointer, words), MAX_FAULTS)) for one in some]
    if not all(every):
        return
    if len(some) == 1:
        yield from every[0]
        return
    # of the type that it is, but out of its range
    fitting = [found for one, found in zip(some, every, strict=True) if _fits(value, one)]
    if fitting:
        yield from fitting[0]
    else:
        kinds = " or ".join(_noun(one) for one in some)
        yield Fault(pointer or "/", f"{spoken(pointer)} must be {kinds}, not {told(value)}")


def _of_struct(value: Any, kind: inspect.StructType, pointer: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(pointer or "/", f"{spoken(pointer)} must be an object, not {told(value)}")
        return
    fields = {field.encode_name: field for field in kind.fields}
    if kind.forbid_unknown_fields:
        for name in value:
            if name not in fields:
                near = get_close_matches(name[:64], fields, n=1)
                meant = f"; did you mean {near[0]}?" if near else ""
                there = f"{pointer}/{_escape(name[:100])}"
                yield Fault(there, f"there is no field {spoken(there)}{meant}")
    for name, field in fields.items():
        there = f"{pointer}/{_escape(name)}"
        if name in value:
            yield from faults_of(value[name], field.type, there)
        elif field.required:
            yield Fault(there, f"{spoken(there)} is missing")


def _of_list(value: Any, kind: inspect.ListType, pointer: str) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield Fault(pointer or "/", f"{spoken(pointer)} must be a list, not {told(value)}")
        return
    yield from _of_length(value, kind, pointer)
    for position, item in enumerate(value):
        yield from faults_of(item, kind.item_type, f"{pointer}/{position}")


def _of_dict(value: Any, kind: inspect.DictType, pointer: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(pointer or "/", f"{spoken(pointer)} must be an object, not {told(value)}")
        return
    yield from _of_length(value, kind, pointer)
    for name, item in value.items():
        there = f"{pointer}/{_escape(name[:100])}"
        key = _of_leaf(name, *_bare(kind.key_type))
        if key is not None:
            yield Fault(there, f"a name in {spoken(pointer)} {key}")
        yield from faults_of(item, kind.value_type, there)


def _bare(kind: inspect.Type) -> tuple[inspect.Type, str | None]:
    """Return a type without what describes it, and the description."""
    if isinstance(kind, inspect.Metadata):
        return kind.type, (kind.extra_json_schema or {}).get("description")
    return kind, None


def _of_length(value: Any, kind: inspect.ListType | inspect.DictType, pointer: str) -> Iterator[Fault]:
    if kind.min_length is not None and len(value) < kind.min_length:
        least = (
            "must not be empty" if kind.min_length == 1 else f"must have at least {kind.min_length} entries"
        )
        yield Fault(pointer or "/", f"{spoken(pointer)} {least}")
    if kind.max_length is not None and len(value) > kind.max_length:
        yield Fault(
            pointer or "/", f"{spoken(pointer)} may have at most {kind.max_length} entries, not {len(value)}"
        )


def _fits(value: Any, kind: inspect.Type) -> bool:
    """Return True if a JSON value is of the JSON type, whatever else is asked of it."""
    if isinstance(kind, inspect.Metadata):
        return _fits(value, kind.type)
    if isinstance(kind, inspect.IntType):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(kind, inspect.FloatType):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, inspect.ListType):
        return isinstance(value, list)
    if isinstance(kind, (inspect.DictType, inspect.StructType)):
        return isinstance(value, dict)
    return isinstance(value, str)


def _noun(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata):
        return _noun(kind.type)
    if isinstance(kind, inspect.IntType):
        return "a whole number"
    if isinstance(kind, inspect.FloatType):
        return "a number"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.ListType):
        return "a list"
    if isinstance(kind, (inspect.DictType, inspect.StructType)):
        return "an object"
    return "text"


def _of_leaf(value: Any, kind: inspect.Type, words: str | None) -> str | None:
    """Return what is wrong with a value that has no parts, after its name in a sentence; None: nothing."""
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        return _of_number(value, kind)
    if isinstance(kind, inspect.StrType):
        return _of_text(value, kind, words)
    if isinstance(kind, (inspect.LiteralType, inspect.EnumType)):
        allowed = (
            kind.values if isinstance(kind, inspect.LiteralType) else tuple(one.value for one in kind.cls)
        )
        if value in allowed:
            return None
        near = get_close_matches(str(value)[:64], map(str, allowed), n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        return f"must be one of {', '.join(map(str, allowed))}, not {told(value)}{meant}"
    if isinstance(kind, inspect.BoolType):
        return None if isinstance(value, bool) else f"must be true or false, not {told(value)}"
    if isinstance(kind, inspect.NoneType):
        return None if value is None else f"must be null, not {told(value)}"
    if isinstance(kind, inspect.DateTimeType):
        return _of_instant(value, kind)
    return None


def _of_number(value: Any, kind: inspect.IntType | inspect.FloatType) -> str | None:
    whole = isinstance(kind, inspect.IntType)
    right = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (not whole or isinstance(value, int) or value.is_integer())
    )
    low, high = (kind.ge if kind.ge is not None else kind.gt), (kind.le if kind.le is not None else kind.lt)
    if right and not (
        (kind.ge is not None and value < kind.ge)
        or (kind.gt is not None and value <= kind.gt)
        or (kind.le is not None and value > kind.le)
        or (kind.lt is not None and value >= kind.lt)
    ):
        return None if not whole or -(2**63) <= value < 2**64 else f"is too large a number: {told(value)}"
    over = "over" if kind.gt is not None else "of at least"
    if low is not None and high is not None and kind.gt is None:
        span = f" from {_figure(low)} to {_figure(high)}"
    elif low is not None:
        span = f" {over} {_figure(low)}" + (f" and at most {_figure(high)}" if high is not None else "")
    else:
        span = f" of at most {_figure(high)}" if high is not None else ""
    return f"must be a {'whole ' if whole else ''}number{span}, not {told(value)}"


def _figure(number: float) -> str:
    return str(int(number)) if abs(number) < 1e18 and number == int(number) else f"{number:g}"


def _of_text(value: Any, kind: inspect.StrType, words: str | None) -> str | None:
    if not isinstance(value, str):
        return f"must be text, not {told(value)}"
    if kind.min_length and not value:
        return "must not be empty"
    if kind.max_length is not None and len(value) > kind.max_length:
        return f"may have at most {kind.max_length} characters, not {len(value)}"
    if kind.pattern is not None and re.search(kind.pattern, value) is None:
        form = words[:1].lower() + words[1:].rstrip(".") if words else f"text that matches {kind.pattern}"
        return f"must be {form}, not {told(value)}"
    return None


_AN_INSTANT = inspect.DateTimeType()


def _of_instant(value: Any, kind: inspect.DateTimeType, said: str | None = None) -> str | None:
    try:
        at = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return f"must be a time such as 2026-12-24T18:00:00Z, not {said or told(value)}"
    if kind.tz and at.tzinfo is None:
        return f"must say its offset from UTC, as in 2026-12-24T18:00:00Z, not {told(value)}"
    return None


def _read(text: str, kind: inspect.Type | None) -> Any:
    """Return a query's text as the JSON value that it stands for."""
    if isinstance(kind, inspect.Metadata):
        return _read(text, kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((one for each in kind.types if not isinstance(one := _read(text, each), str)), text)
    if isinstance(kind, inspect.IntType) and re.fullmatch(r"[+-]?[0-9]{1,400}", text):
        return int(text)
    if isinstance(kind, inspect.FloatType) and len(text) <= MAX_DIGITS:
        try:
            return float(text)
        except ValueError:
            return text
    if isinstance(kind, inspect.BoolType) and text in ("true", "false", "1", "0"):
        return text in ("true", "1")
    return text
