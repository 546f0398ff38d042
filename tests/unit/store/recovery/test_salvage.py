"""What can be read of a damaged database comes into a sound one, whatever page is gone."""

import contextlib
import re
import shutil
import sqlite3

import pytest

from leptond.base.paths import data_dir
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.store.database import rows
from leptond.store.database.examine import examine
from leptond.store.database.migrate import newest
from leptond.store.queue import jobs, scripts
from leptond.store.recovery.salvage import COUNTS, build
from tests.support.queue import add, empty_queue
from tests.unit.store.database.test_migrate import GOLDEN, make

MIGRATIONS = data_dir("migrations")
NEWEST = newest(MIGRATIONS)
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A database of the first release, with jobs in every state."""
    path = tmp_path_factory.mktemp("whole") / "whole.db"
    make.build(GOLDEN[0].read_text(), path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    return path


def jobs_of(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        for row in db.execute("SELECT * FROM attempts"):
            rows.attempt(row)
        return {row["id"]: rows.job(row) for row in db.execute("SELECT * FROM jobs")}


def counts(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        kept = told(db)
        for name in COUNTS.keys() - {"job_counts"}:
            db.execute(f"DELETE FROM {name}")
        for again in COUNTS.values():
            db.execute(again)
        return kept, told(db)


def told(db):
    """What the tables that triggers keep say; a count of none may be there or not."""
    return {
        name: sorted(row for row in db.execute(f"SELECT * FROM {name}") if name == "arrays" or row[-1])
        for name in COUNTS
    }


def test_a_sound_database_loses_nothing(whole, tmp_path):
    found = build(whole, None, tmp_path / "new.db", MIGRATIONS)
    assert found.refused == {}
    assert found.unreadable is None
    assert jobs_of(tmp_path / "new.db").keys() == jobs_of_old(whole)
    assert examine(tmp_path / "new.db", NEWEST, whole=True) == NEWEST
    kept, again = counts(tmp_path / "new.db")
    assert kept == again


def jobs_of_old(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {row[0] for row in db.execute("SELECT id FROM jobs")}


def test_whatever_page_is_lost_a_sound_database_comes_out(whole, tmp_path):
    pages = whole.stat().st_size // PAGE
    everything = jobs_of_old(whole)
    saved = []
    for page in range(0, pages, 6):
        damaged, new = tmp_path / "damaged.db", tmp_path / "new.db"
        shutil.copy(whole, damaged)
        with damaged.open("r+b") as file:
            file.seek(page * PAGE)
            file.write(bytes(PAGE))
        new.unlink(missing_ok=True)
        before = damaged.read_bytes()
        build(damaged, None, new, MIGRATIONS)
        assert damaged.read_bytes() == before
        assert examine(new, NEWEST, whole=True) == NEWEST
        found = jobs_of(new)
        assert found.keys() <= everything
        kept, again = counts(new)
        assert kept == again, f"page {page}"
        saved.append(len(found))
    # most pages hold no jobs: then all of them are saved
    assert sum(number == len(everything) for number in saved) > len(saved) / 2


def test_a_backup_comes_first_and_newer_rows_replace_its_own(whole, tmp_path):
    newer, new = tmp_path / "newer.db", tmp_path / "new.db"
    shutil.copy(whole, newer)
    with contextlib.closing(sqlite3.connect(newer)) as db:
        db.execute("UPDATE jobs SET priority = 42, version = version + 1 WHERE id = 1")
        db.execute("UPDATE jobs SET priority = 43, version = version - 1 WHERE id = 2")
        db.commit()
    build(newer, whole, new, MIGRATIONS)
    found = jobs_of(new)
    assert found[1].priority == 42
    assert found[2].priority == 0, "a lower version is an older one"


def test_every_field_of_a_job_is_carried_over_also_of_a_compact_array(tmp_path):
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    build(None, None, old, MIGRATIONS)
    asked = {"project": "p", "contact": "Ana, #night", "labels": {"a": "b"}, "priority": 3, "hold": True}
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")
        for array in (None, "0-199"):
            one = admit(JobSpec(argv=["true"], array=array, **asked), gpus=0, home="/", defaults=Defaults())
            jobs.submit(db, [one], user="ana", now=1.0, max_pending=1000)
        db.execute("COMMIT")
    before = jobs_of(old)
    build(old, None, new, MIGRATIONS)
    assert jobs_of(new) == before
    with contextlib.closing(sqlite3.connect(new)) as db:
        db.row_factory = sqlite3.Row
        member = jobs.find(db, "2_150")
    assert {name: getattr(member.current_spec(), name) for name in asked} == asked


def test_every_table_that_is_kept_by_triggers_is_counted_again(tmp_path):
    build(None, None, tmp_path / "new.db", MIGRATIONS)
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as db:
        triggers = " ".join(
            row[0] for row in db.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")
        )
    kept = {table for table, _ in re.findall(r"UPDATE (\w+) SET (n|ready) = \2\b", triggers)}
    assert kept == set(COUNTS)


def test_scripts_come_along_for_the_jobs_that_run_them(tmp_path):
    whole, new = tmp_path / "whole.db", tmp_path / "new.db"
    with contextlib.closing(empty_queue()) as db:
        kept = add(db, script="echo kept\n")
        array = add(db, script="echo array\n", array="0-999")
        db.execute("INSERT INTO scripts (sha256, content) VALUES (?, x'00')", ("0" * 64,))  # of no job
        whole.write_bytes(db.serialize())
    assert "scripts" not in build(whole, None, new, MIGRATIONS).refused
    with contextlib.closing(sqlite3.connect(new)) as db:
        db.row_factory = sqlite3.Row
        for ref, text in ((str(kept), b"echo kept\n"), (f"{array}_999", b"echo array\n")):
            assert scripts.content(db, jobs.find(db, ref).script_sha256) == text
        assert db.execute("SELECT count(*) FROM scripts").fetchone()[0] == 2
