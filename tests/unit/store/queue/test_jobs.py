"""Jobs: illegal transitions are refused by the schema."""

import pytest

from leptond.core.jobs.model import State
from leptond.store import StoreConflict
from tests.support.queue import claim, finish, store, submit

__all__ = ["store"]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE jobs SET state = 'succeeded', ended_at = 1", "illegal transition"),
        ("UPDATE jobs SET state = 'running'", "illegal transition"),
        ("UPDATE jobs SET state = 'odd'", "illegal transition|CHECK"),
        ("UPDATE jobs SET ended_at = 1", "CHECK"),
        (
            "INSERT INTO jobs (spec, name, user, gpus, submitted_at, state)"
            " VALUES ('{}', 'a', 'b', 0, 1, 'running')",
            "begins",
        ),
        ("INSERT INTO leases VALUES ('GPU-0', 'nobody', 1, NULL)", "live attempt|FOREIGN"),
        ("INSERT INTO dependencies VALUES (1, 1, 'ok', 'waiting')", "CHECK"),
        ("UPDATE events SET type = 'forged'", "append-only"),
    ],
)
async def test_the_schema_forbids(store, statement, words):
    await submit(store)
    with pytest.raises(StoreConflict, match=words):
        await store.write(lambda db: db.execute(statement))


async def test_a_terminal_state_is_final(store):
    job = await submit(store)
    attempt = (await claim(store, job)).attempt
    await finish(store, attempt.id, 0)
    for state in State:
        if state is not State.SUCCEEDED:
            with pytest.raises(StoreConflict):
                await store.write(lambda db, to=state: db.execute("UPDATE jobs SET state = ?", (to,)))
