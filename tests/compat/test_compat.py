"""Nothing that a user relies on has changed since the last release, but what is listed as intended.

When this test fails: a difference that was not meant is a fault; one that was meant gets an entry in
differences.toml and a line in the changelog."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.compat import parts, settings
from tests.compat.commands import parse
from tests.compat.compare import (
    Difference,
    Intended,
    compare,
    merge,
    unexpected,
    unused,
    without_measurements,
)
from tests.compat.live import metrics

BASE = "0.4.0"
TOP = Path(__file__).parents[2]
INTENDED = [
    Intended(**entry)
    for entry in tomllib.loads((Path(__file__).parent / "differences.toml").read_text()).get("difference", [])
]


@pytest.fixture(scope="module")
def found() -> dict[str, set[Difference]]:
    """The differences of each part."""
    snapshot = parts.read(BASE)
    now = parts.of_code(parts.HERE / BASE / "python.json") | parts.of_daemon()
    return {
        part: set(compare(parts.comparable(part, snapshot[part]), parts.comparable(part, now[part]), part))
        for part in parts.PARTS
    }


@pytest.mark.parametrize("part", parts.PARTS)
def test_only_what_is_listed_has_changed(part: str, found: dict[str, set[Difference]]) -> None:
    wrong = unexpected(found[part], INTENDED)
    assert not wrong, "\n".join(map(str, wrong))


def test_every_listed_difference_is_there(found: dict[str, set[Difference]]) -> None:
    assert not unused(set().union(*found.values()), INTENDED)


@pytest.mark.parametrize("entry", INTENDED, ids=lambda entry: entry.where)
def test_an_entry_gives_a_reason_and_stands_in_the_changelog(entry: Intended) -> None:
    newest = " ".join((TOP / "CHANGELOG.md").read_text().split("\n## ")[1].split())
    assert len(entry.why) > 10
    assert entry.changelog in newest


def test_the_keys_and_variables_of_the_release_still_configure() -> None:
    """Also those that have a new name since: the old one is an alias."""
    before = parts.read(BASE)["settings"]
    assert settings.check(settings.toml(before), {})
    assert settings.check("", settings.environment(before))


# -- the tools themselves ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ({"a": 1}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": "<int>"}),
        ({"a": 1}, {"a": None}, {"a": "<int|null>"}),
        ({"a": "<int|null>"}, {"a": 0.5}, {"a": "<float|int|null>"}),
        ({"a": True}, {"a": 1}, {"a": "<bool|int>"}),
        ({"a": 1, "b": 2}, {"a": 1}, {"a": 1, "b?": 2}),
        ({"a": 1, "b?": 2}, {"a": 1, "b": 3}, {"a": 1, "b?": "<int>"}),
        ([1, 2], [1, 3], [1, "<int>"]),
        ([{"a": 1}], [{"a": 1}, {"a": 2}], {"<items>": {"a": "<int>"}}),
        ({"<items>": {"a": 1}}, [], {"<items>": {"a": 1}}),
    ],
)
def test_observations_are_merged(one: Any, other: Any, both: Any) -> None:
    assert merge(one, other) == both
    assert not [*compare(both, other, "x")]


@pytest.mark.parametrize(
    ("snapshot", "now", "differences"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["changed: x/a/b: 1 -> 2"]),
        ({"a": 1}, {}, ["removed: x/a"]),
        ({"a?": 1}, {}, []),
        ({}, {"a": {"b": 1}}, ["added: x/a"]),
        ({"a": 1}, {"a": 1.0}, ["changed: x/a: 1 -> 1.0"]),
        ({"a": 1}, {"a": True}, ["changed: x/a: 1 -> True"]),
        ("<int|null>", None, []),
        ("<int|null>", "text", ["changed: x: <int|null> -> 'text'"]),
        ([1, 2], [1], ["changed: x: [1, 2] -> [1]"]),
        ({"<items>": {"a": 1}}, [{"a": 1}, {}], ["removed: x/[]/a"]),
    ],
)
def test_a_difference_is_found(snapshot: Any, now: Any, differences: list[str]) -> None:
    assert [str(one) for one in compare(snapshot, now, "x")] == differences


def test_what_depends_on_speed_is_compared_by_its_type() -> None:
    fast = {"on": True, "unit": "s", "boxes": [{"name": "a", "cost": None}], "found": [], "sum": 0}
    slow = {"on": True, "unit": "s", "boxes": [{"name": "a", "cost": 1.5}], "found": [{"x": 1}], "sum": 2.5}
    plain = [without_measurements(value, frozenset({"found"})) for value in (fast, slow)]
    assert plain[0] == plain[1]
    for real in (
        {**slow, "on": False},
        {**slow, "unit": "ms"},
        {**slow, "sum": "2.5"},
        {**slow, "found": None},
        {**slow, "boxes": [{"name": "b", "cost": None}]},
        {**slow, "boxes": [{"name": "a"}]},
        {name: slow[name] for name in slow if name != "sum"},
    ):
        assert [*compare(plain[0], without_measurements(real, frozenset({"found"})), "x")]


def test_an_entry_covers_what_it_names_and_no_more() -> None:
    entry = Intended("help/*/--new TEXT", "added", "a new option")
    covered = Difference("help/leptonctl submit/Options/--new TEXT", "added")
    others = {Difference(covered.path, "removed"), Difference("help/leptonctl submit/prose", "changed")}
    assert set(unexpected({covered, *others}, [entry])) == others
    assert unused({covered}, [entry]) == []
    assert unused(others, [entry]) == [entry]


def test_help_is_taken_apart() -> None:
    page = parse(
        "Usage: python -m leptond run [OPTIONS]\n\n  Run it\n  now.\n\nOptions:\n  -x, --long-name TEXT\n"
        "                      Of two\n                      lines.\n"
        "  -h, --help          Show.\n\n  The end.\n"
    )
    assert page == {
        "usage": "leptond run [OPTIONS]",
        "prose": "Run it now.\nThe end.",
        "Options": {"-x, --long-name TEXT": "Of two lines.", "-h, --help": "Show."},
    }


def test_metrics_are_taken_apart() -> None:
    text = '# HELP a_s Time.\n# TYPE a_s histogram\na_s_bucket{le="1",route="/"} 2\na_s_sum{route="/"} 1\n'
    assert metrics(text) == {"a_s": {"help": "Time.", "type": "histogram", "labels": ["le", "route"]}}


def test_a_snapshot_is_written_as_json_that_can_be_read() -> None:
    value = {"a": [1, {"b": "x" * 90}, {"c": None, "d": ["y" * 60, "z" * 60]}]}
    text = parts.text(value)
    assert json.loads(text) == value
    assert max(map(len, text.splitlines())) <= 110
