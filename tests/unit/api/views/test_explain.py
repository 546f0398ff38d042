"""Reasons why jobs wait, of a real queue."""

import pytest

from leptond.api.views.explain import Explain
from leptond.core.jobs.model import Reason
from leptond.store.queue import jobs
from tests.support.access import EVERYTHING


@pytest.fixture
def explain(world):
    """`explain(job, ask)` gives `ask(explain, job)` of one snapshot."""

    async def call(job, ask):
        def read(db):
            return ask(
                Explain(db, world.context, world.devices.unhealthy(), EVERYTHING), jobs.find(db, str(job))
            )

        return await world.store.read(read)

    return call


def wait(explain, job):
    return explain.wait(job)


async def test_a_job_that_fits_is_being_started(world, explain):
    found = await explain(await world.submit(gpus=1), wait)
    assert (found.reason, found.sentence) == (Reason.RESOURCES, "it is being started")


async def test_what_runs_waits_for_nothing(world, explain):
    job = await world.submit(gpus=1)
    await world.start(job, "GPU-0")
    assert await explain(job, wait) is None
    assert await explain(job, lambda one, job: one.starts_at(job)) is None
    assert await explain(job, lambda one, job: one.eta(job)) is None


async def test_a_job_behind_another_names_it_and_says_when(world, explain):
    first = await world.submit(gpus=2, time_limit_s=1000)
    await world.start(first, "GPU-0", "GPU-1")
    job = await world.submit(gpus=1, time_limit_s=10)
    found = await explain(job, wait)
    assert found.reason is Reason.RESOURCES
    assert await explain(job, lambda one, job: one.refs(one.wait(job))) == [str(first)]
    now = world.context.clock.wall()
    start = await explain(job, lambda one, job: one.starts_at(job))
    assert now < start <= now + 1060
    eta = await explain(job, lambda one, job: one.eta(job))
    assert eta.earliest_at < eta.likely.start_at


async def test_a_job_behind_one_without_a_limit_cannot_be_foretold_and_says_whom(world, explain):
    first = await world.submit(gpus=2)
    await world.start(first, "GPU-0", "GPU-1")
    job = await world.submit(gpus=1)
    said = await explain(job, lambda one, job: one.unforeseen(job, one.wait(job)))
    assert str(first) in said


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({"hold": True}, Reason.HELD), ({"begin_at": "2999-01-01T00:00:00Z"}, Reason.BEGIN_TIME)],
)
async def test_a_job_that_is_not_ready_needs_no_plan(world, explain, spec, reason):
    job = await world.submit(gpus=1, **spec)
    assert (await explain(job, wait)).reason is reason
    assert await explain(job, lambda one, job: (one.starts_at(job), one.turn(job, one.wait(job)))) == (
        None,
        None,
    )
    assert not world.context.forecasts._kept


@pytest.mark.parametrize("hold", [False, True])
async def test_a_job_that_can_never_start_says_which_end_is_the_cause(world, explain, hold):
    first = await world.submit(retries=0)
    job = await world.submit(after=[str(first)], hold=hold)
    await world.finish(await world.start(first), exit_code=1)
    found = await explain(job, wait)
    assert (found.reason, found.sentence) == (
        Reason.DEPENDENCY_NEVER,
        f"job {first} failed, so it can never run",
    )


async def test_devices_that_are_ill_are_the_reason(world, explain):
    world.devices.ill.update({"GPU-0": "fan", "GPU-1": "fan"})
    found = await explain(await world.submit(gpus=1), wait)
    assert found.sentence != "it is being started"


async def test_a_job_that_became_ready_since_the_plan_is_looked_at_anew(world, explain):
    """The plan for other readers was made before its begin time came."""
    now = [world.context.clock.wall(), world.context.clock.boot()]

    class Clock:
        boot_id = world.context.clock.boot_id

        def wall(self):
            return now[0]

        def boot(self):
            return now[1]

    world.context.clock = Clock()
    from datetime import UTC, datetime

    begin = datetime.fromtimestamp(now[0] + 1, UTC).isoformat()
    job = await world.submit(gpus=1, begin_at=begin)
    other = await world.submit(gpus=1)
    assert (await explain(other, wait)).sentence == "it is being started"
    assert (await explain(job, wait)).reason is Reason.BEGIN_TIME
    now[0] += 1.5
    now[1] += 1.5
    assert (await explain(job, wait)).sentence == "its begin time has come: it is being started"


async def test_the_shown_job_has_its_reason(world, explain):
    job = await world.submit(gpus=1, hold=True)
    shown = await explain(job, lambda one, job: one.show(job, []))
    assert (shown.id, shown.reason) == (job, Reason.HELD)
