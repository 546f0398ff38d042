"""What is said of processes that outlived their job."""

import pytest

from leptond.core.jobs.model import ExitRecord
from leptond.core.outcome.left_behind import left_behind


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({}, None),
        ({"killed": True, "killed_processes": 2, "killed_after_s": 0.0, "stop_reason": "cancel"}, None),
        ({"leftovers": 1}, "1 process was left behind and ended"),
        ({"leftovers": 3}, "3 processes were left behind and ended"),
        (
            {"leftovers": 1, "killed_processes": 1, "killed_after_s": 2.0},
            "1 process was left behind and killed after 2 s",
        ),
        (
            {"leftovers": 1, "killed_processes": 2, "killed_after_s": 2.0},
            "2 processes were left behind and killed after 2 s",
        ),
        (
            {"leftovers": 3, "killed_processes": 1, "killed_after_s": 2.0},
            "3 processes were left behind: 1 was killed after 2 s, the others ended",
        ),
        (
            {"killed_processes": 1, "killed_after_s": 45.0, "stop_reason": "timeout"},
            "1 process had not ended when the grace was over, and was killed after 45 s",
        ),
    ],
)
def test_what_was_left_behind_in_words(record, text):
    found = left_behind(ExitRecord(attempt_id="a", boot_id="b", **record))
    assert (found.text if found is not None else None) == text
    assert left_behind(None) is None
