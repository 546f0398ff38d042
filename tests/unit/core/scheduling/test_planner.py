"""The planner: examples, and properties over random worlds under every policy."""

from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.model import Gpu, Reason
from leptond.core.scheduling.order_keys import order_keys
from leptond.core.scheduling.plan_builder import preempt_exempt_s
from leptond.core.scheduling.planner import CarriedState, PlanInput, Policy, Running, Waiting, plan
from leptond.core.scheduling.policies import POLICIES

HOUR = 3600.0
NOTHING = CarriedState()


def gpus(count, out=()):
    return [
        Gpu(
            uuid=f"GPU-{i}",
            index=i,
            name="x",
            memory_bytes=1,
            schedulable=i not in out,
            why_not="drained: test" if i in out else "",
        )
        for i in range(count)
    ]


def job(number, need=1, priority=0, since=0.0, **more):
    return Waiting(id=number, priority=priority, gpus=need, since=since, **more)


def runs(number, *held, **more):
    return Running(id=number, gpus=[f"GPU-{i}" for i in held], **more)


def planned(waiting, running=(), devices=4, out=(), slots=2, now=0.0, carried=NOTHING, **policy):
    return plan(inputs(waiting, running, gpus(devices, out), slots, now, Policy(**policy), carried))


def inputs(waiting, running, devices, slots, now, policy, carried):
    return PlanInput(
        waiting=waiting,
        running=running,
        gpus=devices,
        cpu_slots=slots,
        now=now,
        policy=policy,
        carried=carried,
    )


def started(made):
    return [start.id for start in made.starts]


def test_priority_then_order_of_submission():
    made = planned([job(1), job(2, priority=5), job(3, priority=5), job(4)], devices=3)
    assert started(made) == [2, 3, 1]
    assert made.waits[4].reason is Reason.RESOURCES


def test_a_step_of_priority_is_worth_a_stated_wait_and_no_more():
    late = job(2, priority=1, since=4 * HOUR - 1)
    later = job(3, priority=1, since=4 * HOUR + 1)
    assert started(planned([job(1), late], devices=1, now=5 * HOUR)) == [2]
    assert started(planned([job(1), later], devices=1, now=5 * HOUR)) == [1]


def test_urgent_goes_before_every_priority():
    assert started(planned([job(1, priority=1000), job(2, urgent=True)], devices=1)) == [2]


def test_a_handicap_is_waiting_time_taken_away():
    assert started(planned([job(1, handicap_s=60.0), job(2, since=59.0)], devices=1, now=60.0)) == [2]
    assert started(planned([job(1, handicap_s=60.0), job(2, since=61.0)], devices=1, now=61.0)) == [1]


def test_short_jobs_pass_long_ones_but_not_without_bound():
    long = job(1, limit_s=10 * HOUR)
    soon = job(2, limit_s=HOUR, since=200 * HOUR)
    much_later = job(3, limit_s=HOUR, since=300 * HOUR)
    assert started(planned([long, soon], devices=1, now=300 * HOUR)) == [2]
    assert started(planned([long, much_later], devices=1, now=300 * HOUR)) == [1]


def test_the_order_goes_by_the_prediction_and_not_by_the_limit():
    quick = job(2, limit_s=100 * HOUR, predicted_s=60.0)
    assert started(planned([job(1, limit_s=HOUR), quick], devices=1)) == [2]


def test_a_gang_starts_whole_or_not_at_all():
    made = planned([job(1, need=3), job(2, need=2)])
    assert [(start.id, len(start.gpus)) for start in made.starts] == [(1, 3)]


def test_what_fits_passes_what_does_not():
    made = planned([job(2, need=4), job(3, need=1)], running=[runs(1, 0)])
    assert started(made) == [3]
    assert "needs 4 GPUs, 2 free (held by jobs 1, 3)" in made.waits[2].sentence


def test_fifo_lets_nobody_pass():
    made = planned([job(2, need=4), job(3, need=1)], running=[runs(1, 0)], name="fifo")
    assert started(made) == []
    assert [kept.id for kept in made.reservations] == [2]
    assert "kept for job 2" in made.waits[3].sentence


