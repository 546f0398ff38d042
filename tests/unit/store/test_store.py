"""The queue's storage: durability is asked for, commits are shared, and the schema forbids what must not
happen."""

import asyncio
import contextlib
import secrets
import shutil
import sqlite3
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.base.errors import StartRefused
from leptond.base.paths import data_dir
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import ExitRecord, Identity, JobSpec, State
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import End, Evidence
from leptond.core.scheduling.fair_share import Fairness
from leptond.core.scheduling.planner import PlanInput, Policy, Start, plan
from leptond.store import StoreConflict, StoreUnavailable, open_store
from leptond.store.database import events
from leptond.store.database.examine import examine
from leptond.store.database.migrate import migrate, version
from leptond.store.planning import candidates, snapshot
from leptond.store.queue import attempts, gpus, jobs, lists

SHIM = Identity(boot_id="boot", pid=1, start_ticks=1)


@pytest.fixture
async def store(tmp_path):
    async with open_store(tmp_path / "leptond.db") as one:
        found = [
            gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=True) for i in range(2)
        ]
        await one.write(gpus.sync, found, 1.0)
        yield one


async def submit(store, **spec):
    admitted = admit(JobSpec(argv=["true"], **spec), gpus=2, home="/", defaults=Defaults())
    stored, _ = await store.write(jobs.submit, [admitted], user="ana", now=1.0, max_pending=1000)
    return stored[0].ids[0]


async def claim(store, job, *uuids, boot=1.0):
    return await store.write(
        attempts.claim,
        Start(id=job, gpus=uuids),
        attempt_id=secrets.token_hex(16),
        now=1.0,
        boot=boot,
        boot_id="boot",
    )


async def finish(store, attempt_id, exit_code, boot=2.0, now=2.0):
    return await store.write(
        attempts.finish,
        attempt_id,
        verdict=classify(Evidence(exit_code=exit_code, run_s=100)),
        record=ExitRecord(attempt_id=attempt_id, boot_id="boot", exit_code=exit_code, run_s=100),
        now=now,
        boot=boot,
        boot_id="boot",
        roll=0.0,
    )


