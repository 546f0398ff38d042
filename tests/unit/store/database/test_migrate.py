"""Migrations: killed at each statement, they leave the old schema or the new one; and the databases of every
release are opened with nothing lost."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from leptond.base.errors import StartRefused
from leptond.base.paths import data_dir
from leptond.core.jobs.model import State
from leptond.store import open_store
from leptond.store.database import events
from leptond.store.database.connection import prepare_writer
from leptond.store.database.migrate import available, migrate, newest, version
from leptond.store.queue import attempts, lists
from tests.golden import make

MIGRATIONS = data_dir("migrations")
NEWEST = newest(MIGRATIONS)
GOLDEN = sorted(Path(make.__file__).parent.glob("*.sql"))
OLDEST = {file: int(make.VERSION_LINE.findall(file.read_text())[-1]) for file in GOLDEN}
RELEASED = max(OLDEST.values())
"""The newest migration that is in a release, and so is never edited again."""


def up_to(number, place):
    """The migrations up to `number`, as a directory."""
    place.mkdir(exist_ok=True)
    for found, file in available(MIGRATIONS):
        if found <= number:
            shutil.copy(file, place / file.name)
    return place


def opened(path):
    db = sqlite3.connect(path, isolation_level=None)
    prepare_writer(db)
    db.execute("PRAGMA synchronous = OFF")  # a kill of the process takes nothing from the page cache
    return db


def shape(path):
    """The whole schema, and every row of the tables that hold the queue."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        schema = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
        names = {name for kind, name, _ in schema if kind == "table"}
        rows = {
            name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in ("jobs", "attempts", "leases", "events", "dependencies")
            if name in names
        }
        return version(db), schema, rows


