"""What an end means to those that wait for it."""

import pytest

from leptond.core.jobs.dependency import never_sentence, satisfied
from leptond.core.jobs.model import DependencyKind
from leptond.core.jobs.states import TERMINAL, State


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_each_end_satisfies_any_and_one_of_the_others(end):
    assert satisfied(DependencyKind.ANY, end)
    assert satisfied(DependencyKind.OK, end) == (end is State.SUCCEEDED)
    assert satisfied(DependencyKind.FAIL, end) != satisfied(DependencyKind.OK, end)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (State.FAILED, "failed"),
        (State.SUCCEEDED, "succeeded"),
        (State.TIMED_OUT, "ran into its time limit"),
        (State.CANCELLED, "was cancelled"),
        (State.LOST, "was lost"),
    ],
)
def test_the_reason_names_the_job_that_is_the_cause(end, words):
    assert never_sentence("7", end, None) == f"job 7 {words}, so it can never run"
    assert never_sentence("7", end, "9").startswith(f"job 7 {words}, so job 9, which it waits for,")
