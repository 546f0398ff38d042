"""Waits for ends and new events: one look at the database for all."""

import asyncio

import pytest

from leptond.api.http import waits
from leptond.api.http.context import Commits
from leptond.api.http.waits import Ends, EventTail
from leptond.store.database import events
from leptond.store.queue import jobs
from tests.support.queue import claim, finish, store, submit

__all__ = ["store"]


async def within(future):
    async with asyncio.timeout(30):
        await future


async def looked(ends):
    """Returns when what a commit has set off is over."""
    while ends._look is not None:
        await asyncio.sleep(0)


async def cancel(store, job):
    await store.write(jobs.cancel, str(job), by="ana", grace_s=None, reason=None, now=2.0)


async def test_all_that_wait_for_an_end_are_woken_by_it(store):
    ends, job, other = Ends(store), await submit(store), await submit(store)
    both, another = [ends.next(("job", job)) for _ in range(2)], ends.next(("job", other))
    attempt = await claim(store, job)
    await looked(ends)
    assert not any(one.done() for one in both), "a start is no end"
    await finish(store, attempt.attempt.id, 0)
    for one in both:
        await within(one)
    await looked(ends)
    assert not another.done()
    await cancel(store, other)
    await within(another)
    assert ends._waiting == {}, "nothing is kept of waits that are over"


async def test_what_is_gone_has_ended(store):
    ends = Ends(store)
    wait = ends.next(("job", 999))
    await submit(store)
    await within(wait)


async def test_an_array_has_ended_with_its_last_member(store):
    ends, first = Ends(store), await submit(store, array="0-1")
    wait = ends.next(("array", first))
    await cancel(store, first)
    await looked(ends)
    assert not wait.done()
    await cancel(store, first + 1)
    await within(wait)


async def test_a_wait_that_is_given_up_is_forgotten(store):
    ends, job = Ends(store), await submit(store)
    wait = ends.next(("job", job))
    wait.cancel()
    await asyncio.sleep(0)
    assert ends._waiting == {}
    ends.wake()


async def test_all_waits_end_when_the_daemon_stops(store):
    ends, job = Ends(store), await submit(store)
    waits_ = [ends.next(("job", job)), ends.next(("array", 7))]
    ends.wake()
    assert all(one.done() for one in waits_)


async def test_a_wait_for_the_next_commit(store):
    commits = Commits(store)
    wait = commits.next()
    assert not await commits.wait(commits.next(), 0.01)
    await submit(store)
    assert await commits.wait(wait, 30.0)


def ids(found):
    return [one.id for one in found]


async def take(tail, last_id=0, *, limit=100, job=None, kinds=()):
    return await tail.after(last_id, limit=limit, job=job, kinds=kinds)


async def test_a_tail_gives_what_the_database_has(store):
    first, second = await submit(store), await submit(store)
    tail = EventTail(store)
    assert ids(await take(tail)) == ids(await store.read(events.after, 0, limit=100)), "from before its time"
    third = await submit(store)
    whole = await store.read(events.after, 0, limit=100)
    assert ids(await take(tail)) == ids(whole)
    assert ids(await take(tail, whole[0].id, limit=1)) == [whole[1].id], "the oldest first"
    assert {one.job_id for one in await take(tail, job=third)} == {third}
    attempt = await claim(store, first)
    await finish(store, attempt.attempt.id, 0)
    ended = await take(tail, whole[-1].id, kinds=["job.ended", "job.finished"])
    assert ended == [
        one for one in await take(tail, whole[-1].id) if one.type in ("job.ended", "job.finished")
    ]
    assert second not in {one.job_id for one in await take(tail, whole[-1].id)}


async def test_a_reader_far_behind_is_served_from_the_database(store, monkeypatch):
    monkeypatch.setattr(waits, "KEPT_EVENTS", 2)
    monkeypatch.setattr(waits, "READ_EVENTS", 1)
    tail = EventTail(store)
    assert await take(tail, 10**6) == []
    for _ in range(5):
        await submit(store)
    last = await store.read(events.last_id)
    assert ids(await take(tail, last - 2)) == [last - 1, last]
    assert len(tail._events) == 2
    assert ids(await take(tail, last - 4)) == list(range(last - 3, last + 1))


async def test_many_readers_cost_one_read(store):
    await submit(store)
    tail, asked = EventTail(store), []
    browse = store.survey

    async def counted(*words, **how):
        asked.append(words[0])
        return await browse(*words, **how)

    store.survey = counted
    await take(tail, 10**6)
    asked.clear()
    await submit(store)
    last = await store.read(events.last_id)
    found = await asyncio.gather(*(take(tail, last - 1) for _ in range(20)))
    assert len(asked) == 1
    assert all(ids(one) == [last] for one in found)


@pytest.mark.parametrize("kinds", [(), ("job.submitted",)])
async def test_nothing_new_is_an_empty_answer(store, kinds):
    await submit(store)
    tail = EventTail(store)
    assert await take(tail, await store.read(events.last_id), kinds=kinds) == []
