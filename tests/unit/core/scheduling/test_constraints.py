"""Caps, queues that own GPUs, types and shares in the planner: examples, and properties."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.jobs.model import Gpu, Reason
from leptond.core.scheduling.fair_share import Caps, Limits
from leptond.core.scheduling.planner import PlanInput, Policy, Running, Waiting, plan

GIB = 1024**3
POLICIES = ("auto", "fifo", "firstfit", "shortest", "easy", "throughput")


def machine(count=4, **changed):
    """`changed`: facts of single GPUs, as g1={"owner": "x"}."""
    return [
        Gpu(
            **{
                "uuid": f"GPU-{i}",
                "index": i,
                "name": "NVIDIA H100",
                "memory_bytes": 80 * GIB,
                **changed.get(f"g{i}", {}),
            }
        )
        for i in range(count)
    ]


def job(number, gpus=1, **more):
    return Waiting(
        **{"id": number, "priority": 0, "gpus": gpus, "since": float(number), "user": "ana", **more}
    )


def held(number, *gpus, **more):
    return Running(**{"id": number, "gpus": [f"GPU-{i}" for i in gpus], "user": "ana", **more})


def planned(waiting, running=(), gpus=None, name="auto", now=100.0, **policy):
    given = PlanInput(
        waiting=waiting,
        running=running,
        gpus=gpus or machine(),
        cpu_slots=2,
        now=now,
        policy=Policy(name=name, **policy),
    )
    return plan(given)


def given_to(made):
    return {start.id: [int(uuid.removeprefix("GPU-")) for uuid in start.gpus] for start in made.starts}


@pytest.mark.parametrize("name", POLICIES)
def test_a_cap_bars_and_names_itself(name):
    limits = Limits(users=Caps(max_gpus=2))
    made = planned([job(2), job(3, user="bo")], [held(1, 0, 1)], name=name, limits=limits)
    assert given_to(made) == {3: [2]}
    wait = made.waits[2]
    assert (wait.reason, list(wait.blockers)) == (Reason.USER_LIMIT, [1])
    assert wait.sentence == "user ana may hold 2 GPUs at a time and holds 2 (job 1)"


def test_a_capped_job_keeps_nobody_waiting():
    limits = Limits(own={("project", "p"): Caps(max_gpus=1)})
    made = planned([job(1, 4, project="p"), job(2)], now=1e9, limits=limits)
    assert given_to(made) == {2: [0]}
    assert made.waits[1].reason is Reason.USER_LIMIT


def test_starts_of_one_plan_count_against_the_cap():
    made = planned([job(1), job(2), job(3)], limits=Limits(users=Caps(max_gpus=2)))
    assert sorted(given_to(made)) == [1, 2]


def test_a_type_that_is_taken_is_waited_for_by_name():
    gpus = machine(2, g1={"name": "NVIDIA A100-SXM4-80GB"})
    made = planned([job(2, gpu_type="a100"), job(3)], [held(1, 1)], gpus)
    assert given_to(made) == {3: [0]}
    assert "a100" in made.waits[2].sentence
    assert "job 1" in made.waits[2].sentence


def test_a_reservation_for_one_type_leaves_the_others_alone():
    gpus = machine(3, g2={"name": "NVIDIA A100"})
    waiting = [job(2, 2, gpu_type="h100"), job(3), job(4)]
    for name in set(POLICIES) - {"fifo"}:  # there nobody passes anybody
        made = planned(waiting, [held(1, 1)], gpus, name=name, now=1e9, max_bypass_s=10.0)
        assert 2 in (index for some in given_to(made).values() for index in some), name


def test_shares_are_packed_beside_each_other_and_away_from_whole_jobs():
    share = {"gpu_memory_bytes": 30 * GIB}
    made = planned([job(i, **share) for i in range(1, 6)] + [job(9, 2)], gpus=machine(4))
    assert {1, 2, 3, 4, 5} <= set(given_to(made))
    by_gpu = {}
    for number, some in given_to(made).items():
        for index in some:
            by_gpu.setdefault(index, []).append(number)
    assert all(len(jobs) <= 2 for jobs in by_gpu.values())
    assert all(jobs == [9] for jobs in by_gpu.values() if 9 in jobs)


def test_a_share_starts_where_no_gpu_is_free():
    running = [held(1, 0, share_bytes=50 * GIB), held(2, 1)]
    made = planned([job(3), job(4, gpu_memory_bytes=30 * GIB)], running, machine(2))
    assert given_to(made) == {4: [0]}
    made = planned([job(4, gpu_memory_bytes=31 * GIB)], running, machine(2))
    assert made.waits[4].reason is Reason.RESOURCES
    assert "31" in made.waits[4].sentence


@pytest.mark.parametrize("name", POLICIES)
def test_nobody_gets_the_gpus_of_another_queue_unless_they_are_lent(name):
    gpus = machine(2, g0={"owner": "own"}, g1={"owner": "own", "lend": "preemptible"})
    assert given_to(planned([job(1), job(2)], gpus=gpus, name=name)) == {}
    assert given_to(planned([job(1, queue="own")], gpus=gpus, name=name)) == {1: [0]}
    assert given_to(planned([job(1, borrow=True), job(2, borrow=True)], gpus=gpus, name=name)) == {1: [0]}
    soft = [job(1, borrow=True, preemptible=True), job(2, borrow=True, preemptible=True)]
    assert sorted(given_to(planned(soft, gpus=gpus, name=name)).values()) == [[0], [1]]


@pytest.mark.parametrize("name", POLICIES)
def test_idle_gpus_are_not_lent_while_their_owner_waits_for_some(name):
    gpus = machine(2, g0={"owner": "own"}, g1={"owner": "own"})
    waiting = [job(1, borrow=True), job(2, 2, queue="own")]
    made = planned(waiting, [held(9, 0, queue="own")], gpus, name=name)
    assert given_to(made) == {}
    assert "own" in made.waits[1].sentence
    capped = Limits(users=Caps(max_gpus=1), own={("user", "bo"): Caps(max_gpus=9)})
    waiting = [job(1, borrow=True, user="bo"), job(2, 2, queue="own")]
    made = planned(waiting, [held(9, 0, queue="own")], gpus, name=name, limits=capped)
    assert given_to(made) == {1: [1]}, "an owner that may not start now keeps nothing"


@pytest.mark.parametrize("name", POLICIES)
def test_a_lent_gpu_comes_back_from_a_borrower_that_can_be_preempted(name):
    gpus = machine(2, g0={"owner": "own"}, g1={"owner": "own"})
    running = [held(1, 0, queue="loan", preemptible=True, started_at=99.0), held(2, 1, queue="loan")]
    made = planned([job(3, queue="own")], running, gpus, name=name)
    assert [(one.id, one.for_id) for one in made.preempts] == [(1, 3)]
    made = planned([job(3, 2, queue="own")], running, gpus, name=name)
    assert made.preempts == [], "not for a job that would not fit all the same"
    running[0] = msgspec.structs.replace(running[0], stopping=True)
    assert planned([job(3, queue="own")], running, gpus, name=name).preempts == []


# -- properties ------------------------------------------------------------------------------------------

owners = st.sampled_from([None, "a", "b"])
jobs = st.builds(
    dict,
    gpus=st.integers(0, 5),
    user=st.sampled_from(["ana", "bo"]),
    project=st.sampled_from([None, "p"]),
    queue=st.sampled_from(["a", "b", "default"]),
    gpu_memory_bytes=st.none() | st.sampled_from([10 * GIB, 30 * GIB, 50 * GIB]),
    gpu_type=st.sampled_from([None, None, "h100", "a100"]),
    exclusive=st.booleans(),
    borrow=st.booleans(),
    preemptible=st.booleans(),
    priority=st.integers(-1, 1),
    limit_s=st.none() | st.sampled_from([60.0, 3600.0]),
)
worlds = st.fixed_dictionaries(
    {
        "waiting": st.lists(jobs, max_size=14),
        "before": st.lists(jobs, max_size=6),
        "owners": st.lists(owners, min_size=6, max_size=6),
        "types": st.lists(st.sampled_from(["NVIDIA H100", "NVIDIA A100"]), min_size=6, max_size=6),
        "out": st.sets(st.integers(0, 5), max_size=2),
        "user_cap": st.none() | st.integers(0, 6),
        "project_cap": st.none() | st.integers(0, 4),
        "now": st.sampled_from([100.0, 1e6]),
    }
)


def build(world, name):
    """A world in which what runs was started by the planner itself, and the plan that follows."""
    gpus = machine(
        6,
        **{
            f"g{i}": {
                "owner": world["owners"][i],
                "name": world["types"][i],
                "schedulable": i not in world["out"],
                "why_not": "drained: x" if i in world["out"] else "",
            }
            for i in range(6)
        },
    )
    limits = Limits(users=Caps(max_gpus=world["user_cap"]), projects=Caps(max_gpus=world["project_cap"]))
    policy = Policy(name=name, limits=limits, max_bypass_s=500.0)
    first = [job(i, **facts) for i, facts in enumerate(world["before"], 1)]
    by_id = {one.id: one for one in first}
    running = []
    empty = PlanInput(waiting=first, gpus=gpus, cpu_slots=3, now=100.0, policy=policy)
    for start in plan(empty).starts:
        one = by_id[start.id]
        running.append(
            Running(
                id=one.id,
                gpus=start.gpus,
                user=one.user,
                project=one.project,
                queue=one.queue,
                share_bytes=None if one.exclusive else one.gpu_memory_bytes,
                exclusive=one.exclusive,
                preemptible=one.preemptible,
                limit_s=one.limit_s,
                started_at=100.0,
            )
        )
    waiting = [job(i, **facts) for i, facts in enumerate(world["waiting"], 101)]
    full = PlanInput(
        waiting=waiting, running=running, gpus=gpus, cpu_slots=3, now=world["now"], policy=policy
    )
    return full, plan(full)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(worlds, st.sampled_from(POLICIES))
def test_no_start_passes_a_cap_a_gpus_memory_or_the_borders_of_a_queue(world, name):
    full, made = build(world, name)
    gpus, running, waiting = full.gpus, full.running, full.waiting
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    by_id = {one.id: one for one in waiting}
    bytes_of = dict.fromkeys(by_uuid, 0)
    parts = {}

    def take(one, uuids, share):
        for uuid in uuids:
            size = by_uuid[uuid].memory_bytes
            bytes_of[uuid] += size if share is None else share
            for key in (("user", one.user), ("project", one.project)):
                parts[key] = parts.get(key, 0) + (1 if share is None else share / size)

    for one in running:
        take(one, one.gpus, one.share_bytes)
    for start in made.starts:
        one = by_id[start.id]
        assert len(start.gpus) == len(set(start.gpus)) == one.gpus
        take(one, start.gpus, None if one.exclusive else one.gpu_memory_bytes)
        for uuid in start.gpus:
            gpu = by_uuid[uuid]
            assert gpu.schedulable
            assert gpu.owner in (None, one.queue) or one.borrow
            assert one.gpu_type is None or one.gpu_type in gpu.name.lower()
    assert all(taken <= by_uuid[uuid].memory_bytes for uuid, taken in bytes_of.items())
    for (kind, name_of), count in parts.items():
        cap = world[f"{kind}_cap"]
        assert name_of is None or cap is None or count <= cap + 1e-6


@settings(max_examples=50, deadline=None, derandomize=True)
@given(worlds, st.sampled_from(POLICIES))
def test_every_job_starts_or_is_told_why_not(world, name):
    full, made = build(world, name)
    assert {start.id for start in made.starts} | set(made.waits) == {one.id for one in full.waiting}
    assert all(wait.sentence for wait in made.waits.values())
    gone = {one.id for one in made.preempts}
    assert gone <= {one.id for one in full.running if one.preemptible}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(worlds, st.sampled_from(POLICIES), st.randoms())
def test_the_order_of_the_input_does_not_matter(world, name, random):
    full, made = build(world, name)
    for some in (full.waiting, full.running, full.gpus):
        random.shuffle(some)
    again = plan(full)
    assert (again.starts, again.preempts) == (made.starts, made.preempts)
