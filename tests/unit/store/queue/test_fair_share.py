"""Queues, caps, fair share's books and shared leases in the database; and the migration that brings them to a
database with live leases."""

import secrets
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.base.errors import Conflict, Invalid, NotFound, QueueClosed, TooMany, WrongState
from leptond.base.paths import data_dir
from leptond.core.admission.admission import Defaults, admit
from leptond.core.admission.queues import Queue
from leptond.core.jobs.model import ExitRecord, JobSpec
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.scheduling.fair_share import Caps, Fairness, Limits, UsageOwner
from leptond.core.scheduling.planner import Policy, Start
from leptond.store.database.migrate import available, migrate
from leptond.store.planning import owners, snapshot
from leptond.store.planning.candidates import WINDOW
from leptond.store.queue import attempts, fair_share, gpus, jobs, queues

GIB = 1024**3
NO_CAPS = Limits()


@pytest.fixture
def db():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as one:
        one.row_factory = sqlite3.Row
        one.execute("PRAGMA foreign_keys = ON")
        migrate(one, data_dir("migrations"))
        found = [
            gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=80 * GIB, simulated=True)
            for i in range(4)
        ]
        gpus.sync(one, found, 1.0)
        yield one


def submit(db, user="ana", caps=NO_CAPS, **spec):
    admitted = admit(JobSpec(argv=["true"], **spec), gpus=4, home="/", defaults=Defaults())
    stored, _ = jobs.submit(db, [admitted], user=user, now=1.0, max_pending=10_000, caps=caps)
    return stored[0].ids[0]


def claim(db, job, *uuids, boot=1.0):
    return attempts.claim(
        db,
        Start(id=job, gpus=uuids),
        attempt_id=secrets.token_hex(16),
        now=1.0,
        boot=boot,
        boot_id="boot",
    )


def finish(db, one, *, boot, now):
    record = ExitRecord(attempt_id=one.attempt.id, boot_id="boot", exit_code=0)
    verdict = classify(Evidence(exit_code=0))
    attempts.finish(
        db, one.attempt.id, verdict=verdict, record=record, now=now, boot=boot, boot_id="boot", roll=0.0
    )


# -- shared leases ---------------------------------------------------------------------------------------


def test_shares_fill_a_gpu_and_no_more(db):
    held = [claim(db, submit(db, gpus=1, gpu_memory_bytes=30 * GIB), "GPU-0") for _ in range(2)]
    assert [one.attempt.gpus[0].memory_bytes for one in held] == [30 * GIB] * 2
    assert held[0].attempt.gpu_parts == 0.375
    assert claim(db, submit(db, gpus=1, gpu_memory_bytes=30 * GIB), "GPU-0") is None
    assert claim(db, submit(db, gpus=1), "GPU-0") is None, "nobody gets it whole meanwhile"
    assert claim(db, submit(db, gpus=1, gpu_memory_bytes=20 * GIB), "GPU-0") is not None
    whole = claim(db, submit(db, gpus=1, gpu_memory_bytes=1 * GIB, exclusive=True), "GPU-1")
    assert whole.attempt.gpus[0].memory_bytes is None
    assert claim(db, submit(db, gpus=1, gpu_memory_bytes=1 * GIB), "GPU-1") is None
    (shown, _, *_) = gpus.known(db)
    assert [lease.memory_bytes for lease in shown.leases] == [30 * GIB, 30 * GIB, 20 * GIB]


