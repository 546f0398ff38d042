"""The database file while no daemon runs on it."""

import pytest

from leptond.base.paths import data_dir
from leptond.store import StoreConflict, StoreError, open_store
from leptond.store.database import offline
from leptond.store.database.migrate import newest

MIGRATIONS = data_dir("migrations")


async def test_the_lineage_is_read_without_touching_the_file(tmp_path):
    file = tmp_path / "leptond.db"
    async with open_store(file) as store:
        lineage = store.lineage
    before = (file.read_bytes(), sorted(tmp_path.iterdir()))
    assert offline.lineage_in(file) == lineage
    assert (file.read_bytes(), sorted(tmp_path.iterdir())) == before


def test_a_database_that_no_daemon_has_opened_has_no_lineage(tmp_path):
    file = tmp_path / "leptond.db"
    applied, schema = offline.migrate_file(file, MIGRATIONS)
    assert len(applied) == schema == newest(MIGRATIONS)
    assert offline.migrate_file(file, MIGRATIONS) == ([], schema)
    assert offline.lineage_in(file) is None


def test_what_is_no_database_is_refused_as_an_error_of_the_store(tmp_path):
    file = tmp_path / "leptond.db"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        offline.lineage_in(file)
    with pytest.raises(StoreError, match="not a database"):
        offline.migrate_file(file, MIGRATIONS)


def test_a_transaction_is_kept_whole_or_not_at_all(tmp_path):
    file = tmp_path / "leptond.db"
    offline.migrate_file(file, MIGRATIONS)
    with offline.opened(file) as db, offline.transaction(db):
        db.execute("INSERT INTO meta (key, value) VALUES ('lineage', 'kept')")
    assert [one.name for one in tmp_path.iterdir()] == ["leptond.db"]

    def twice():
        with offline.opened(file) as db, offline.transaction(db):
            db.execute("UPDATE meta SET value = 'lost'")
            db.execute("INSERT INTO meta (key, value) VALUES ('lineage', 'twice')")

    with pytest.raises(StoreConflict):
        twice()
    assert offline.lineage_in(file) == "kept"
