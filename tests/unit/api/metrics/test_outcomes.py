"""Counters of outcomes: from this daemon's start on, each event once, and never falling."""

import asyncio

import pytest

from leptond.api.metrics import outcomes as module
from leptond.api.metrics.outcomes import Outcomes
from tests.support.queue import claim, finish, store, submit

__all__ = ["store"]


async def ended(store, exit_code):
    found = await claim(store, await submit(store))
    await finish(store, found.attempt.id, exit_code)


def values(outcomes, family):
    return {
        tuple(sample.labels.values()): sample.value
        for metric in outcomes.collect()
        if metric.name == family
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


@pytest.fixture
async def outcomes(store):
    await ended(store, 0)  # before the daemon began
    one = Outcomes()
    await one.begin(store)
    return one


async def test_what_ended_before_does_not_count(store, outcomes):
    await outcomes.update(store)
    assert set(values(outcomes, "leptond_jobs_finished").values()) == {0.0}


async def test_each_end_counts_once(store, outcomes, monkeypatch):
    monkeypatch.setattr(module, "SLICE", 2)  # many reads
    for exit_code in (0, 0, 1):
        await ended(store, exit_code)
    await asyncio.gather(*(outcomes.update(store) for _ in range(3)))
    found = values(outcomes, "leptond_jobs_finished")
    assert (found["succeeded",], found["failed",]) == (2.0, 1.0)


async def test_what_is_deleted_stays_counted(store, outcomes):
    await ended(store, 0)
    await outcomes.update(store)
    await store.write(lambda db: db.execute("DELETE FROM events"))
    await outcomes.update(store)
    assert values(outcomes, "leptond_jobs_finished")["succeeded",] == 1.0