@pytest.mark.parametrize(
    ("share", "words"),
    [(None, "whole or in shares"), (41 * GIB, "within its memory"), (0, "CHECK"), (-1, "CHECK")],
)
def test_the_schema_forbids_what_a_gpu_has_not(db, share, words):
    claim(db, submit(db, gpus=1, gpu_memory_bytes=40 * GIB), "GPU-0")
    other = claim(db, submit(db, gpus=1), "GPU-1").attempt.id
    with pytest.raises(sqlite3.IntegrityError, match=words):
        db.execute("INSERT INTO leases VALUES ('GPU-0', ?, 1.0, ?)", (other, share))
    with pytest.raises(sqlite3.IntegrityError, match="does not change"):
        db.execute("UPDATE leases SET memory_bytes = 1")


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 1), st.none() | st.integers(1, 100)), max_size=12))
def test_no_order_of_leases_passes_the_physical_memory(wants):
    """Straight at the schema: whatever is asked for, what it lets in fits."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        migrate(db, data_dir("migrations"))
        found = [
            gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=100, simulated=True) for i in range(2)
        ]
        gpus.sync(db, found, 1.0)
        for gpu, share in wants:
            attempt_id = claim(db, submit(db)).attempt.id
            try:
                db.execute("INSERT INTO leases VALUES (?, ?, 1.0, ?)", (f"GPU-{gpu}", attempt_id, share))
            except sqlite3.IntegrityError:
                continue
        for gpu in gpus.known(db):
            shares_of = [lease.memory_bytes for lease in gpu.leases]
            assert shares_of == [None] or (None not in shares_of and sum(shares_of) <= 100)


def test_gpu_time_of_a_share_is_its_part(db):
    one = claim(db, submit(db, gpus=2, gpu_memory_bytes=20 * GIB), "GPU-0", "GPU-1", boot=10.0)
    finish(db, one, boot=14.0, now=5.0)
    assert jobs.find(db, str(one.job.id)).gpu_ms == 4000 * 2 // 4


# -- queues ----------------------------------------------------------------------------------------------


def test_a_queue_is_made_changed_and_removed(db):
    made = queues.create(db, Queue(name="fast", weight=2.0), ["0", "GPU-2"], by="root", now=1.0)
    assert made.gpus == ["GPU-0", "GPU-2"]
    with pytest.raises(Conflict):
        queues.create(db, Queue(name="fast"), None, by="root", now=1.0)
    with pytest.raises(Invalid, match="belongs to the queue fast"):
        queues.create(db, Queue(name="slow"), ["0"], by="root", now=1.0)
    changed = queues.change(db, "fast", {"lend": "none", "users": ["bo"]}, ["1"], by="root", now=2.0)
    assert (changed.lend, list(changed.users), changed.gpus, changed.weight) == (
        "none",
        ["bo"],
        ["GPU-1"],
        2.0,
    )
    assert changed.version == 2
    assert [gpu.owner for gpu in gpus.known(db)] == [None, "fast", None, None]
    queues.remove(db, "fast", by="root", now=3.0)
    assert [queue.name for queue in queues.every(db)] == ["default"]
    assert [gpu.owner for gpu in gpus.known(db)] == [None] * 4
    for name in ("fast", "nothing"):
        with pytest.raises(NotFound):
            queues.remove(db, name, by="root", now=3.0)


def test_a_queue_with_jobs_stays_and_the_default_one_always_does(db):
    queues.create(db, Queue(name="fast"), None, by="root", now=1.0)
    job = submit(db, queue="fast")
    for _ in range(2):
        with pytest.raises(WrongState, match="fast has"):
            queues.remove(db, "fast", by="root", now=1.0)
        one = claim(db, job)
    assert one is None
    live = db.execute("SELECT id FROM attempts").fetchone()["id"]
    record = ExitRecord(attempt_id=live, boot_id="boot", exit_code=0)
    verdict = classify(Evidence(exit_code=0))
    attempts.finish(db, live, verdict=verdict, record=record, now=2.0, boot=2.0, boot_id="boot", roll=0.0)
    queues.remove(db, "fast", by="root", now=3.0)
    with pytest.raises(WrongState):
        queues.remove(db, "default", by="root", now=3.0)
    with pytest.raises(sqlite3.IntegrityError, match="stays"):
        db.execute("DELETE FROM queues")
    with pytest.raises(NotFound):
        jobs.retry(db, str(job), user="ana", now=4.0, max_pending=9)


def test_a_closed_queue_takes_no_jobs_and_an_unknown_one_is_impossible(db):
    queues.change(db, "default", {"state": "closed"}, None, by="root", now=1.0)
    with pytest.raises(QueueClosed):
        submit(db)
    with pytest.raises(sqlite3.IntegrityError, match="needs a queue"):
        db.execute(
            "INSERT INTO jobs (spec, name, user, gpus, submitted_at, queue) VALUES ('{}','a','b',0,1,'x')"
        )


# -- caps ------------------------------------------------------------------------------------------------


def test_waiting_jobs_are_counted_through_every_move(db):
    queues.create(db, Queue(name="fast"), None, by="root", now=1.0)
    first, second = submit(db, project="p"), submit(db, project="p", queue="fast", array="0-2")
    jobs.edit(db, str(second), {"queue": "default", "project": "q"}, by="ana", if_version=None, now=1.0)
    one = claim(db, first)
    jobs.cancel(db, str(second + 1), by="ana", grace_s=None, reason=None, now=1.0)
    finish(db, one, boot=2.0, now=2.0)
    for kind, column in (("user", "user"), ("project", "project"), ("queue", "queue")):
        counted = dict(
            db.execute(
                f"SELECT {column}, count(*) FROM jobs"
                f" WHERE state = 'pending' AND {column} IS NOT NULL GROUP BY 1"
            ).fetchall()
        )
        kept = dict(
            db.execute("SELECT name, n FROM pending_counts WHERE kind = ? AND n > 0", (kind,)).fetchall()
        )
        assert kept == counted, kind


def test_a_cap_on_waiting_jobs_refuses_what_would_pass_it(db):
    caps = Limits(users=Caps(max_pending=2), projects=Caps(max_pending=1))
    submit(db, caps=caps, project="p")
    with pytest.raises(TooMany, match="project p may have 1 jobs waiting and has 1") as refusal:
        submit(db, caps=caps, project="p")
    assert "leptonctl limits set project p" in refusal.value.hint
    with pytest.raises(TooMany, match="user ana"):
        submit(db, caps=caps, array="0-1")
    submit(db, caps=caps)
    submit(db, caps=caps, user="bo")
    fair_share.set_limit(db, fair_share.Limit(kind="user", name="ana", max_pending=3), by="root", now=1.0)
    submit(db, caps=caps)
    with pytest.raises(TooMany):
        submit(db, caps=caps)
    fair_share.remove_limit(db, "user", "ana", by="root", now=1.0)
    with pytest.raises(NotFound):
        fair_share.remove_limit(db, "user", "ana", by="root", now=1.0)


# -- fair share ------------------------------------------------------------------------------------------


def test_use_is_booked_at_the_end_shown_before_it_and_fades(db):
    hour = 3600.0
    fair_share.configure(db, 10 * hour, now=1.0)
    one = claim(db, submit(db, gpus=2, project="p"), "GPU-0", "GPU-1", boot=0.0)
    ana = UsageOwner("ana", "p", "default")
    before = fair_share.used(db, now=hour, boot=hour)
    finish(db, one, boot=hour, now=hour)
    after = fair_share.used(db, now=hour, boot=hour)
    assert before == after == {ana: pytest.approx(2 * hour, rel=0.05)}
    assert fair_share.used(db, now=11 * hour, boot=0.0)[ana] == pytest.approx(after[ana] / 2)
    fair_share.configure(db, hour, now=11 * hour)
    assert fair_share.used(db, now=12 * hour, boot=0.0)[ana] == pytest.approx(after[ana] / 4)
    fair_share.configure(db, hour, now=100 * hour)
    assert fair_share.used(db, now=100 * hour, boot=0.0) == {}


def test_weights_come_from_limits_and_queues(db):
    fair_share.set_limit(db, fair_share.Limit(kind="project", name="p", weight=3.0), by="root", now=1.0)
    queues.change(db, "default", {"weight": 2.0}, None, by="root", now=1.0)
    found = fair_share.weights(db)
    assert (found.users, found.projects, found.queues) == ({}, {"p": 3.0}, {"default": 2.0})


# -- migration -------------------------------------------------------------------------------------------


def test_a_database_with_live_leases_keeps_them_and_every_job(tmp_path):
    """From the first release's schema, with a job that runs on two GPUs and one that waits."""
    old = tmp_path / "old"
    old.mkdir()
    first = available(data_dir("migrations"))[0][1]
    (old / first.name).write_text(first.read_text())
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        migrate(db, old)
        for i in range(3):
            db.execute("INSERT INTO gpus VALUES (?, ?, 'x', 100, 1, 1, 0, NULL)", (f"GPU-{i}", i))
        for user in ("ana", "bo"):
            db.execute(
                "INSERT INTO jobs (spec, name, user, project, gpus, submitted_at)"
                " VALUES ('{\"argv\": [\"true\"]}', 'j', ?, 'p', 2, 1.0)",
                (user,),
            )
        db.execute(
            "INSERT INTO attempts"
            " (id, job_id, number, state, gpus, n_gpus, claimed_at, claimed_boot, boot_id)"
            " VALUES ('a', 1, 1, 'starting', '[{\"uuid\": \"GPU-0\", \"index\": 0}]', 2, 1.0, 1.0, 'boot')"
        )
        db.execute("UPDATE jobs SET state = 'starting', attempt = 1 WHERE id = 1")
        db.executemany("INSERT INTO leases VALUES (?, 'a', 5.0)", [("GPU-0",), ("GPU-2",)])
        migrate(db, data_dir("migrations"))
        leases = [tuple(row) for row in db.execute("SELECT * FROM leases ORDER BY gpu_uuid")]
        assert leases == [("GPU-0", "a", 5.0, None), ("GPU-2", "a", 5.0, None)]
        assert [(job.id, job.queue, job.exclusive) for job in (jobs.find(db, i) for i in "12")] == [
            (1, "default", False),
            (2, "default", False),
        ]
        assert queues.pending(db, "user", "bo") == queues.pending(db, "project", "p") == 1
        assert queues.pending(db, "user", "ana") == 0
        assert claim(db, 2, "GPU-1", "GPU-2") is None, "the old leases hold"
        with pytest.raises(sqlite3.IntegrityError, match="after its leases"):
            db.execute("UPDATE attempts SET state = 'ended', class = 'ok'")
        record = ExitRecord(attempt_id="a", boot_id="boot", exit_code=0)
        verdict = classify(Evidence(exit_code=0))
        attempts.finish(db, "a", verdict=verdict, record=record, now=2.0, boot=2.0, boot_id="boot", roll=0.0)
        assert claim(db, 2, "GPU-1", "GPU-2") is not None
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_fair_share_moves_whoever_has_had_more_behind(db):
    """Two jobs alike for one GPU: the later one goes first when its user has had nothing, and does not when
    fair share is off."""
    for i in range(1, 4):
        gpus.drain(db, f"GPU-{i}", "x", "me", 1.0)
    hour = 3600.0
    one = claim(db, submit(db, gpus=1), "GPU-0", boot=0.0)
    finish(db, one, boot=100 * hour, now=100 * hour)
    first = submit(db, gpus=1, time_limit_s=60)
    second = submit(db, gpus=1, time_limit_s=60, user="bo")

    def who(**fairness):
        policy = Policy(name="firstfit", fairness=Fairness(**fairness))
        decided = snapshot.decide(
            db, now=100 * hour, boot=100 * hour, unhealthy={}, cpu_slots=1, policy=policy
        )
        return [start.id for start in decided.starts]

    assert who() == [second]
    assert who(max_handicap_s=0.0) == [first]
    fair_share.set_limit(db, fair_share.Limit(kind="user", name="bo", max_gpus=0), by="root", now=1.0)
    assert who() == [first], "a cap bars at once"


