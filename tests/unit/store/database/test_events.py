"""Events are in order, and the counts follow them."""

from leptond.core.jobs.model import State
from leptond.store.database import events
from leptond.store.queue import jobs
from tests.support.queue import store, submit

__all__ = ["store"]


async def test_events_are_in_order_and_counts_are_kept(store):
    for _ in range(3):
        await submit(store)
    found = await store.read(events.after, 0, limit=100)
    assert [one.id for one in found] == sorted(one.id for one in found)
    assert (await store.read(jobs.counts))[State.PENDING] == 3
    await store.write(jobs.cancel, "1", by="ana", grace_s=None, reason=None, now=1.0)
    assert (await store.read(jobs.counts))[State.PENDING] == 2
    await store.write(jobs.purge, "1", by="ana", now=1.0)
    assert (await store.read(jobs.counts))[State.CANCELLED] == 0
