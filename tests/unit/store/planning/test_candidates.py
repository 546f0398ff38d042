"""What a plan reads of the queue: jobs that need GPUs and jobs that need none, where they could start."""

import pytest

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.core.scheduling.planner import PlanInput, Policy
from leptond.store.planning import snapshot
from leptond.store.planning.candidates import WINDOW, find
from leptond.store.queue import gpus, jobs
from tests.simulation.store import database

NOW = 3600.0


@pytest.fixture
def db():
    db = database()
    found = [gpus.Found(uuid="GPU-0", index=0, name="x", memory_bytes=1, simulated=True)]
    gpus.sync(db, found, 1.0)
    yield db
    db.close()


def submit(db, count=1, *, user="ana", now=1.0, **spec):
    """The ids of `count` jobs that are alike."""
    one = admit(JobSpec(argv=["true"], **spec), gpus=1, home="/", defaults=Defaults())
    return [job.id for job in jobs.submit(db, [one] * count, user=user, now=now, max_pending=10**6)[0]]


def steps(db, work):
    """How many hundreds of steps SQLite's machine takes for `work`."""
    found = []
    db.set_progress_handler(lambda: found.append(1), 100)
    work()
    db.set_progress_handler(None, 0)
    return len(found)


def decided(db, **more):
    return snapshot.decide(db, **{"now": NOW, "boot": NOW, "unhealthy": {}, "policy": Policy(), **more})


@pytest.mark.parametrize("name", ["auto", "fifo", "firstfit", "shortest", "easy", "throughput"])
@pytest.mark.parametrize("preemptible", [False, True])
def test_jobs_that_cannot_start_cost_nothing(db, name, preemptible):
    """Neither a queue of CPU jobs beside an idle GPU, nor one of GPU jobs beside a free CPU slot."""
    policy = Policy(name=name)
    one, other = submit(db, gpus=0)[0], submit(db, gpus=1, preemptible=preemptible)[0]

    def slots_are_full():
        assert [start.id for start in decided(db, cpu_slots=0, policy=policy).starts] == [other]

    before = steps(db, slots_are_full)
    submit(db, 2 * WINDOW, gpus=0)
    assert steps(db, slots_are_full) <= before + 10, "to read a window takes hundreds"
    gpus.drain(db, "GPU-0", "x", "me", 1.0)
    submit(db, 2 * WINDOW, gpus=1, preemptible=preemptible)
    seen = find(db, PlanInput(gpus=(), cpu_slots=1, now=NOW, policy=policy), boot=NOW, gpu=0, cpu=WINDOW)
    assert {job.gpus for job in seen.jobs} == {0}
    assert (seen.all_cpu, seen.all_gpu) == (False, True)
    assert [start.id for start in decided(db, cpu_slots=1, policy=policy).starts] == [one]


@pytest.mark.parametrize("drained", [False, True])
def test_no_cpu_job_is_hidden_behind_the_jobs_of_another(db, drained):
    """However deep somebody has filled the queue: an urgent job goes first, and so does the job of whoever
    has had less, whether a GPU is idle or not."""
    if drained:
        gpus.drain(db, "GPU-0", "x", "me", 1.0)
    submit(db, 2 * WINDOW)
    db.execute("INSERT INTO shares (user, project, queue, gpu_s, at) VALUES ('ana', '', 'default', 1e6, 1.0)")
    (fair,) = submit(db, user="bo", now=2.0)
    policy = Policy(fairness=snapshot.NO_FAIRNESS)
    assert [start.id for start in decided(db, cpu_slots=1, policy=policy).starts] != [fair]
    assert [start.id for start in decided(db, cpu_slots=1).starts] == [fair]
    (urgent,) = submit(db, urgent=True, now=3.0)
    assert [start.id for start in decided(db, cpu_slots=1).starts] == [urgent]
    assert [start.id for start in decided(db, cpu_slots=2).starts] == [urgent, fair]