def test_firstfit_keeps_gpus_for_a_job_passed_over_for_too_long():
    world = dict(waiting=[job(2, need=4), job(3, need=1)], running=[runs(1, 0)], name="firstfit")
    assert started(planned(**world, now=1e9)) == [3]
    made = planned(**world, now=101.0, max_bypass_s=100.0)
    assert made.starts == []
    assert made.waits[3].reason is Reason.PRIORITY
    assert "job 2" in made.waits[3].sentence


def test_easy_promises_a_time_and_lets_pass_what_cannot_delay_it():
    waiting = [
        job(2, need=4, limit_s=HOUR),
        job(3, limit_s=2 * HOUR),
        job(4, limit_s=50 * 60.0),
    ]
    made = planned(waiting, running=[runs(1, 0, limit_s=HOUR)], name="easy")
    assert started(made) == [4]
    assert [(kept.id, kept.at) for kept in made.reservations] == [(2, HOUR)]


def test_shortest_goes_by_the_expected_run():
    waiting = [job(1, limit_s=3 * HOUR), job(2, limit_s=HOUR), job(3, limit_s=2 * HOUR)]
    assert started(planned(waiting, devices=2, name="shortest")) == [2, 3]


def test_an_overdue_job_that_is_owed_time_goes_first_or_has_gpus_kept():
    wide = job(2, need=4, limit_s=HOUR)
    world = dict(waiting=[wide, job(3, limit_s=10 * HOUR, since=161 * HOUR)], now=161 * HOUR)
    hold = [runs(1, 0, limit_s=200 * HOUR)]
    assert started(planned(**world, running=hold)) == [3]
    owed = CarriedState(owed_gpu_s=32 * HOUR)
    made = planned(**world, running=hold, carried=owed)
    assert started(made) == [3]  # it ends before job 1 does
    assert [(kept.id, kept.at) for kept in made.reservations] == [(2, 200 * HOUR)]
    hold = [runs(1, 0, limit_s=165 * HOUR)]
    assert started(planned(**world, running=hold, carried=owed)) == []


def test_a_job_that_can_resume_makes_room_for_a_short_one():
    hold = [runs(1, 0, 1, 2, 3, preemptible=True, limit_s=90 * HOUR)]
    made = planned([job(2, limit_s=HOUR)], running=hold, now=3 * HOUR)
    assert [(one.id, one.for_id) for one in made.preempts] == [(1, 2)]
    assert made.starts == []
    assert made.waits[2].sentence == "starts as soon as job 1 has made room"
    hold = [runs(1, 0, 1, 2, 3, preemptible=True, limit_s=90 * HOUR, stopping=True)]
    made = planned([job(2, limit_s=HOUR), job(3, need=4)], running=hold, now=3 * HOUR)
    assert made.preempts == []


def test_not_before_its_minimum_run():
    policy = Policy(eviction_cost_s=60.0)
    hold = [runs(1, 0, preemptible=True, limit_s=90 * HOUR, attained_gpu_s=9 * HOUR)]
    world = dict(waiting=[job(2, limit_s=HOUR)], running=hold, devices=1)
    made = planned(**world, now=preempt_exempt_s(None, policy) - 1)
    assert made.preempts == []
    assert made.wake_at == preempt_exempt_s(None, policy)
    assert planned(**world, now=preempt_exempt_s(None, policy) + 1).preempts


def test_what_an_eviction_costs_sets_the_minimum_run():
    policy = Policy()
    assert preempt_exempt_s(0.0, policy) == 300.0
    assert preempt_exempt_s(600.0, policy) == 12000.0


def test_the_fewest_and_worst_placed_make_room():
    hold = [
        runs(1, 0, preemptible=True, since=0.0, attained_gpu_s=9 * HOUR, limit_s=HOUR),
        runs(2, 1, preemptible=True, since=50.0, attained_gpu_s=9 * HOUR, limit_s=HOUR),
        runs(3, 2, 3, since=10.0, limit_s=90 * HOUR),
    ]
    made = planned([job(4, limit_s=HOUR, since=99.0)], running=hold, now=HOUR)
    assert [one.id for one in made.preempts] == [2]
    assert planned([job(4, need=3, limit_s=60.0, since=99.0)], running=hold, now=HOUR).preempts == []


