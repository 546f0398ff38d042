"""When a job is overdue, what is put aside for such jobs, and until when others may start before one."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.scheduling import overdue
from leptond.core.scheduling.planner import CarriedState, PlanInput, Policy, Waiting, plan
from tests.unit.core.scheduling.test_planner import HOUR, gpus

DAY = 24 * HOUR
POLICY = Policy()


def job(number=1, *, gpus=1, since=0.0, limit_s=HOUR, **more):
    return Waiting(id=number, priority=0, gpus=gpus, since=since, limit_s=limit_s, **more)


@pytest.mark.parametrize(
    ("limit_s", "preemptible", "expected_s"),
    [
        (10.0, False, HOUR),
        (600.0, False, 160 * 600.0),
        (600.0, True, 40 * 600.0),
        (DAY, False, 14 * DAY),
        (DAY, True, 14 * DAY),
        (None, False, 14 * DAY),
    ],
)
def test_a_job_is_overdue_after_a_multiple_of_its_run_but_after_two_weeks_at_the_latest(
    limit_s, preemptible, expected_s
):
    found = overdue.overdue_at(job(since=5.0, limit_s=limit_s), POLICY, any_preemptible=preemptible)
    assert found == 5.0 + expected_s


def test_the_batch_grows_with_the_machine_unless_its_size_is_given():
    assert [overdue.batch_gpu_s(POLICY, count) for count in (1, 4, 8)] == [4 * HOUR, 16 * HOUR, 32 * HOUR]
    fixed = Policy(overdue_batch_gpu_s=10.0)
    assert [overdue.batch_gpu_s(fixed, count) for count in (1, 8)] == [10.0, 10.0]


def test_a_small_job_needs_no_more_put_aside_than_it_takes():
    assert overdue.price_gpu_s(job(limit_s=600.0), POLICY, 8) == 600.0
    assert overdue.price_gpu_s(job(gpus=8, limit_s=DAY), POLICY, 8) == 32 * HOUR


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_batch_is_put_aside_in_sixteen_hours_on_any_machine_even_if_nothing_starts(count):
    empty = CarriedState(owed_at=0.0)
    assert overdue.budget_gpu_s(empty, 8 * HOUR, POLICY, count) == overdue.batch_gpu_s(POLICY, count) / 2
    full = overdue.batch_gpu_s(POLICY, count)
    assert overdue.budget_reached_at(empty, full, 0.0, POLICY, count) == pytest.approx(16 * HOUR)


def test_nothing_is_put_aside_without_a_share():
    policy = Policy(overdue_share=0.0)
    assert overdue.budget_reached_at(CarriedState(), 1.0, 0.0, policy, 8) == math.inf
    inputs = PlanInput(waiting=[job()], gpus=gpus(8), cpu_slots=0, now=0.0, policy=policy)
    assert overdue.turn(inputs.waiting[0], inputs) is None


states = st.builds(
    CarriedState,
    owed_gpu_s=st.floats(-1e6, 1e6),
    owed_at=st.none() | st.floats(0, 1e6),
    granted_gpu_s=st.floats(0, 1e6),
    serving_overdue=st.booleans(),
)


@given(states, st.floats(0, 2e6), st.integers(1, 16), st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_budget_stays_within_a_batch_and_the_largest_debt(carried, now, count, granted, spent):
    batch = overdue.batch_gpu_s(POLICY, count)
    after = overdue.after_starts(
        carried, now, POLICY, count, granted_gpu_s=granted, spent_gpu_s=spent if spent <= granted else 0.0
    )
    assert overdue.budget_gpu_s(after, now, POLICY, count) <= batch
    settled = overdue.settled(after, now, POLICY, count, spent_gpu_s=spent)
    assert -overdue.MOST_DEBT * batch <= settled.owed_gpu_s <= batch
    assert msgspec.json.decode(msgspec.json.encode(settled), type=CarriedState) == settled


def test_a_full_budget_is_not_written_anew_at_every_start():
    full = CarriedState(owed_gpu_s=32 * HOUR, owed_at=0.0)
    assert overdue.after_starts(full, HOUR, POLICY, 8, granted_gpu_s=9.0, spent_gpu_s=0.0) is full


def test_a_clock_that_was_set_back_does_not_stop_the_budget():
    waiting = [job(1, gpus=8, since=-20 * DAY, limit_s=HOUR)]
    carried = CarriedState(owed_gpu_s=0.0, owed_at=9e9)
    inputs = PlanInput(waiting=waiting, gpus=gpus(8), cpu_slots=0, now=0.0, carried=carried)
    assert plan(msgspec.structs.replace(inputs, gpus=gpus(9), now=1.0)).carried.owed_at == 1.0


def test_the_turn_counts_the_older_jobs_that_are_overdue_by_then():
    waiting = [job(1, gpus=8, since=0.0, limit_s=2 * HOUR), job(2, gpus=8, since=1.0, limit_s=2 * HOUR)]
    carried = CarriedState(owed_gpu_s=0.0, owed_at=15 * DAY)
    inputs = PlanInput(waiting=waiting, gpus=gpus(8), cpu_slots=0, now=15 * DAY, carried=carried)
    first, second = (overdue.turn(one, inputs) for one in waiting)
    assert (first.ahead, second.ahead) == (0, 1)
    # a quarter of eight GPUs is put aside: two GPU-hours an hour
    assert first.at == pytest.approx(15 * DAY + 8 * HOUR)
    assert second.at == pytest.approx(15 * DAY + 16 * HOUR)


@pytest.mark.parametrize(
    ("name", "bypass_s", "at"), [("fifo", 0, None), ("firstfit", 60, 60), ("easy", 60, None)]
)
def test_other_policies(name, bypass_s, at):
    policy = Policy(name=name, max_bypass_s=bypass_s)
    inputs = PlanInput(waiting=[job()], gpus=gpus(1), cpu_slots=0, now=0.0, policy=policy)
    found = overdue.turn(inputs.waiting[0], inputs)
    assert (found.at if found else None) == at
