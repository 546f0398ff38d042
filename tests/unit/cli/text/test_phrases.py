"""Jobs and GPUs in a line of text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from leptond.cli.text import phrases
from leptond.core.jobs.states import LIVE, TERMINAL, UNFINISHED, State
from tests.unit.cli.stub import RUNNING, ended, make_gpu, make_job, plain

PROGRESS: dict[str, Any] = {"step": 82, "total": 200, "metrics": {"loss": 1.834567}, "left_s": 6240.0}


def before(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_the_lists_of_states_are_in_the_order_of_a_life() -> None:
    assert phrases.state_filter(UNFINISHED) == "pending,starting,running,stopping"
    assert phrases.state_filter(TERMINAL) == "succeeded,failed,timed_out,cancelled,lost"
    assert {*LIVE, *TERMINAL, State.PENDING} == set(State)


def test_an_instant_is_relative_for_people_and_exact_for_programs() -> None:
    assert phrases.ago(before(90), table=True) == "1m30s ago"
    assert phrases.ago(before(-3601), table=True).startswith("in 1h")
    assert phrases.ago("2026-03-04T10:00:00Z", table=False) == "2026-03-04T10:00:00Z"
    assert phrases.ago(None, table=True) == ""


@pytest.mark.parametrize(
    ("seconds", "people", "programs"),
    [(None, "", ""), (90.0, "1m30s", "90"), (7200.25, "2h", "7200.250"), (0.0, "0s", "0")],
)
def test_a_duration(seconds: float | None, people: str, programs: str) -> None:
    assert phrases.span(seconds, table=True) == people
    assert phrases.span(seconds, table=False) == programs


def test_the_time_of_a_job_is_its_wait_then_its_run() -> None:
    waits = plain(make_job()) | {"submitted_at": before(100)}
    assert phrases.time_of(waits) == pytest.approx(100, abs=5)
    runs = plain(make_job(**RUNNING)) | {"started_at": before(50), "run_s": None}
    assert phrases.time_of(runs) == pytest.approx(50, abs=5)
    assert phrases.time_of(runs | {"started_at": None}) is None
    assert phrases.time_of(runs | {"run_s": 7.0}) == 7.0, "as the daemon says: it counts by boot time"
    assert phrases.time_of(plain(ended(State.FAILED, run_s=4.5))) == 4.5


def test_gpus_are_named_once_they_are_known() -> None:
    assert phrases.gpus_of(plain(make_job(gpus=3))) == "3"
    assert phrases.gpus_of(plain(make_job(**RUNNING))) == "0,1"


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (plain(make_job()), "Resources: needs 4 GPUs, 1 free"),
        (plain(make_job(reason_detail="Resources are short")), "Resources are short"),
        (plain(make_job(reason_detail=None)), "Resources"),
        (plain(make_job(reason=None, reason_detail=None)), ""),
        (plain(ended(State.FAILED)), "how it ended"),
        (plain(make_job(**RUNNING)), ""),
        (plain(make_job(**RUNNING)) | {"progress": PROGRESS}, "step 82/200, loss 1.835, ~1h44m left"),
    ],
)
def test_the_reason_column(job: dict[str, Any], text: str) -> None:
    assert phrases.reason_of(job) == text


def test_progress_tells_a_loss_that_is_not_finite_from_one_that_is_not_reported() -> None:
    job = plain(make_job(**RUNNING))
    assert phrases.progress_of(job | {"progress": {"metrics": {"loss": None}}}) == "loss not finite"
    assert phrases.progress_of(job | {"progress": {"step": 3, "metrics": {}}}) == "step 3"
    assert phrases.progress_of(job | {"state": "failed", "progress": PROGRESS}) == "step 82/200, loss 1.835"


@pytest.mark.parametrize(
    ("name", "number"), [("SIGKILL", 9), ("TERM", 15), ("SIG34", 34), ("9", 9), ("SIGNONE", None)]
)
def test_a_signal_has_a_number(name: str, number: int | None) -> None:
    assert phrases.signal_number(name) == number


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"signal": "SIGKILL", "exit_code": None}, "SIGKILL"),
        ({"exit_code": 3}, "3"),
        ({"exit_code": None}, ""),
    ],
)
def test_an_end_is_a_signal_or_a_code(body: dict[str, Any], text: str) -> None:
    assert phrases.end_of(body) == text


def test_a_trial_that_its_sweep_stopped_is_no_failure() -> None:
    job = plain(ended(State.CANCELLED))
    assert phrases.exit_code_for(job) == 130
    assert phrases.exit_code_for(job | {"class": "stopped-early"}) == 0
    assert phrases.exit_code_for(job | {"state": "failed", "signal": "SIGNONE"}) == 1
    assert phrases.exit_code_for(job | {"state": "failed", "exit_code": 256}) == 1


def test_the_verdict_is_one_sentence() -> None:
    assert phrases.verdict(plain(ended(State.TIMED_OUT))) == "job 47 (train.py) timed out: how it ended"
    never = plain(make_job()) | {"reason": "DependencyNeverSatisfied", "reason_detail": "job 3 failed"}
    assert phrases.verdict(never) == (
        "job 47 (train.py) can never start: DependencyNeverSatisfied: job 3 failed."
        " leptonctl cancel 47 removes it"
    )
    assert not phrases.never_starts(plain(make_job()))


def test_gpu_hours_are_rounded() -> None:
    assert phrases.gpu_hours({"gpu_seconds": 5400.0}) == 1.5
    assert phrases.gpu_hours({}) == 0.0


def test_the_memory_of_a_gpu() -> None:
    assert phrases.memory_of(plain(make_gpu())) == "1 GiB / 80 GiB"
    assert phrases.memory_of(plain(make_gpu(memory_used_bytes=None))) == "80 GiB"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "free"),
        ({"job_id": 4}, "busy"),
        ({"present": False}, "missing"),
        ({"drained": True}, "drained: by hand"),
        ({"drained": True, "drain_reason": "fan"}, "drained: fan"),
        ({"schedulable": False}, "out of service: unhealthy"),
        ({"schedulable": False, "why_not": "Xid 79"}, "out of service: Xid 79"),
        ({"jobs": [{"memory_bytes": 20 << 30}, {"memory_bytes": 10 << 30}]}, "shared by 2: 30 GiB of 80 GiB"),
    ],
)
def test_the_state_of_a_gpu(changes: dict[str, Any], text: str) -> None:
    assert phrases.state_of_gpu(plain(make_gpu()) | changes) == text


def test_gpus_for_people_are_how_many_and_which():
    assert phrases.gpus_of(plain(make_job(gpus=3)), table=True) == "3"
    assert phrases.gpus_of(plain(make_job(**RUNNING)), table=True).endswith(" on 0,1")
    eight = plain(make_job(gpus=5)) | {"gpu_indices": [0, 1, 2, 5, 7]}
    assert phrases.gpus_of(eight, table=True) == "5 on 0-2,5,7"