def test_options_that_do_not_preempt_do_not():
    hold = [runs(1, 0, 1, 2, 3, preemptible=True, limit_s=90 * HOUR)]
    for name in ("fifo", "firstfit", "shortest", "easy"):
        assert planned([job(2, limit_s=60.0)], running=hold, now=9 * HOUR, name=name).preempts == []


def test_gpus_that_are_being_freed_are_not_asked_for_twice_nor_given_to_others():
    hold = [
        runs(1, 0, 1, preemptible=True, stopping=True, limit_s=90 * HOUR),
        runs(2, 2, 3, preemptible=True, limit_s=90 * HOUR),
    ]
    made = planned([job(3, need=2, limit_s=60.0)], running=hold, now=9 * HOUR)
    assert made.preempts == []
    assert made.waits[3].blockers == [1]


def test_a_job_wider_than_what_is_in_service_keeps_nothing():
    made = planned([job(2, need=4), job(3)], out={0}, now=1e9)
    assert started(made) == [3]
    assert made.waits[2].reason is Reason.DRAINING
    assert "GPU 0" in made.waits[2].sentence


def test_jobs_without_gpus_run_in_cpu_slots():
    made = planned([job(2, need=0), job(3, need=0)], running=[Running(id=1, gpus=[])], slots=2)
    assert started(made) == [2]
    assert "CPU slots" in made.waits[3].sentence


def test_an_array_runs_as_many_members_as_it_may():
    waiting = [job(i, array_id=1, array_limit=2) for i in range(1, 5)]
    made = planned(waiting)
    assert started(made) == [1, 2]
    assert made.waits[3].reason is Reason.ARRAY_LIMIT


def test_another_gpu_after_one_failed():
    made = planned([job(1, avoid=["GPU-0"])])
    assert made.starts[0].gpus == ["GPU-1"]
    assert planned([job(1, need=4, avoid=["GPU-0"])]).starts[0].gpus == [f"GPU-{i}" for i in range(4)]


def test_paused_starts_nothing():
    made = planned([job(1), job(2, need=0)], paused=True)
    assert made.starts == []
    assert {wait.reason for wait in made.waits.values()} == {Reason.PAUSED}


seconds = st.sampled_from([30.0, 600.0, HOUR, 9 * HOUR])
wants = st.builds(
    Waiting,
    id=st.integers(100, 999),
    priority=st.integers(-2, 2),
    gpus=st.integers(0, 9),
    since=st.floats(0, 1000 * HOUR),
    array_id=st.sampled_from([None, 1, 2]),
    array_limit=st.just(1),
    preemptible=st.booleans(),
    urgent=st.sampled_from([False, False, False, True]),
    limit_s=st.none() | seconds,
    predicted_s=st.none() | seconds,
    attained_gpu_s=st.sampled_from([0.0, 9 * HOUR]),
    handicap_s=st.sampled_from([0.0, HOUR]),
)


@st.composite
def holders(draw):
    """Running jobs on disjoint sets of eight GPUs."""
    owners = draw(st.lists(st.integers(0, 4), min_size=8, max_size=8))
    return [
        Running(
            id=owner,
            gpus=[f"GPU-{i}" for i, other in enumerate(owners) if other == owner],
            started_at=draw(st.floats(900 * HOUR, 1000 * HOUR)),
            preemptible=draw(st.booleans()),
            stopping=draw(st.sampled_from([False, False, True])),
            limit_s=draw(st.none() | seconds),
            attained_gpu_s=draw(st.sampled_from([0.0, 9 * HOUR])),
        )
        for owner in sorted(set(owners) - {0})
    ]


worlds = st.fixed_dictionaries(
    dict(
        waiting=st.lists(wants, max_size=20, unique_by=lambda one: one.id),
        running=holders(),
        devices=st.just(8),
        out=st.sets(st.integers(0, 7), max_size=3),
        slots=st.integers(0, 3),
        now=st.floats(1000 * HOUR, 2000 * HOUR),
        carried=st.builds(
            CarriedState, owed_gpu_s=st.sampled_from([-HOUR, 0.0, 40 * HOUR]), serving_overdue=st.booleans()
        ),
        name=st.sampled_from(sorted(POLICIES)),
    )
)


