"""Why GPUs stay free is noted when that changes, and written with a claim or by itself."""

import pytest

from leptond.base.clock import SystemClock
from leptond.core.accounting.ledger import IdleCause
from leptond.scheduling.idle_notes import NOTE_S, IdleNotes
from leptond.store.accounting import ledger
from tests.support.store import open_new_store

FIRST, SECOND = list(IdleCause)[:2]


class Clock(SystemClock):
    now = 100.0

    def wall(self):
        return self.now


@pytest.fixture
async def world(tmp_path):
    async with open_new_store(tmp_path / "leptond.db") as store:
        clock = Clock()
        yield store, clock, IdleNotes(store, clock)


def note(notes, cause, *, stored=(FIRST, ""), at=100.0, woken_at=None, released_at=None):
    notes.note(cause, stored=stored, at=at, woken_at=woken_at, released_at=released_at)


async def test_only_news_is_noted_since_it_came_about(world):
    _, _, notes = world
    note(notes, None)
    note(notes, (FIRST, ""))
    assert notes.unwritten() == (), "the ledger has it already"
    note(notes, (SECOND, "x"), woken_at=90.0)
    note(notes, (SECOND, "x"), woken_at=95.0)
    note(notes, (FIRST, ""), at=101.0)
    notes.passed(101.0)
    note(notes, (SECOND, "y"), at=104.0, woken_at=103.0, released_at=102.0)
    note(notes, (FIRST, "z"), at=105.0, released_at=99.0)
    assert notes.unwritten() == (
        (90.0, SECOND, "x"),
        (101.0, FIRST, ""),
        (102.0, SECOND, "y"),
        (105.0, FIRST, "z"),
    )


async def test_notes_are_written_by_themselves_only_after_a_while(world):
    store, clock, notes = world
    assert await notes.write_due() is None
    note(notes, (SECOND, ""))
    commits = store.commits
    assert await notes.write_due() == NOTE_S
    assert store.commits == commits
    clock.now += NOTE_S
    assert await notes.write_due() == NOTE_S
    assert store.commits == commits + 1
    assert notes.unwritten() == ()
    assert await store.read(ledger.newest_idle_cause) == (SECOND, "")


async def test_what_a_transaction_has_written_is_not_written_again(world):
    store, _, notes = world
    note(notes, (SECOND, ""))
    taken = notes.unwritten()
    note(notes, (FIRST, ""), at=101.0)
    notes.written(len(taken))
    assert notes.unwritten() == ((101.0, FIRST, ""),)
    await notes.write()
    await notes.write()
    assert await store.read(ledger.newest_idle_cause) == (FIRST, "")
