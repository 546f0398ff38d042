"""Paths of output copies, with the marks of sbatch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.output_path import expand

ALONE = {"job_id": 9, "array_id": None, "array_index": None, "name": "sweep", "user": "ana"}
MEMBER = ALONE | {"array_id": 7, "array_index": 2}


@pytest.mark.parametrize(
    ("pattern", "job", "path"),
    [
        ("/logs/%j.out", ALONE, "/logs/9.out"),
        ("/logs/%A_%a", ALONE, "/logs/9_0"),
        ("/logs/%A_%a", MEMBER, "/logs/7_2"),
        ("%x-%u-100%%", MEMBER, "sweep-ana-100%"),
        ("%4a|%04j|%0j", MEMBER, "0002|0009|9"),
        ("%12x", ALONE, "0000000sweep"),
        ("none", ALONE, "none"),
    ],
)
def test_marks_are_replaced(pattern, job, path):
    assert expand(pattern, **job) == path


@pytest.mark.parametrize("pattern", ["%", "x%", "%N", "%5", "%123j", "%\n"])
def test_any_other_mark_is_refused(pattern):
    with pytest.raises(ValueError, match="is none of"):
        expand(pattern, **ALONE)


@given(name=st.text(), user=st.text())
def test_what_is_filled_in_is_not_expanded_again(name, user):
    assert expand("%x/%u", **(ALONE | {"name": name, "user": user})) == f"{name}/{user}"