async def test_every_commit_is_synced_and_keys_are_checked(store):
    pragmas = await store.write(
        lambda db: {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    )
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_the_reader_cannot_write(store):
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.read(lambda db: db.execute("DELETE FROM jobs"))


async def test_concurrent_changes_share_commits(store):
    before = store.commits
    ids = await asyncio.gather(*(submit(store) for _ in range(200)))
    assert sorted(ids) == list(range(1, 201))
    assert store.commits - before < 20


async def test_a_change_that_fails_undoes_itself_alone(store):
    def bad(db):
        db.execute("UPDATE jobs SET name = 'spoilt'")
        raise RuntimeError("no")

    first = await submit(store)
    results = await asyncio.gather(submit(store), store.write(bad), submit(store), return_exceptions=True)
    assert [type(result) for result in results] == [int, RuntimeError, int]
    names = await store.read(lambda db: [row[0] for row in db.execute("SELECT name FROM jobs")])
    assert names == ["true"] * 3
    assert first == 1


async def test_what_is_answered_is_there_for_another_process(store):
    job = await submit(store)
    with contextlib.closing(sqlite3.connect(store.path)) as other:
        assert other.execute("SELECT id FROM jobs").fetchall() == [(job,)]


async def test_a_gpu_is_never_leased_twice(store):
    one, two = await submit(store, gpus=1), await submit(store, gpus=1)
    first = await claim(store, one, "GPU-0")
    assert await claim(store, two, "GPU-0") is None, "the claim looks"
    second = await claim(store, two, "GPU-1")
    with pytest.raises(StoreConflict):  # and the schema forbids
        await store.write(
            lambda db: db.execute("INSERT INTO leases VALUES ('GPU-0', ?, 1.0, NULL)", (second.attempt.id,))
        )
    assert first is not None


async def test_a_job_never_has_two_live_attempts(store):
    job = await submit(store)
    assert await claim(store, job) is not None
    assert await claim(store, job) is None
    with pytest.raises(StoreConflict):
        await store.write(
            lambda db: db.execute(
                "INSERT INTO attempts (id, job_id, number, state, n_gpus, claimed_at, claimed_boot, boot_id)"
                " VALUES ('x', ?, 2, 'starting', 0, 1, 1, 'boot')",
                (job,),
            )
        )


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


async def test_a_finish_counts_once(store):
    job = await submit(store, gpus=2, retries=5)
    attempt = (await claim(store, job, "GPU-0", "GPU-1")).attempt
    assert (await finish(store, attempt.id, 1, boot=4.0)).again
    assert await finish(store, attempt.id, 0) is None
    found = await store.read(jobs.find, str(job))
    assert (found.state, found.spent_user, found.gpu_ms) == (State.PENDING, 1, 2 * 3000)
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM leases").fetchone()[0]) == 0


async def test_a_stop_that_came_first_keeps_the_gate_shut(store):
    job = await submit(store)
    attempt = (await claim(store, job)).attempt
    await store.write(jobs.cancel, str(job), by="ana", grace_s=None, reason=None, now=1.0)
    assert await store.write(attempts.started, attempt.id, shim=SHIM, now=1.0, deadline_at=None) is False


async def test_a_reboot_carries_backoffs_over_to_the_new_clock(store):
    job = await submit(store, retries=3)
    await store.write(snapshot.new_boot, "boot", now=100.0, boot=5000.0)
    attempt = (await claim(store, job, boot=5000.0)).attempt
    await finish(store, attempt.id, 1, boot=5000.0, now=100.0)
    found = await store.read(jobs.find, str(job))
    assert (found.backoff_at, found.backoff_boot) == (105.0, 5005.0)
    assert await store.write(snapshot.new_boot, "next boot", now=102.0, boot=10.0)
    assert (await store.read(jobs.find, str(job))).backoff_boot == 13.0
    assert await store.read(snapshot.next_wake, now=102.0, boot=10.0) == 3.0


async def test_a_backoff_is_not_shortened_by_a_jump_of_the_wall_clock(store):
    job = await submit(store, retries=3)
    attempt = (await claim(store, job)).attempt
    await finish(store, attempt.id, 1, boot=2.0)
    years = 10 * 365 * 86400.0
    view = await store.read(snapshot.plan_input, now=time.time() + years, boot=2.5, unhealthy={}, cpu_slots=1)
    assert [waiting.id for waiting in view.waiting] == []
    view = await store.read(snapshot.plan_input, now=0.0, boot=1000.0, unhealthy={}, cpu_slots=1)
    assert [waiting.id for waiting in view.waiting] == [job]


async def test_a_plan_that_is_out_of_date_claims_nothing(store):
    job = await submit(store, gpus=1)
    for change in (
        lambda db: db.execute("UPDATE jobs SET held = 1"),
        lambda db: db.execute("UPDATE jobs SET held = 0, backoff_boot = 99"),
        lambda db: db.execute("UPDATE jobs SET backoff_boot = NULL, gpus = 2"),
        lambda db: db.execute("UPDATE jobs SET gpus = 1") and gpus.drain(db, "GPU-0", "x", "me", 1.0),
    ):
        await store.write(change)
        assert await claim(store, job, "GPU-0") is None
    assert await claim(store, job, "GPU-1") is not None


@settings(max_examples=40, deadline=None)
@given(
    wants=st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), max_size=60),
    slots=st.integers(0, 3),
    taken=st.integers(0, 2),
    others=st.booleans(),
)
def test_a_short_look_decides_as_a_long_one(wants, slots, taken, others):
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db, data_dir("migrations"))
    found = [gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=True) for i in range(4)]
    gpus.sync(db, found, 1.0)
    for i in range(taken):
        gpus.drain(db, f"GPU-{i}", "x", "me", 1.0)
    specs = [JobSpec(argv=["x"], gpus=gpus_wanted, priority=priority) for gpus_wanted, priority in wants]
    admitted = [admit(spec, gpus=4, home="/", defaults=Defaults()) for spec in specs]
    jobs.submit(db, admitted, user="ana", now=1.0, max_pending=1000)
    if others:  # else what fair share makes of all alike is left out
        jobs.submit(db, admitted[::2], user="bo", now=1.0, max_pending=1000)
    db.execute("INSERT INTO shares (user, project, queue, gpu_s, at) VALUES ('ana', '', 'default', 9e5, 1.0)")
    policy = Policy(fairness=Fairness())
    short = snapshot.decide(db, now=2.0, boot=2.0, unhealthy={}, cpu_slots=slots, policy=policy).starts
    long = plan(
        snapshot.plan_input(db, now=2.0, boot=2.0, unhealthy={}, cpu_slots=slots, policy=policy)
    ).starts
    db.close()
    assert list(short) == list(long)


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


# -- migrations ------------------------------------------------------------------------------------------


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


async def test_nothing_the_loop_asks_scans_the_queue(store):
    """Every statement that the scheduler and the queue's list run is asked for its plan."""
    await submit(store)
    statements = []

    def ask(db):
        db.set_trace_callback(lambda sql: statements.append(sql) if sql.startswith("SELECT") else None)
        try:
            snapshot.plan_input(db, now=1.0, boot=1.0, unhealthy={}, cpu_slots=1)
            empty = PlanInput(gpus=(), cpu_slots=1, now=1.0)
            for gpu, cpu in ((0, 9), (9, 0)):
                candidates.find(db, empty, boot=1.0, gpu=gpu, cpu=cpu)
            snapshot.next_wake(db, now=1.0, boot=1.0)
            snapshot.stops(db)
            attempts.live(db)
            lists.in_queue_order(db, lists.Filter(), limit=50, cursor=None)
            lists.newest(db, lists.Filter(), limit=50, cursor=None)
        finally:
            db.set_trace_callback(None)
        return [
            (sql, [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]) for sql in statements
        ]

    plans = await store.write(ask)
    about_jobs = [(sql, steps) for sql, steps in plans if "FROM jobs" in sql]
    assert len(about_jobs) >= 7
    for sql, steps in about_jobs:
        assert not any("TEMP B-TREE" in step for step in steps), (sql, steps)
        newest = "ORDER BY id DESC" in sql  # along the primary key, which is its order
        assert newest or not any(step == "SCAN jobs" for step in steps), (sql, steps)


