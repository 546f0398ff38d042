"""The plain policies: fifo, firstfit, shortest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.model import Gpu
from leptond.core.scheduling.planner import PlanInput, Policy, Running, Waiting, plan

COUNT = 4


def job(number, need=1, **more):
    return Waiting(**({"id": number, "priority": 0, "gpus": need, "since": float(number)} | more))


def planned(waiting, name, *, held=0, now=100.0, **policy):
    gpus = [Gpu(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1) for i in range(COUNT)]
    running = [Running(id=100, gpus=[f"GPU-{i}" for i in range(held)], limit_s=1000.0)] if held else []
    return plan(
        PlanInput(
            waiting=waiting, running=running, gpus=gpus, cpu_slots=0, now=now,
            policy=Policy(name=name, **policy),
        )
    )  # fmt: skip


def ids(made):
    return [start.id for start in made.starts]


WIDE_FIRST = [job(1, 4), job(2, 1), job(3, 2)]


@pytest.mark.parametrize(
    ("name", "held", "started", "reserved"),
    [
        ("fifo", 0, [1], [2]),
        ("fifo", 1, [], [1]),
        ("firstfit", 1, [2, 3], []),
        ("shortest", 1, [2, 3], []),
    ],
)
def test_what_does_not_fit_is_waited_for_or_skipped(name, held, started, reserved):
    made = planned(WIDE_FIRST, name, held=held)
    assert ids(made) == started
    assert [one.id for one in made.reservations] == reserved


@pytest.mark.parametrize(("patience", "started"), [(0.0, [2, 3]), (99.5, [2, 3]), (99.0, []), (10.0, [])])
def test_firstfit_reserves_once_a_job_has_waited_long_enough(patience, started):
    assert ids(planned(WIDE_FIRST, "firstfit", held=1, max_bypass_s=patience)) == started


def test_fifo_skips_a_job_that_a_limit_blocks():
    members = [job(n, array_id=7, array_limit=1) for n in (1, 2)]
    assert ids(planned([*members, job(3)], "fifo")) == [1, 3]


def test_shortest_goes_by_the_expected_run():
    jobs = [job(1, limit_s=50.0), job(2, limit_s=5.0), job(3, limit_s=90.0, predicted_s=1.0)]
    assert ids(planned(jobs, "shortest", held=2)) == [3, 2]


JOBS = st.lists(
    st.builds(job, st.integers(1, 50), st.integers(1, COUNT), limit_s=st.floats(1.0, 1e4)),
    max_size=8,
    unique_by=lambda one: one.id,
)


@given(jobs=JOBS, held=st.integers(0, COUNT))
def test_fifo_starts_a_prefix_of_the_queue(jobs, held):
    order = [one.id for one in sorted(jobs, key=lambda one: one.id)]
    made = planned(jobs, "fifo", held=held)
    assert ids(made) == order[: len(made.starts)]


@given(jobs=JOBS, held=st.integers(0, COUNT), name=st.sampled_from(["firstfit", "shortest"]))
def test_without_patience_no_gpu_stays_free_for_which_a_job_waits(jobs, held, name):
    made = planned(jobs, name, held=held)
    free = COUNT - held - sum(len(start.gpus) for start in made.starts)
    assert all(one.gpus > free for one in jobs if one.id not in ids(made))