@given(worlds)
def test_no_gpu_is_given_twice_and_none_that_is_out(world):
    made = planned(**world)
    given_away = [uuid for start in made.starts for uuid in start.gpus]
    taken = {uuid for one in world["running"] for uuid in one.gpus} | {f"GPU-{i}" for i in world["out"]}
    assert len(given_away) == len(set(given_away))
    assert not taken & set(given_away)
    assert sum(1 for start in made.starts if not start.gpus) <= world["slots"]


@given(worlds)
def test_every_job_starts_with_what_it_asked_for_or_has_a_reason(world):
    made = planned(**world)
    needs = {one.id: one.gpus for one in world["waiting"]}
    assert {start.id for start in made.starts} | set(made.waits) == set(needs)
    assert all(len(start.gpus) == needs[start.id] for start in made.starts)
    assert all(wait.sentence for wait in made.waits.values())


@given(worlds)
def test_no_blocked_job_starts(world):
    """No array runs more members than it may, and nothing starts on a machine too small for it."""
    made = planned(**world)
    jobs = {one.id: one for one in world["waiting"]}
    arrays = [jobs[number].array_id for number in started(made) if jobs[number].array_id]
    assert len(arrays) == len(set(arrays))


@given(worlds)
def test_no_gpu_idles_while_work_that_fits_it_waits(world):
    """Unless a reservation says for whom."""
    made = planned(**world)
    given_away = {uuid for start in made.starts for uuid in start.gpus}
    taken = {uuid for one in world["running"] for uuid in one.gpus}
    free = 8 - len(given_away | taken | {f"GPU-{i}" for i in world["out"]})
    if not made.reservations:
        for one in world["waiting"]:
            wait = made.waits.get(one.id)
            if one.gpus and wait is not None and wait.reason is not Reason.ARRAY_LIMIT:
                assert one.gpus > free


@given(worlds)
def test_only_those_make_room_that_can_and_have_run_long_enough(world):
    made = planned(**world)
    running = {one.id: one for one in world["running"]}
    policy = Policy(name=world["name"])
    assert len({one.id for one in made.preempts}) == len(made.preempts)
    for one in made.preempts:
        victim = running[one.id]
        assert victim.preemptible
        assert not victim.stopping
        assert world["now"] - victim.started_at >= preempt_exempt_s(None, policy)
        assert one.for_id not in started(made)


@given(worlds)
def test_evictions_and_free_gpus_suffice_for_those_that_they_are_for(world):
    made = planned(**world)
    jobs = {one.id: one for one in world["waiting"]}
    out = {f"GPU-{i}" for i in world["out"]}
    gone = {one.id for one in made.preempts} | {one.id for one in world["running"] if one.stopping}
    kept = {uuid for one in world["running"] if one.id not in gone for uuid in one.gpus}
    served = sum(jobs[number].gpus for number in {one.for_id for one in made.preempts} | set(started(made)))
    assert served <= 8 - len(kept | out)


@given(worlds)
def test_nobody_is_overtaken_by_a_job_that_differs_in_nothing_but_being_younger(world):
    made = planned(**world)
    alike: dict[tuple, list[Waiting]] = {}
    for one in sorted(world["waiting"], key=lambda one: (one.since, one.id)):
        key = (one.gpus, one.priority, one.preemptible, one.urgent, one.limit_s, one.predicted_s)
        if one.array_id is None:
            alike.setdefault((*key, one.attained_gpu_s, one.handicap_s), []).append(one)
    for same in alike.values():
        states = [one.id in started(made) for one in same]
        assert states == sorted(states, reverse=True) or world["name"] == "shortest"


@given(worlds, st.randoms())
def test_the_same_input_gives_the_same_plan_in_whatever_order_it_comes(world, random):
    one = planned(**world)
    shuffled = list(world["waiting"])
    random.shuffle(shuffled)
    assert planned(**{**world, "waiting": shuffled}) == one
    stored = [
        Waiting(
            **{name: getattr(each, name) for name in each.__struct_fields__ if name != "order_keys"},
            order_keys=order_keys(each, Policy(name=world["name"])),
        )
        for each in shuffled
    ]
    assert planned(**{**world, "waiting": stored}) == one