def steps_of(look):
    """How many thousands of steps SQLite's machine takes for a query."""

    def counted(db):
        steps = []
        db.set_progress_handler(lambda: steps.append(1), 1000)
        look(db)
        db.set_progress_handler(None, 0)
        return len(steps)

    return counted


async def test_what_has_to_stop_is_found_without_looking_through_the_past(store):
    def a_long_past(db):
        job = db.execute("SELECT * FROM jobs").fetchone()["id"]
        for number in range(1, 5001):
            db.execute(
                "INSERT INTO attempts (id, job_id, number, state, n_gpus, claimed_at, claimed_boot, boot_id,"
                " class) VALUES (?, ?, ?, 'ended', 0, 1, 1, 'boot', 'ok')",
                (f"{number:032x}", job, number),
            )

    await submit(store)
    await store.write(a_long_past)
    other = await submit(store)
    claimed = await claim(store, other)
    await store.write(jobs.cancel, str(other), by="ana", grace_s=3.0, reason=None, now=1.0)
    assert await store.read(snapshot.stops) == [(claimed.attempt.id, "cancel", 3.0)]
    assert await store.read(steps_of(snapshot.stops)) < 2


async def test_a_backoff_is_not_made_longer_by_a_clock_that_was_set_before_a_reboot(store):
    job = await submit(store, gpus=1, retries=2, retry_delay_s=300.0)
    claimed = await claim(store, job, "GPU-0")
    ten_years = 10 * 365 * 86400.0
    await finish(store, claimed.attempt.id, 1, boot=100.0, now=ten_years)
    await store.write(snapshot.new_boot, "boot", now=ten_years, boot=100.0)
    assert await store.write(snapshot.new_boot, "next boot", now=50.0, boot=5.0)
    left = await store.read(snapshot.next_wake, now=50.0, boot=5.0)
    assert 0 < left <= 900


async def test_a_limit_that_only_the_daemon_saw_pass_is_not_the_end(store):
    job = await submit(store, time_limit_s=5.0)
    one = await claim(store, job)
    assert await store.write(attempts.started, one.attempt.id, shim=SHIM, now=1.0, deadline_at=6.0)
    await store.write(attempts.overran, one.attempt.id, now=6.0)
    shown = await store.read(attempts.get, one.attempt.id)
    assert (shown.state, shown.stop_reason) == ("stopping", "timeout")
    await finish(store, one.attempt.id, 0)
    done = await store.read(attempts.get, one.attempt.id)
    assert (done.class_, done.stop_reason) == ("ok", None)
    assert classify(Evidence.of(shown, End(record=None, shim_lost=True))).cause == "timeout"
    assert classify(Evidence.of(shown, End(record=None, boot_changed=True))).cause == "infra-node"


async def test_no_second_copy_starts_beside_what_cannot_be_killed(store):
    job = await submit(store, gpus=1, retries=3, retry_delay_s=0.0)
    one = await claim(store, job, "GPU-0")
    record = ExitRecord(attempt_id=one.attempt.id, boot_id="boot", exit_code=1, run_s=1, unkillable=1)
    await store.write(
        attempts.finish,
        one.attempt.id,
        verdict=classify(Evidence(exit_code=1, run_s=100, unkillable=1)),
        record=record,
        now=2.0,
        boot=2.0,
        boot_id="boot",
        roll=0.0,
    )
    waiting = await store.read(jobs.find, str(job))
    assert (waiting.state, waiting.held) == (State.PENDING, True)
    assert "unkillable" in waiting.explanation
    first = next(gpu for gpu in await store.read(gpus.known) if gpu.uuid == "GPU-0")
    assert first.drained
    assert "unkillable" in first.drain_reason


async def test_attempts_are_found_by_the_beginning_of_their_id(store):
    ids = [(await claim(store, await submit(store))).attempt.id for _ in range(3)]
    for one in ids:
        assert await store.read(attempts.ids_like, one[:15]) == [one]
        assert await store.read(attempts.ids_like, one) == [one]
    assert await store.read(attempts.ids_like, "g" * 15) == []


def test_a_hot_journal_is_no_damage(tmp_path):
    """What a first start leaves that is killed before the log is in use."""
    db = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    migrate(db, data_dir("migrations"))
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN")
    db.executemany("INSERT INTO events (at, type) VALUES (0, ?)", [("x" * 900,) for _ in range(500)])
    for suffix in ("", "-journal"):  # as a kill would leave them
        shutil.copyfile(tmp_path / f"live.db{suffix}", tmp_path / f"left.db{suffix}")
    db.close()
    left = {file: file.read_bytes() for file in tmp_path.glob("left.db*")}
    assert len(left) == 2
    newest = len(list(data_dir("migrations").glob("*.sql")))
    assert examine(tmp_path / "left.db", newest) == newest
    assert {file: file.read_bytes() for file in tmp_path.glob("left.db*")} == left
