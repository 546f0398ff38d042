"""The planner: examples, and properties over random worlds."""

from hypothesis import given
from hypothesis import strategies as st

from leptond.core.model import Gpu, Reason
from leptond.core.planner import Policy, Running, Waiting, order, plan


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


def planned(waiting, running=(), devices=4, out=(), slots=2, now=0.0, **policy):
    return plan(waiting, running, gpus(devices, out), slots, now, Policy(**policy))


def test_priority_then_order_of_submission():
    made = planned([job(1), job(2, priority=5), job(3, priority=5), job(4)], devices=3)
    assert [start.id for start in made.starts] == [2, 3, 1]
    assert made.waits[4].reason is Reason.RESOURCES


def test_a_gang_starts_whole_or_not_at_all():
    made = planned([job(1, need=3), job(2, need=2)])
    assert [(start.id, len(start.gpus)) for start in made.starts] == [(1, 3)]


def test_what_fits_passes_what_does_not():
    made = planned([job(2, need=4), job(3, need=1)], running=[Running(id=1, gpus=["GPU-0"])])
    assert [start.id for start in made.starts] == [3]
    assert "needs 4 GPUs, 3 free (held by job 1)" in made.waits[2].sentence


def test_a_job_passed_over_for_too_long_gets_the_gpus_kept():
    world = dict(waiting=[job(2, need=4), job(3, need=1)], running=[Running(id=1, gpus=["GPU-0"])])
    made = planned(**world, now=101.0, max_bypass_s=100.0)
    assert made.starts == []
    assert made.waits[3].reason is Reason.PRIORITY
    assert "job 2" in made.waits[3].sentence


def test_a_higher_priority_is_not_stopped_by_that():
    waiting = [job(2, need=4), job(3, need=1, priority=9)]
    made = planned(waiting, running=[Running(id=1, gpus=["GPU-0"])], now=101.0, max_bypass_s=100.0)
    assert [start.id for start in made.starts] == [3]


def test_a_job_wider_than_what_is_in_service_keeps_nothing():
    made = planned([job(2, need=4), job(3)], out={0}, now=1e9)
    assert [start.id for start in made.starts] == [3]
    assert made.waits[2].reason is Reason.DRAINING
    assert "GPU 0" in made.waits[2].sentence


def test_jobs_without_gpus_run_in_cpu_slots():
    made = planned([job(2, need=0), job(3, need=0)], running=[Running(id=1, gpus=[])], slots=2)
    assert [start.id for start in made.starts] == [2]
    assert "CPU slots" in made.waits[3].sentence


def test_an_array_runs_as_many_members_as_it_may():
    waiting = [job(i, array_id=1, array_limit=2) for i in range(1, 5)]
    made = planned(waiting)
    assert [start.id for start in made.starts] == [1, 2]
    assert made.waits[3].reason is Reason.ARRAY_LIMIT


def test_another_gpu_after_one_failed():
    made = planned([job(1, avoid=["GPU-0"])])
    assert made.starts[0].gpus == ["GPU-1"]
    assert planned([job(1, need=4, avoid=["GPU-0"])]).starts[0].gpus == [f"GPU-{i}" for i in range(4)]


worlds = st.builds(
    lambda needs, busy, out, slots, now: dict(
        waiting=[
            Waiting(id=i + 100, priority=p, gpus=n, since=s, array_id=a, array_limit=1 if a else None)
            for i, (n, p, s, a) in enumerate(needs)
        ],
        running=[Running(id=i, gpus=[f"GPU-{g}"]) for i, g in enumerate(busy)],
        devices=8,
        out=out,
        slots=slots,
        now=now,
        max_bypass_s=500.0,
    ),
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(-2, 2), st.floats(0, 1000), st.sampled_from([None, 1, 2])),
        max_size=20,
    ),
    st.sets(st.integers(0, 7)),
    st.sets(st.integers(0, 7)),
    st.integers(0, 3),
    st.floats(0, 2000),
)


@given(worlds)
def test_no_gpu_is_given_twice_and_none_that_is_out(world):
    made = planned(**world)
    given_away = [uuid for start in made.starts for uuid in start.gpus]
    taken = {uuid for one in world["running"] for uuid in one.gpus} | {f"GPU-{i}" for i in world["out"]}
    assert len(given_away) == len(set(given_away))
    assert not taken & set(given_away)


@given(worlds)
def test_every_job_starts_with_what_it_asked_for_or_has_a_reason(world):
    made = planned(**world)
    needs = {one.id: one.gpus for one in world["waiting"]}
    assert {start.id for start in made.starts} | set(made.waits) == set(needs)
    assert all(len(start.gpus) == needs[start.id] for start in made.starts)
    assert all(wait.sentence for wait in made.waits.values())


@given(worlds)
def test_no_gpu_idles_while_work_that_fits_it_waits(world):
    """Unless the GPUs are kept for a job that has waited too long."""
    made = planned(**world)
    given_away = {uuid for start in made.starts for uuid in start.gpus}
    taken = {uuid for one in world["running"] for uuid in one.gpus}
    free = 8 - len(given_away | taken | {f"GPU-{i}" for i in world["out"]})
    kept = any("are kept for" in wait.sentence for wait in made.waits.values())
    for one in world["waiting"]:
        wait = made.waits.get(one.id)
        if one.gpus and wait is not None and wait.reason is not Reason.ARRAY_LIMIT and not kept:
            assert one.gpus > free


@given(worlds)
def test_nobody_is_overtaken_by_a_job_that_asks_the_same(world):
    made = planned(**world)
    started = {start.id for start in made.starts}
    plain = sorted((one for one in world["waiting"] if one.array_id is None), key=order)
    for index, one in enumerate(plain):
        if one.id not in started:
            assert not any(later.id in started and later.gpus == one.gpus for later in plain[index + 1 :])


@given(worlds, st.randoms())
def test_the_order_of_the_input_does_not_matter(world, random):
    one = planned(**world)
    shuffled = list(world["waiting"])
    random.shuffle(shuffled)
    assert planned(**{**world, "waiting": shuffled}) == one
