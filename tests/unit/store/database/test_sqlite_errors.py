"""What an error of SQLite means: wait for room, or stop before anything is trusted."""

import sqlite3

import pytest

from leptond.store import open_store
from leptond.store.database.sqlite_errors import Trouble, fatal, no_room, trouble_of


def error(code):
    made = sqlite3.OperationalError("made")
    made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (sqlite3.SQLITE_FULL, Trouble.FULL, None),
        (sqlite3.SQLITE_BUSY, Trouble.NONE, None),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, Trouble.NONE, None),
        (sqlite3.SQLITE_IOERR_FSYNC, Trouble.IO, 74),
        (sqlite3.SQLITE_IOERR_WRITE, Trouble.IO, 74),
        (sqlite3.SQLITE_IOERR_READ, Trouble.IO, 74),
        (sqlite3.SQLITE_CORRUPT, Trouble.DAMAGED, 78),
        (sqlite3.SQLITE_NOTADB, Trouble.DAMAGED, 78),
    ],
)
def test_every_kind_has_its_consequence(tmp_path, code, kind, exit_code):
    assert trouble_of(error(code), tmp_path) is kind
    why = fatal(tmp_path / "leptond.db", error(code))
    assert (why.exit_code if why is not None else None) == exit_code


def test_a_failed_write_on_a_disk_with_room_is_no_full_disk(tmp_path):
    assert not no_room(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not no_room(tmp_path / "missing")


async def test_a_commit_that_fails_is_not_answered_and_ends_the_daemon(tmp_path):
    async with open_store(tmp_path / "leptond.db") as store:

        def fails(db):
            db.execute("UPDATE meta SET value = 'x'")
            db.execute("ROLLBACK")  # as SQLite itself does when its disk fails
            raise error(sqlite3.SQLITE_IOERR_FSYNC)

        with pytest.raises(sqlite3.OperationalError, match="made"):
            await store.write(fails)
        assert store.broken.done()
        assert store.broken.result().exit_code == 74
        kept = await store.read(lambda db: [row[0] for row in db.execute("SELECT value FROM meta")])
        assert "x" not in kept
