"""A key is remembered as long as somebody may send it again, whatever becomes of the wall clock."""

import contextlib
import sqlite3

import pytest

from leptond.base.paths import data_dir
from leptond.store.database.migrate import migrate
from leptond.store.queue import idempotency

DAY = 86400.0
T0 = 1_800_000_000.0


@pytest.fixture
def db():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, data_dir("migrations"))
        db.row_factory = sqlite3.Row
        yield db


def keys(db):
    return [row["key"] for row in db.execute("SELECT key FROM idempotency ORDER BY at, key")]


def test_a_clock_set_forward_makes_no_submit_new(db):
    idempotency.remember(db, "ada", "before", "00aa", "[]", T0)
    idempotency.remember(db, "ada", "after", "00bb", "[]", T0 + 3650 * DAY)
    assert idempotency.recall(db, "ada", "before", "00aa") == "[]"
    idempotency.remember(db, "ada", "back again", "00cc", "[]", T0 + 1)
    assert keys(db) == ["before", "back again", "after"]


def test_old_keys_are_forgotten_but_for_the_newest(db, monkeypatch):
    monkeypatch.setattr(idempotency, "KEEP", 3)
    for day in range(20):
        idempotency.remember(db, "ada", f"{day:02}", "00aa", "[]", T0 + day * DAY)
    assert keys(db) == [f"{day:02}" for day in range(12, 20)]
    idempotency.remember(db, "ada", "later", "11aa", "[]", T0 + 1000 * DAY)
    assert len(keys(db)) == 9, "only some submits forget"
    idempotency.forget(db, T0 + 1000 * DAY)
    assert keys(db) == ["18", "19", "later"]
