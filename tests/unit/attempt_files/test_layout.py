"""The names of an attempt's files have one owner."""

import re
from pathlib import Path

import leptond
from leptond import job
from leptond.attempt_files import layout

PACKAGE = Path(leptond.__file__).parent
NAMES = [
    value
    for name, value in vars(layout).items()
    if name.isupper() and isinstance(value, str) and value.endswith((".json", ".log"))
]


def test_the_names_stand_nowhere_else():
    quoted = re.compile("|".join(f"[\"'/]{re.escape(name)}[\"']" for name in NAMES))
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(quoted.search(line) for line in path.read_text().splitlines())
    }
    # what runs inside jobs imports nothing of ours; the demonstration's program is such a job
    assert found == {"attempt_files/layout.py", "job.py"}


def test_what_runs_inside_jobs_has_the_same_names():
    text = Path(job.__file__).read_text()
    assert f'/{layout.KNOBS}"' in text
    assert f'/{layout.LAST_WORD}"' in text


def test_segments_are_ordered_by_their_offsets_and_recognized():
    names = [layout.segment(offset) for offset in (0, 9, 10, 2**40)]
    assert names == sorted(names)
    assert [int(re.match(layout.SEGMENT_PATTERN, name)[1]) for name in names] == [0, 9, 10, 2**40]
    assert re.match(layout.SEGMENT_PATTERN, layout.OUTPUT) is None
