"""Reasons why jobs wait."""

import pytest

from leptond.core.jobs.model import Gpu, Reason
from leptond.core.scheduling.inputs import PlanInput, Policy, Running, Waiting
from leptond.core.scheduling.plan_builder import PlanBuilder
from leptond.core.scheduling.wait_reasons import wait_reasons

GIB = 1024**3


def gpu(number, **more):
    return Gpu(**({"uuid": f"GPU-{number}", "index": number, "name": "L4", "memory_bytes": 24 * GIB} | more))


def job(number=1, need=1, **more):
    return Waiting(**({"id": number, "priority": 0, "gpus": need, "since": 0.0} | more))


def builder(*waiting, running=(), gpus=None, **policy):
    return PlanBuilder(
        PlanInput(
            waiting=waiting, running=running, gpus=gpus or [gpu(0), gpu(1)], cpu_slots=1, now=0.0,
            policy=Policy(**({"name": "fifo"} | policy)),
        )
    )  # fmt: skip


def only(one):
    (wait,) = wait_reasons(one, one.waiting).values()
    return wait


HELD = Running(id=9, gpus=["GPU-0"])
FULL = [Running(id=n, gpus=[f"GPU-{n}"]) for n in (0, 1)]
OUT = [gpu(0, schedulable=False, why_not="drained: fan"), gpu(1, schedulable=False, why_not="no answer")]


@pytest.mark.parametrize(
    ("one", "reason", "sentence", "blockers"),
    [
        (builder(job(), paused=True), Reason.PAUSED, "the scheduler is paused", []),
        (
            builder(job(need=0), running=[Running(id=8, gpus=[])]),
            Reason.RESOURCES, "all 1 CPU slots are taken (held by job 8)", [8],
        ),
        (
            builder(job(need=2), running=[HELD]),
            Reason.RESOURCES, "needs 2 GPUs, 1 free (held by job 9)", [9],
        ),
        (builder(job(need=3)), Reason.IMPOSSIBLE, "needs 3 GPUs, 2 in service", []),
        (
            builder(job(), gpus=OUT),
            Reason.DRAINING, "needs 1 GPU, 0 in service; out: GPU 0 (drained: fan), GPU 1 (no answer)", [],
        ),
        (
            builder(job(), gpus=OUT[1:]),
            Reason.GPU_UNHEALTHY, "needs 1 GPU, 0 in service; out: GPU 1 (no answer)", [],
        ),
        (
            builder(job(gpu_type="h100")),
            Reason.IMPOSSIBLE, "needs 1 GPU of type h100, of which the queue default can have 0", [],
        ),
        (
            builder(job(gpu_memory_bytes=20 * GIB), running=FULL),
            Reason.RESOURCES, "needs 1 GPU with 20 GiB free, 0 free (held by jobs 0, 1)", [0, 1],
        ),
        (
            builder(job(array_id=7, array_limit=1), running=[Running(id=9, gpus=["GPU-0"], array_id=7)]),
            Reason.ARRAY_LIMIT, "array 7 runs at most 1 of its members at a time", [],
        ),
    ],
)  # fmt: skip
def test_a_job_waits_for(one, reason, sentence, blockers):
    wait = only(one)
    assert (wait.reason, wait.sentence, list(wait.blockers)) == (reason, sentence, blockers)


def test_jobs_behind_others_wait_for_them_too():
    one = builder(job(1), job(2), running=[Running(id=9, gpus=["GPU-0", "GPU-1"])])
    found = wait_reasons(one, one.waiting)
    assert (found[1].reason, list(found[1].blockers)) == (Reason.RESOURCES, [9])
    assert (found[2].reason, list(found[2].blockers)) == (Reason.PRIORITY, [9, 1])


def test_a_reservation_is_named_on_both_sides():
    one = builder(job(1, 2), job(2), running=[HELD])
    one.reserve(one.waiting[0])
    one.disable_backfill()
    found = wait_reasons(one, one.waiting)
    assert found[1].sentence == "needs 2 GPUs, 1 free, kept for it (held by job 9)"
    assert found[2].reason is Reason.PRIORITY
    assert found[2].sentence.startswith("free GPUs are kept for job 1, which needs 2 GPUs")
    assert list(found[2].blockers) == [1]


def test_a_job_whose_victims_are_stopping_waits_for_them():
    victim = Running(id=9, gpus=["GPU-0", "GPU-1"], preemptible=True)
    one = builder(job(1, 2), running=[victim], name="auto")
    one.make_room(one.waiting[0], [victim])
    wait = only(one)
    assert (wait.sentence, list(wait.blockers)) == ("starts as soon as job 9 has made room", [9])


def test_idle_gpus_of_another_queue_are_named():
    gpus = [gpu(0, owner="gold", lend="none"), gpu(1)]
    one = builder(job(1), running=[Running(id=9, gpus=["GPU-1"])], gpus=gpus)
    assert only(one).sentence.endswith("(held by job 9); GPU 0 belongs to the queue gold")


def test_a_job_that_starts_has_no_reason():
    one = builder(job(1), job(2), job(3))
    assert one.start(one.waiting[0])
    assert set(wait_reasons(one, one.waiting)) == {2, 3}
