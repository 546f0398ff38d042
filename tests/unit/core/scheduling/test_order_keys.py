"""Order keys of pending jobs."""

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leptond.core.scheduling.inputs import Policy, Running, Waiting
from leptond.core.scheduling.order_keys import (
    LEAST_RUN_S,
    OrderInputs,
    expected_run_s,
    order_keys,
    running_order_keys,
)

HOUR = 3600.0
POLICY = Policy()
INPUTS = st.builds(
    OrderInputs,
    priority=st.integers(-5, 5),
    gpus=st.integers(0, 16),
    since=st.floats(1e9, 2e9),
    preemptible=st.booleans(),
    limit_s=st.none() | st.floats(1.0, 1e6),
    predicted_s=st.none() | st.floats(0.001, 1e6),
    attained_gpu_s=st.floats(0.0, 1e6),
)


@pytest.mark.parametrize(
    ("predicted", "limit", "expected"),
    [(10.0, 100.0, 10.0), (200.0, 100.0, 100.0), (10.0, None, 10.0), (None, 100.0, 100.0)],
)
def test_history_comes_before_the_limit_and_never_passes_it(predicted, limit, expected):
    job = OrderInputs(priority=0, gpus=1, since=0.0, predicted_s=predicted, limit_s=limit)
    assert expected_run_s(job, POLICY) == expected


def test_without_history_and_limit_the_run_is_taken_for_a_day():
    assert expected_run_s(OrderInputs(priority=0, gpus=1, since=0.0), POLICY) == POLICY.unknown_run_s


@pytest.mark.parametrize(
    ("facts", "lane"),
    [
        ({"limit_s": 2 * HOUR, "gpus": 1}, 0),
        ({"limit_s": 2 * HOUR, "gpus": 2}, 1),
        ({"limit_s": None}, 1),
        ({"limit_s": None, "preemptible": True}, 0),
        ({"limit_s": 1.0, "preemptible": True, "attained_gpu_s": 2 * HOUR}, 1),
    ],
)
def test_jobs_are_short_by_limit_or_by_what_they_have_had(facts, lane):
    assert order_keys(OrderInputs(**({"priority": 0, "gpus": 1, "since": 0.0} | facts)), POLICY).lane == lane


@given(job=INPUTS, later_s=st.floats(0.0, 1e6))
def test_a_later_submit_shifts_all_times_alike(job, later_s):
    one = order_keys(job, POLICY)
    other = order_keys(msgspec.structs.replace(job, since=job.since + later_s), POLICY)
    assert other.lane == one.lane
    for name in ("order_at", "due_at", "alone_at"):
        assert getattr(other, name) - getattr(one, name) == pytest.approx(later_s, abs=1e-3)
    assert other.short_s == one.short_s


@given(job=INPUTS)
def test_a_step_of_priority_is_worth_its_waiting_time(job):
    one = order_keys(job, POLICY)
    higher = order_keys(msgspec.structs.replace(job, priority=job.priority + 1), POLICY)
    assert one.order_at - higher.order_at == pytest.approx(POLICY.priority_step_s, abs=1e-3)
    assert higher.short_s == pytest.approx(one.short_s / 2)


@given(job=INPUTS)
def test_the_wait_is_bounded_by_a_multiple_of_the_expected_run(job):
    keys = order_keys(job, POLICY)
    run_s = max(LEAST_RUN_S, expected_run_s(job, POLICY))
    assert 0 <= keys.due_at - keys.order_at <= 2 * run_s + 1e-3
    assert keys.alone_at - keys.order_at == pytest.approx(30 * run_s, abs=1e-3)


@given(job=INPUTS)
def test_a_running_job_has_the_keys_that_it_would_have_waiting(job):
    assume(job.gpus > 0)
    fields = {name: getattr(job, name) for name in job.__struct_fields__ if name != "gpus"}
    running = Running(id=1, gpus=[f"GPU-{i}" for i in range(job.gpus)], **fields)
    waiting = Waiting(id=1, gpus=job.gpus, **fields)
    assert running_order_keys(running, job.attained_gpu_s, POLICY) == order_keys(job, POLICY)
    assert order_keys(waiting, POLICY) == order_keys(job, POLICY)
