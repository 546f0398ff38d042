"""The moves that policies are made of."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.model import Gpu, Reason
from leptond.core.scheduling.inputs import PlanInput, Policy, Reservation, Running, Waiting
from leptond.core.scheduling.order_keys import order_keys
from leptond.core.scheduling.plan_builder import PlanBuilder, preempt_exempt_s

HOUR = 3600.0


def job(number, need=1, **more):
    return Waiting(**({"id": number, "priority": 0, "gpus": need, "since": 0.0} | more))


def runs(number, *held, **more):
    return Running(id=number, gpus=[f"GPU-{i}" for i in held], **more)


def builder(waiting=(), running=(), count=4, name="firstfit", now=0.0, slots=1, kinds=None, **policy):
    names = kinds or ["x"] * count
    gpus = [Gpu(uuid=f"GPU-{i}", index=i, name=kind, memory_bytes=100) for i, kind in enumerate(names)]
    return PlanBuilder(
        PlanInput(
            waiting=waiting, running=running, gpus=gpus, cpu_slots=slots, now=now,
            policy=Policy(name=name, **policy),
        )
    )  # fmt: skip


def ids(made):
    return [start.id for start in made.starts]


def test_a_start_takes_gpus_once():
    wide, narrow = job(1, 3), job(2, 2)
    one = builder([wide, narrow])
    assert one.start(wide)
    assert not one.start(narrow)
    assert (ids(one), len(one.free), one.placed) == ([1], 1, {1})


def test_cpu_jobs_take_slots_in_order_of_effective_submit_time():
    jobs = [job(1, 0, since=5.0), job(2, 0), job(3, 0, priority=1, since=9.0)]
    one = builder(jobs, [runs(9)], slots=3)
    one.start_cpu_jobs()
    assert ids(one) == [3, 2]
    assert one.free_slots == 0


def test_an_array_starts_no_more_members_than_it_may():
    members = [job(n, array_id=7, array_limit=2) for n in (1, 2)]
    one = builder(members, [runs(9, 0, array_id=7)])
    assert one.start(members[0])
    assert one.blocking_limit(members[1]).reason is Reason.ARRAY_LIMIT
    assert not one.start(members[1])


def test_a_reservation_begins_when_enough_limits_are_over():
    running = [runs(1, 0, limit_s=50.0), runs(2, 1, limit_s=10.0), runs(3, 2, limit_s=30.0)]
    one = builder([job(5, 3)], running)
    one.reserve(job(5, 3))
    assert (one.reservation.start_at, one.reservation.spare_gpus) == (30.0, 0)
    assert one.reservations() == [Reservation(id=5, needs=3, at=30.0, gpus=1)]


def test_a_reservation_behind_a_job_without_a_limit_has_no_time():
    one = builder([job(5, 4)], [runs(1, 0)])
    one.reserve(job(5, 4))
    assert one.reservation.start_at == math.inf
    assert one.reservations()[0].at is None
    assert not one.may_backfill(job(6, limit_s=1.0))


@pytest.mark.parametrize(
    ("backfill", "may"),
    [
        (job(6, 1, limit_s=30.0), True),  # over before the reservation
        (job(6, 1, limit_s=31.0), False),
        (job(6, 1), False),
        (job(5, 3), True),  # the reserved job itself
    ],
)
def test_backfill_must_not_delay_the_reservation(backfill, may):
    running = [runs(2, 1, limit_s=10.0), runs(3, 2, limit_s=30.0), runs(4, 3, limit_s=90.0)]
    one = builder([], running)
    one.reserve(job(5, 3))
    assert one.may_backfill(backfill) is may


def test_spare_gpus_are_for_backfill_without_end_but_only_once():
    one = builder([], [runs(1, 0, 1, 2, limit_s=10.0)], count=5)
    one.reserve(job(5, 4))
    assert one.reservation.spare_gpus == 1
    assert one.start(job(6, 1))
    assert one.reservation.spare_gpus == 0
    assert not one.start(job(7, 1))


def test_backfill_can_be_disabled():
    one = builder([], [runs(1, 0, limit_s=10.0)])
    one.disable_backfill()
    assert one.may_backfill(job(6)), "nothing is reserved"
    one.reserve(job(5, 4))
    one.disable_backfill()
    assert not one.start(job(6, limit_s=1.0))


def test_gpus_that_the_reserved_job_cannot_have_stay_open():
    one = builder([], [runs(1, 0, limit_s=10.0)], kinds=["A100", "A100", "L4"])
    assert one.reserves_any_gpu
    one.reserve(job(5, 2, gpu_type="a100"))
    one.disable_backfill()
    assert not one.reserves_any_gpu
    assert one.start(job(6))
    assert one.starts[0].gpus == ["GPU-2"]
    assert not one.start(job(7))


def test_room_is_made_by_as_few_as_possible_the_last_first():
    victims = [runs(1, 0), runs(2, 1), runs(3, 2)]
    one = builder([], victims, count=4)
    gone = one.make_room(job(9, 2), victims)
    assert [victim.id for victim in gone] == [3]
    assert [(one.id, one.for_id) for one in one.preempts] == [(3, 9)]
    assert one.starts == []
    assert one.pending_starts[0].blockers == [3]
    assert one.reservations() == [Reservation(id=9, needs=2, at=0.0, gpus=1)]
    assert one.free == []


def test_room_is_made_by_stopping_jobs_before_others():
    victims = [runs(1, 0)]
    one = builder([], [*victims, runs(2, 1, stopping=True)], count=2)
    assert one.make_room(job(9), victims) == []
    assert one.preempts == []
    assert one.pending_starts[0].blockers == [2]


def test_nothing_changes_where_room_cannot_be_made():
    one = builder([], [runs(1, 0), runs(2, 1, 2, 3)])
    assert one.make_room(job(9, 2), [one.running[0]]) is None
    assert (one.preempts, one.pending_starts, one.placed) == ([], [], set())


def test_owners_get_their_gpus_back_from_borrowers():
    gpus = [Gpu(uuid="GPU-0", index=0, name="x", memory_bytes=1, owner="gold")]
    borrower = runs(1, 0, queue="free", preemptible=True)
    one = PlanBuilder(
        PlanInput(waiting=[job(2, queue="gold")], running=[borrower], gpus=gpus, cpu_slots=1, now=0.0)
    )
    one.reclaim_lent_gpus()
    assert [(preempt.id, preempt.for_id) for preempt in one.preempts] == [(1, 2)]


@pytest.mark.parametrize(
    ("name", "preemptible", "limit", "end"),
    [
        ("easy", True, None, math.inf),
        ("easy", False, 50.0, 150.0),
        ("auto", True, None, 1300.0),
        ("auto", True, 50.0, 150.0),
        ("auto", False, None, math.inf),
    ],
)
def test_the_latest_end_counts_on_limits_and_where_the_policy_preempts_on_exempt_times(
    name, preemptible, limit, end
):
    one = builder(name=name, now=100.0)
    waiting = job(1, preemptible=preemptible, limit_s=limit)
    assert one.latest_end(waiting) == end
    running = runs(2, 0, preemptible=preemptible, limit_s=limit, started_at=100.0)
    assert one.latest_release(running) == end


def test_a_limit_that_is_over_ends_now():
    assert builder(now=100.0).latest_release(runs(1, 0, limit_s=5.0, started_at=10.0)) == 100.0


def test_the_earliest_wake_up_counts_and_none_in_the_past():
    one = builder(now=100.0)
    for at in (90.0, 100.0):
        one.wake_by(at)
    assert one.wake_at is None
    for at in (300.0, 200.0, 250.0):
        one.wake_by(at)
    assert one.wake_at == 200.0


@given(cost=st.none() | st.floats(0.0, 1e5))
def test_preemptions_cost_at_most_a_twentieth_of_the_exempt_time(cost):
    policy = Policy()
    exempt = preempt_exempt_s(cost, policy)
    assert exempt >= policy.min_run_s
    assert (policy.eviction_cost_s if cost is None else cost) <= exempt / 20 + 1e-9


@given(
    since=st.floats(0, 1e6),
    priority=st.integers(-3, 3),
    urgent=st.booleans(),
    handicap=st.sampled_from([0.0, HOUR]),
    stored=st.booleans(),
)
def test_stored_keys_sort_as_computed_ones(since, priority, urgent, handicap, stored):
    one = builder([job(8, preemptible=True)])
    plain = job(1, since=since, priority=priority, urgent=urgent, handicap_s=handicap)
    keyed = job(
        1, since=since, priority=priority, urgent=urgent, handicap_s=handicap,
        order_keys=order_keys(plain, one.policy) if stored else None,
    )  # fmt: skip
    for sort_key in (one.by_due_time, one.by_submit_time, one.by_expected_run):
        assert sort_key(keyed) == sort_key(plain)
        assert sort_key(keyed)[0] is not urgent


def test_the_queue_leaves_out_what_the_machine_cannot_hold():
    one = builder([job(1, 5), job(2, 0), job(3, 4), job(4, gpu_type="h100")])
    assert [job.id for job in one.queue(one.by_submit_time)] == [3]
