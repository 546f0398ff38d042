"""EASY backfill."""

from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.model import Gpu
from leptond.core.scheduling.planner import PlanInput, Policy, Running, Waiting, plan

COUNT = 4


def job(number, need, limit):
    return Waiting(id=number, priority=0, gpus=need, since=float(number), limit_s=limit)


def planned(waiting, running):
    gpus = [Gpu(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1) for i in range(COUNT)]
    return plan(
        PlanInput(
            waiting=waiting, running=running, gpus=gpus, cpu_slots=0, now=0.0, policy=Policy(name="easy")
        )
    )


def running(number, *held, limit):
    return Running(id=number, gpus=[f"GPU-{i}" for i in held], limit_s=limit)


def test_a_short_job_is_backfilled_and_a_long_one_is_not():
    hold = [running(1, 0, 1, limit=100.0)]
    made = planned([job(2, 4, 50.0), job(3, 1, 101.0), job(4, 1, 100.0)], hold)
    assert [start.id for start in made.starts] == [4]
    (reserved,) = made.reservations
    assert (reserved.id, reserved.at, reserved.gpus) == (2, 100.0, 1)


def test_only_the_first_job_that_does_not_fit_is_reserved_for():
    made = planned([job(2, 4, 50.0), job(3, 3, 50.0)], [running(1, 0, 1, limit=100.0)])
    assert [reserved.id for reserved in made.reservations] == [2]


@given(
    needs=st.lists(st.tuples(st.integers(1, COUNT), st.floats(1.0, 300.0)), min_size=1, max_size=8),
    held=st.integers(0, COUNT),
    limit=st.floats(1.0, 300.0),
)
def test_no_backfill_delays_the_reservation(needs, held, limit):
    hold = [running(100, *range(held), limit=limit)] if held else []
    waiting = [job(n, need, seconds) for n, (need, seconds) in enumerate(needs)]
    made = planned(waiting, hold)
    for reserved in made.reservations:
        limits = {one.id: one.limit_s for one in waiting}
        ends = [(limit, held)] if held else []
        ends += [(limits[start.id], len(start.gpus)) for start in made.starts]
        busy = sum(width for end, width in ends if end > reserved.at)
        assert COUNT - busy >= reserved.needs, "it can start when it was promised"