@pytest.mark.parametrize("what", ["cap", "share", "array", "queue"])
def test_nobody_is_hidden_behind_the_jobs_of_another(db, what):
    """Whoever fills the queue beyond what one plan looks at keeps nobody from the GPUs that are left."""
    if what == "queue":
        queues.create(db, Queue(name="own"), ["GPU-3"], by="root", now=1.0)
    if what == "share":
        for i in range(1, 4):
            gpus.drain(db, f"GPU-{i}", "x", "me", 1.0)
        finish(db, claim(db, submit(db, gpus=1), "GPU-0", boot=0.0), boot=3600.0, now=3600.0)
    first = submit(db, gpus=1, time_limit_s=60, array=f"0-{WINDOW + 200}" + ("%1" if what == "array" else ""))
    last = submit(
        db,
        gpus=1,
        time_limit_s=60,
        user="ana" if what in ("array", "queue") else "bo",
        queue="own" if what == "queue" else None,
        project=None,
    )
    if what == "cap":
        fair_share.set_limit(db, fair_share.Limit(kind="user", name="ana", max_gpus=1), by="root", now=1.0)
    if what != "share":
        for i in range(3 if what == "queue" else 1):
            assert claim(db, first + i, f"GPU-{i}") is not None
    decided = snapshot.decide(db, now=3600.0, boot=3600.0, unhealthy={}, cpu_slots=1, policy=Policy())
    assert [start.id for start in decided.starts] == [last]


def test_owners_are_found_by_steps(db):
    queues.create(db, Queue(name="a"), None, by="root", now=1.0)
    for user, project, queue in (
        ("bo", None, "a"),
        ("ana", "q", None),
        ("ana", None, None),
        ("ana", "p", "a"),
    ):
        for _ in range(3):
            submit(db, user=user, project=project, queue=queue, gpus=1)
    submit(db, user="held", hold=True, gpus=1)
    submit(db, user="cpu", gpus=0)
    assert owners.waiting(db, 0.0, gpus=False) == [UsageOwner("cpu", None, "default")]
    assert owners.waiting(db, 0.0, gpus=True) == [
        UsageOwner("ana", "p", "a"),
        UsageOwner("ana", None, "default"),
        UsageOwner("ana", "q", "default"),
        UsageOwner("bo", None, "a"),
    ]
    for i in range(owners.MOST):
        submit(db, user=f"user{i}", gpus=1)
    seen = {owner for now in range(100) for owner in owners.waiting(db, float(now), gpus=True)}
    assert len(owners.waiting(db, 0.0, gpus=True)) == owners.MOST
    assert len(seen) == owners.MOST + 4
