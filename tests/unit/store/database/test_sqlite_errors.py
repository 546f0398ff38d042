"""What an error of SQLite means: wait for room, or stop before anything is trusted."""

import contextlib
import errno
import os
import sqlite3

import pytest

from leptond.store import StoreConflict, StoreError, StoreFull, StoreUnavailable, open_store
from leptond.store.database import sqlite_errors
from leptond.store.database.sqlite_errors import (
    StorageFault,
    fatal,
    no_room,
    open_refused,
    storage_fault,
    store_error,
    store_errors,
)


def error(code):
    made = sqlite3.OperationalError("made")
    made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (sqlite3.SQLITE_FULL, StorageFault.FULL, None),
        (sqlite3.SQLITE_BUSY, StorageFault.NONE, None),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, StorageFault.NONE, None),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageFault.IO, 74),
        (sqlite3.SQLITE_IOERR_WRITE, StorageFault.IO, 74),
        (sqlite3.SQLITE_IOERR_READ, StorageFault.IO, 74),
        (sqlite3.SQLITE_CORRUPT, StorageFault.DAMAGED, 78),
        (sqlite3.SQLITE_NOTADB, StorageFault.DAMAGED, 78),
    ],
)
def test_every_kind_has_its_consequence(tmp_path, code, kind, exit_code):
    assert storage_fault(error(code), tmp_path) is kind
    why = fatal(tmp_path / "leptond.db", error(code))
    assert (why.exit_code if why is not None else None) == exit_code


@pytest.mark.parametrize(
    ("code", "full", "exit_code"),
    [
        (sqlite3.SQLITE_FULL, True, 75),
        (sqlite3.SQLITE_IOERR_SHMSIZE, True, 75),
        (sqlite3.SQLITE_IOERR_READ, True, 75),
        (sqlite3.SQLITE_CANTOPEN, True, 75),
        (sqlite3.SQLITE_IOERR_SHMSIZE, False, 74),
        (sqlite3.SQLITE_IOERR_READ, False, 74),
        (sqlite3.SQLITE_CANTOPEN, False, 74),
        (sqlite3.SQLITE_NOMEM, False, 74),
        (sqlite3.SQLITE_READONLY, False, 74),
        (sqlite3.SQLITE_BUSY, False, 75),
        (sqlite3.SQLITE_LOCKED, False, 75),
        (sqlite3.SQLITE_CORRUPT, False, 78),
        (sqlite3.SQLITE_CORRUPT, True, 78),
        (sqlite3.SQLITE_NOTADB, False, 78),
    ],
)
def test_only_what_sqlite_has_read_and_cannot_use_needs_a_person(
    tmp_path, monkeypatch, code, full, exit_code
):
    monkeypatch.setattr(sqlite_errors, "no_room", lambda _: full)
    file = tmp_path / "leptond.db"
    file.touch()
    refused = open_refused(file, error(code))
    assert refused.exit_code == exit_code
    assert ("recover" in str(refused)) == (exit_code == 78)
    assert ("Make room first" in str(refused)) == (exit_code == 75 and full)


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(errno.ENOSPC, 75), (errno.EDQUOT, 75), (errno.EIO, 74), (errno.EMFILE, 74), (errno.EACCES, 78)],
)
def test_an_error_of_the_system_is_told_by_its_number(tmp_path, number, exit_code):
    refused = open_refused(tmp_path / "leptond.db", OSError(number, os.strerror(number)))
    assert refused.exit_code == exit_code


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("INSERT INTO one VALUES (1)", StoreConflict),
        ("SELECT * FROM missing", StoreUnavailable),
        ("INSERT INTO one SELECT value FROM generate", StoreFull),
    ],
)
def test_what_sqlite_raises_leaves_as_the_error_of_the_store(statement, kind):
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.executescript(
            "PRAGMA max_page_count = 3; CREATE TABLE one (x PRIMARY KEY); INSERT INTO one VALUES (1);"
            "CREATE VIEW generate AS WITH RECURSIVE n(value) AS"
            " (SELECT 2 UNION ALL SELECT value + 1 FROM n LIMIT 100000) SELECT value FROM n"
        )
        with pytest.raises(StoreError) as raised, store_errors():
            db.execute(statement)
    assert type(raised.value) is kind
    assert isinstance(raised.value.__cause__, sqlite3.Error)
    assert str(raised.value) == str(raised.value.__cause__)


def test_an_error_without_a_kind_of_its_own_is_not_tried_again():
    made = store_error(sqlite3.DatabaseError("database disk image is malformed"))
    assert type(made) is StoreError
    assert not isinstance(made, StoreUnavailable)


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

        with pytest.raises(StoreUnavailable, match="made"):
            await store.write(fails)
        assert store.broken.done()
        assert store.broken.result().exit_code == 74
        kept = await store.read(lambda db: [row[0] for row in db.execute("SELECT value FROM meta")])
        assert "x" not in kept
