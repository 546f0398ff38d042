"""A line of the daemon's log is a fixed event name and fields, and the documents explain each event."""

import re
from pathlib import Path

import pytest

from leptond.docs_build.log_events import MEANINGS, calls, table

TOP = Path(__file__).parents[2]
NAME = re.compile(r"[a-z_]+(\.[a-z_]+)+")
CALLS = calls()


def documented():
    """The rows of the table "Log events" in docs/operations.md: event, level, fields, meaning."""
    section = (TOP / "docs/operations.md").read_text().split("\n## Log events\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", section, re.MULTILINE)
    return {event: (level, fields, meaning) for event, level, fields, meaning in rows}


def test_the_calls_are_found():
    """Else the tests below would say nothing."""
    assert len(CALLS) > 40
    assert {call.place.partition("/")[0] for call in CALLS} >= {
        "api",
        "base",
        "daemon",
        "engines",
        "recovery",
        "scheduling",
        "services",
        "store",
    }


def test_an_event_is_a_literal_name_in_dots():
    wrong = [call.place for call in CALLS if call.event is None or not NAME.fullmatch(call.event)]
    assert not wrong


def test_every_event_has_a_meaning_and_every_meaning_an_event():
    assert {call.event for call in CALLS} == set(MEANINGS)


def test_the_documents_list_exactly_these_events():
    rows = documented()
    assert set(rows) == {call.event for call in CALLS}
    for call in CALLS:
        level, fields, meaning = rows[call.event]
        assert call.level in level.split(", ")
        assert {f"`{field}`" for field in call.fields} <= {*fields.split(", "), "``"}
        assert meaning == MEANINGS[call.event]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('log.info("one.done", job=1)', ("info", "one.done", ("job",))),
        ('log.exception("one.failed")', ("error", "one.failed", ())),
        ('log.error(f"{x} failed")', ("error", None, ())),
        ('log.error("%s failed", x)', ("error", None, ())),
        ("log.warning(note)", ("warning", None, ())),
        ('on_note = lambda note: log.warning("one.noted", note=note)', ("warning", "one.noted", ("note",))),
    ],
)
def test_calls_of_all_kinds_are_read(tmp_path, line, found):
    (tmp_path / "one.py").write_text(f"import structlog\n\n{line}\n")
    (tmp_path / "other.py").write_text('import logging\nlog.error("%s", 1)\nstructlog = 1\n')
    (call,) = calls(tmp_path)
    assert (call.level, call.event, call.fields) == found


def test_an_event_without_a_meaning_is_an_error(tmp_path):
    (tmp_path / "one.py").write_text('import structlog\nlog.info("no.meaning")\n')
    with pytest.raises(KeyError):
        table(calls(tmp_path))
