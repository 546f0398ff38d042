"""Snapshots: several observations merged into one, and an observation compared with a snapshot.

A snapshot is JSON. Where observations differ it holds the types that were seen, as `"<float|null>"`; a list
of varying length is `{"<items>": merged item}`; a key that was not always there ends in `?`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

ITEMS = "<items>"
MARKER = re.compile(r"<([a-z|]+)>")
TYPES = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null", list: "list", dict: "dict"}


@dataclass(frozen=True, order=True)
class Difference:
    """One place where an observation is not what the snapshot holds."""

    path: str
    what: str
    """`added`, `removed` or `changed`."""
    before: str = ""
    now: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.path}" + (
            f": {self.before} -> {self.now}" if self.what == "changed" else ""
        )


@dataclass(frozen=True)
class Intended:
    """A difference that is meant: where (a pattern of :mod:`fnmatch`), of which kind, why, and the words
    that name it in the changelog."""

    where: str
    what: str
    why: str
    changelog: str = ""

    def covers(self, difference: Difference) -> bool:
        return difference.what == self.what and fnmatchcase(difference.path, self.where)


def merge(one: Any, other: Any) -> Any:
    """The snapshot that both observations (or snapshots) agree with."""
    if isinstance(one, dict) and isinstance(other, dict) and ITEMS not in one and ITEMS not in other:
        return _merged_keys(one, other)
    lists = _as_items(one), _as_items(other)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [merge(left, right) for left, right in zip(one, other, strict=True)]
    if lists[0] is not None and lists[1] is not None:
        return {ITEMS: reduce(merge, [*lists[0], *lists[1]])}
    if one == other and type(one) is type(other):
        return one
    return f"<{'|'.join(sorted(_types(one) | _types(other)))}>"


def _merged_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key in dict.fromkeys([*one, *other]):
        name = key.removesuffix("?")
        always = name in one and name in other
        seen = [side[spelled] for side in (one, other) for spelled in (name, f"{name}?") if spelled in side]
        found[name if always else f"{name}?"] = reduce(merge, seen)
    return found


def _as_items(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    return [value[ITEMS]] if isinstance(value, dict) and set(value) == {ITEMS} else None


def _types(value: Any) -> set[str]:
    found = MARKER.fullmatch(value) if isinstance(value, str) else None
    return set(found[1].split("|")) if found else {TYPES[type(value)]}


def compare(snapshot: Any, now: Any, path: str) -> Iterator[Difference]:
    """The differences between a snapshot and what is observed now, each at the outermost place where they
    differ."""
    if isinstance(snapshot, dict) and set(snapshot) == {ITEMS} and isinstance(now, list):
        for item in now:
            yield from compare(snapshot[ITEMS], item, f"{path}/[]")
    elif isinstance(snapshot, dict) and isinstance(now, dict):
        names = {key.removesuffix("?"): key for key in snapshot}
        for name, key in names.items():
            if name in now:
                yield from compare(snapshot[key], now[name], f"{path}/{name}")
            elif name == key:
                yield Difference(f"{path}/{name}", "removed")
        for name in now:
            if name not in names:
                yield Difference(f"{path}/{name}", "added")
    elif isinstance(snapshot, list) and isinstance(now, list) and len(snapshot) == len(now):
        for index, (before, value) in enumerate(zip(snapshot, now, strict=True)):
            yield from compare(before, value, f"{path}/{index}")
    elif isinstance(snapshot, str) and MARKER.fullmatch(snapshot):
        if not _types(now) <= _types(snapshot):
            yield Difference(path, "changed", snapshot, _short(now))
    elif type(snapshot) is not type(now) or snapshot != now:
        yield Difference(path, "changed", _short(snapshot), _short(now))


MEASURED = "<float|int|null>"
"""A number that was measured, and whether there was anything to measure."""


def without_measurements(value: Any, lists: frozenset[str]) -> Any:
    """An observation or a snapshot of which everything that depends on the speed of the machine says no more
    than its type: all numbers, with null where there was nothing to measure, and the lists under the keys
    `lists`, whose entries are those that were large enough."""
    if isinstance(value, dict):
        return {
            key: "<list>" if key in lists and isinstance(inner, list) else without_measurements(inner, lists)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [without_measurements(item, lists) for item in value]
    return MEASURED if _types(value) <= _types(MEASURED) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def unexpected(found: set[Difference], intended: list[Intended]) -> list[Difference]:
    """The differences that no entry of the list covers, in order."""
    return sorted(one for one in found if not any(entry.covers(one) for entry in intended))


def unused(found: set[Difference], intended: list[Intended]) -> list[Intended]:
    """The entries of the list that cover no difference."""
    return [entry for entry in intended if not any(entry.covers(one) for one in found)]
