"""The outcome of a call, from the files that its job left and the job as it ended."""

from __future__ import annotations

from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from leptond import call, schema
from leptond.client.call_result import JobFailed, RemoteError, RemoteTraceback, outcome
from leptond.core.jobs.states import State
from tests.unit.cli.stub import ended

VALUE = {"kind": "value", "by": "pickle", "attempt": 1, "world": 1, "at": 1.0}
ERROR = {**VALUE, "kind": "error", "type": "builtins.OSError", "text": "Traceback: OSError: no\n"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "f-1.call")


def left(path: str, value: Any, rank: int = 0, **about: Any) -> None:
    call.write(call.result_path(path, "47", rank), value, {**VALUE, **about})


def job(state: State, **changes: Any) -> schema.Job:
    return ended(state, **changes)


def test_a_value_counts_whatever_became_of_the_process(path: str) -> None:
    left(path, 5)
    for state in (State.SUCCEEDED, State.FAILED, State.LOST, State.TIMED_OUT):
        assert outcome(path, 47, job(state)) == 5
    assert outcome(path, 47, None) == 5


def test_a_value_of_several_ranks_needs_all_of_them_and_the_same_attempt(path: str) -> None:
    left(path, 5, world=2)
    assert outcome(path, 47, job(State.SUCCEEDED)) == 5
    for other in (job(State.FAILED), job(State.SUCCEEDED, attempt=2)):
        with pytest.raises(JobFailed):
            outcome(path, 47, other)


def test_a_cancel_is_a_cancel_also_beside_a_value(path: str) -> None:
    left(path, 5)
    with pytest.raises(CancelledError, match="how it ended"):
        outcome(path, 47, job(State.CANCELLED))


def test_an_error_comes_back_with_the_jobs_traceback(path: str) -> None:
    left(path, OSError("no"), **ERROR)
    with pytest.raises(OSError, match="no") as caught:
        outcome(path, 47, job(State.FAILED, exit_code=1))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in the job" in str(caught.value.__cause__)
    assert "job 47 (train.py), attempt 1" in caught.value.__notes__[0]


def test_of_several_ranks_the_first_error_counts(path: str) -> None:
    left(path, OSError("second"), rank=0, **{**ERROR, "world": 2, "at": 2.0})
    left(path, ValueError("first"), rank=1, **{**ERROR, "world": 2, "at": 1.0})
    with pytest.raises(ValueError, match="first"):
        outcome(path, 47, job(State.FAILED, exit_code=1))


def test_an_error_that_could_not_travel_is_told_as_text(path: str) -> None:
    left(path, None, **{**ERROR, "by": "", "type": "mine.Odd", "text": "Traceback: Odd: lock\n"})
    with pytest.raises(RemoteError, match="which cannot be brought here") as caught:
        outcome(path, 47, job(State.FAILED, exit_code=1))
    assert "Odd: lock" in str(caught.value)


def test_an_error_of_an_earlier_attempt_is_not_this_ones(path: str) -> None:
    left(path, OSError("no"), **ERROR)
    with pytest.raises(JobFailed, match="timed out: SIGKILL; class user: how it ended"):
        outcome(path, 47, job(State.TIMED_OUT, attempt=2, signal="SIGKILL"))


def test_an_error_before_another_end_is_its_cause(path: str) -> None:
    left(path, OSError("no"), **ERROR)
    with pytest.raises(JobFailed, match="exit code 9") as caught:
        outcome(path, 47, job(State.TIMED_OUT, exit_code=9))
    assert isinstance(caught.value.__cause__, OSError)


def test_no_value_says_so_and_why_where_a_file_is_damaged(path: str) -> None:
    with pytest.raises(JobFailed, match="ended well and left no value; the function may have left"):
        outcome(path, 47, job(State.SUCCEEDED))
    with pytest.raises(JobFailed, match="does not know job 47 any more"):
        outcome(path, 47, None)
    Path(call.result_path(path, "47")).write_bytes(b"torn")
    with pytest.raises(JobFailed, match="its end is missing"):
        outcome(path, 47, job(State.SUCCEEDED))


def test_a_failure_holds_the_job(path: str) -> None:
    with pytest.raises(JobFailed) as caught:
        outcome(path, 47, job(State.FAILED, exit_code=3))
    assert caught.value.job == job(State.FAILED, exit_code=3)
    assert (str(caught.value), caught.value.tail) == (
        "job 47 (train.py) failed: exit code 3; class user: how it ended",
        "",
    )