def killed(path, directory, count):
    """Runs the migration in a process that is killed before its statement number `count`; whether it got
    so far."""
    pid = os.fork()
    if pid == 0:
        try:
            db = opened(path)
            left = count

            def statement(_):
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

            db.set_trace_callback(statement)
            migrate(db, directory)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize(
    ("number", "step"),
    [
        *((number, 1 if number > RELEASED else 9) for number in range(1, NEWEST + 1)),
        *(pytest.param(number, 1, marks=pytest.mark.slow) for number in range(1, RELEASED + 1)),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_at_any_statement_leaves_the_old_schema_or_the_new(tmp_path, number, step):
    """At every statement of those that are new, at every ninth of those that are released (the
    slow ones: at every one)."""
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    if number > 1:
        make.build(GOLDEN[0].read_text(), before)
    with contextlib.closing(opened(before)) as db:
        migrate(db, up_to(number - 1, tmp_path / "old"))
    with contextlib.closing(opened(before)) as db:
        assert version(db) == number - 1
    shutil.copy(before, after)
    directory = up_to(number, tmp_path / "new")
    with contextlib.closing(opened(after)) as db:
        migrate(db, directory)
    old, new = shape(before), shape(after)
    assert old != new
    count = 0
    seen = set()
    while True:
        one = tmp_path / "one.db"
        for suffix in ("", "-wal", "-shm"):
            Path(f"{one}{suffix}").unlink(missing_ok=True)
        shutil.copy(before, one)
        was_killed = killed(one, directory, count)
        found = shape(one)
        assert found in (old, new), f"statement {count} of migration {number} left something between"
        seen.add("new" if found == new else "old")
        with contextlib.closing(opened(one)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            migrate(db, directory)  # the next start goes on
        assert shape(one) == new
        if not was_killed:
            break
        count += step
    assert count >= 3, "there are at least BEGIN, one statement, the number and COMMIT"
    assert seen == {"old", "new"}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda file: file.stem)
async def test_every_job_attempt_and_event_of_a_release_survives(tmp_path, golden):
    path = tmp_path / "leptond.db"
    number = make.build(golden.read_text(), path)
    assert number == OLDEST[golden]
    _, _, before = shape(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        columns = {name: [row["name"] for row in db.execute(f"PRAGMA table_info({name})")] for name in before}
        states = {row[0] for row in db.execute("SELECT state FROM jobs")}
        folds = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'folds'").fetchone()
        folded = db.execute("SELECT sum(last_id - id + 1) FROM folds").fetchone()[0] if folds else 0
    assert states == set(State), "a golden database has jobs in every state"
    async with open_store(path) as store:
        assert await store.read(version) == NEWEST
        for table, rows in before.items():
            if not rows:
                continue
            names = ", ".join(f'"{name}"' for name in columns[table])
            now = await store.read(
                lambda db, names=names, table=table: [
                    tuple(row) for row in db.execute(f"SELECT {names} FROM {table} ORDER BY 1, 2")
                ]
            )
            assert now == rows, f"{table} changed"
        found, _ = await store.read(lists.newest, lists.Filter(), limit=10_000, cursor=None)
        assert len(found) == len(before["jobs"]) + folded, "and every job can still be read"
        by_job = await store.read(lists.attempts_of, [job.id for job in found if job.attempt])
        assert sum(map(len, by_job.values())) == len(before["attempts"])
        live = await store.read(attempts.live)
        assert {claim.job.state for claim in live} == {State.STARTING, State.RUNNING, State.STOPPING}
        assert len(await store.read(events.after, 0, limit=10_000)) == len(before["events"])
        assert await store.read(lambda db: db.execute("PRAGMA foreign_key_check").fetchall()) == []


def test_golden_databases_are_of_released_schemas():
    assert GOLDEN, "one for each release"
    for file, number in OLDEST.items():
        assert 1 <= number <= NEWEST
        assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", file.stem)


def test_the_command_that_makes_them_still_works(tmp_path):
    text = make.make()
    assert make.build(text, tmp_path / "again.db") == NEWEST


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path):
    directory = tmp_path / "migrations"
    directory.mkdir()
    (directory / "0001_first.sql").write_text("CREATE TABLE one (x);")
    (directory / "0002_second.sql").write_text("CREATE TABLE two (x); INSERT INTO nowhere VALUES (1);")
    db = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, directory)
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master ORDER BY 1")]
    assert (version(db), tables) == (1, ["one"])
    (directory / "0002_second.sql").write_text("CREATE TABLE two (x);")
    assert migrate(db, directory) == ["0002_second.sql"]
    db.close()


@pytest.mark.parametrize("names", [["0001_a.sql", "0003_b.sql"], ["0001_a.sql", "notes.sql"]])
def test_gaps_and_strays_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    db = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(StartRefused):
        migrate(db, tmp_path)
    db.close()


def test_what_could_never_start_before_is_found(tmp_path):
    """A chain behind a failed job in a database of a release."""
    (golden,) = (file for file in GOLDEN if file.stem == "0.4.0")
    make.build(golden.read_text(), tmp_path / "leptond.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "leptond.db", isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        columns = [row["name"] for row in db.execute("PRAGMA table_info(jobs)")]
        failed = db.execute("SELECT id FROM jobs WHERE state = 'failed' ORDER BY id LIMIT 1").fetchone()["id"]
        like = db.execute("SELECT id FROM jobs WHERE state = 'pending' LIMIT 1").fetchone()["id"]
        first = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()["seq"] + 1
        for place in range(4):
            fixed = {
                "id": first + place,
                "array_id": None,
                "array_index": None,
                "deps_failed": int(place == 0),
                "deps_waiting": int(place in (1, 2)),
            }
            kept = [name for name in columns if name not in fixed]
            db.execute(
                f"INSERT INTO jobs ({', '.join([*fixed, *kept])})"
                f" SELECT {', '.join('?' * len(fixed))}, {', '.join(kept)} FROM jobs WHERE id = ?",
                (*fixed.values(), like),
            )
        db.executemany(
            "INSERT INTO dependencies (job_id, on_job_id, kind, state) VALUES (?, ?, ?, ?)",
            [
                (first, failed, "ok", "failed"),
                (first + 1, first, "ok", "waiting"),
                (first + 2, first + 1, "any", "waiting"),
            ],
        )
        prepare_writer(db)
        migrate(db, MIGRATIONS)
        found = db.execute("SELECT never_cause FROM jobs WHERE id >= ? ORDER BY id", (first,)).fetchall()
        assert [row["never_cause"] for row in found] == [failed, failed, failed, None]


async def test_a_successor_of_an_earlier_release_keeps_the_slots_that_it_waited_for(
    tmp_path,
):
    path = tmp_path / "leptond.db"
    make.build((Path(make.__file__).parent / "0.4.0.sql").read_text(), path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        ended = db.execute("SELECT id FROM attempts WHERE state = 'ended' LIMIT 2").fetchall()
        for gpu, (attempt_id,) in zip("ab", ended, strict=True):
            db.execute("UPDATE attempts SET gpus = ? WHERE id = ?", (f'[{{"uuid":"GPU-{gpu}"}}]', attempt_id))
        (job,) = db.execute("SELECT id FROM jobs WHERE state = 'pending' LIMIT 1").fetchone()
        for (attempt_id,) in ended:
            row = (attempt_id, job, 1, "7" * 32, "boot", 11, 22)
            db.execute("INSERT INTO successors VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    async with open_store(path) as store:
        (one,) = await store.read(lambda db: [dict(row) for row in db.execute("SELECT * FROM successors")])
    with (
        contextlib.closing(sqlite3.connect(path)) as db,
        pytest.raises(sqlite3.IntegrityError, match="may start at any moment"),
    ):
        db.execute("UPDATE jobs SET mem_bytes = 7 WHERE id = ?", (job,))
    slots = one.pop("slots")
    assert sorted(json.loads(slots)) == [["GPU-a"], ["GPU-b"]]
    assert one == {
        "attempt_id": "7" * 32,
        "job_id": job,
        "number": 1,
        "boot_id": "boot",
        "shim_pid": 11,
        "shim_start": 22,
    }
