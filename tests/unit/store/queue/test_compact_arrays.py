"""Folded members of arrays: the schema keeps them apart from rows, everything finds and counts them, and it
makes no difference when they are unfolded."""

import contextlib
import json
import random
import sqlite3
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from leptond.base.errors import Invalid
from leptond.base.paths import data_dir
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec, State
from leptond.core.retention_limits import UNLIMITED
from leptond.core.scheduling.planner import Policy
from leptond.recovery.restored_database import bring_up
from leptond.store.database import events
from leptond.store.database.transaction import transaction
from leptond.store.planning import snapshot
from leptond.store.queue import arrays, attempts, compact_arrays, dependencies, gpus, jobs, lists, sets
from leptond.store.queue.retention import due, forget_compact
from leptond.store.recovery import adoption
from leptond.store.recovery.salvage import COUNTS, build
from tests.simulation.store import database

only = partial(replace, UNLIMITED)


def write(db, change, *args, **more):
    ((value, failure),) = transaction(db, [lambda db: change(db, *args, **more)])
    if failure is not None:
        raise failure
    return value


def submit(db, now=1.0, **spec):
    one = admit(JobSpec(argv=["true"], **spec), gpus=2, home="/", defaults=Defaults())
    stored, _ = write(db, jobs.submit, [one], user="ana", now=now, max_pending=10_000_000)
    return stored[0]


def cancel_all(db, array):
    """Cancel a whole array."""
    members = sets.Wanted(filter=lists.Filter(array_id=array))
    return write(db, sets.cancel, members, by="ana", grace_s=None, reason=None, now=5.0)


def cancel_compact(db, array, why):
    """Cancel the members that have no rows."""
    parts = compact_arrays.of_array(db, array, pending=True)
    return write(db, arrays.cancel_parts, parts, by="ana", why=why, now=4.0)


@pytest.fixture
def db():
    one = database()
    found = [gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=True) for i in range(2)]
    write(one, gpus.sync, found, 1.0)
    yield one
    one.close()


def columns(db, table):
    return {row["name"] for row in db.execute(f"PRAGMA table_info({table})")}


def test_a_fold_has_all_that_its_jobs_have(db):
    assert set(compact_arrays.SHARED_COLUMNS) | {"id", "last_id"} == columns(db, "folds")
    assert set(compact_arrays.SHARED_COLUMNS) | set(compact_arrays._OF_ONE) | {
        "id",
        "array_index",
    } == columns(db, "jobs")
    number = submit(db).id
    row = db.execute("SELECT * FROM jobs WHERE id = ?", (number,)).fetchone()
    assert {name: row[name] for name in compact_arrays._OF_ONE} == compact_arrays._OF_ONE


def test_a_large_array_is_one_row_and_yet_all_its_jobs(db):
    submit(db)
    stored = submit(db, array="0-99999", name="sweep")
    assert (stored.id, stored.count, stored.array_id) == (2, 100_000, 2)
    assert db.execute("SELECT count(*) FROM jobs").fetchone()[0] == 1 + compact_arrays.AT_ONCE
    assert jobs.counts(db)[State.PENDING] == 100_001
    assert submit(db).id == 100_002, "their ids are given out"
    last = jobs.find(db, "2_99999")
    assert (last.id, last.ref, last.name) == (100_001, "2_99999", "sweep")
    assert jobs.find(db, "100001") == last
    assert [job.id for job in lists.newest(db, lists.Filter(), limit=2, cursor=None)[0]] == [
        100_002,
        100_001,
    ]
    assert adoption.known(db, [1, 5000, 100_001, 100_003]) == {1, 5000, 100_001}


def test_the_schema_keeps_rows_and_folds_apart(db):
    array = submit(db, array="0-999").id
    with pytest.raises(sqlite3.IntegrityError, match="folded or not"):
        write(
            db,
            lambda db: db.execute(
                "INSERT INTO jobs (id, spec, name, user, gpus, submitted_at, array_id,"
                " array_index) SELECT 500, spec, name, user, gpus, submitted_at, 1, 700"
                " FROM jobs WHERE id = 1"
            ),
        )
    with pytest.raises(sqlite3.IntegrityError, match="folded or not"):
        write(db, compact_arrays.begin, array, 900, 1100)
    with pytest.raises(sqlite3.IntegrityError, match="shrinks"):
        write(db, lambda db: db.execute("UPDATE folds SET last_id = last_id + 1"))


def test_a_member_that_somebody_turns_to_gets_its_row_and_nothing_else_changes(db):
    array = submit(db, array="0-999%3", priority=2).id
    before = [jobs.find(db, f"{array}_{index}") for index in range(1000)]
    write(db, jobs.cancel, f"{array}_500", by="ana", grace_s=None, reason=None, now=5.0)
    write(db, jobs.edit, f"{array}_501", {"priority": 9}, by="ana", if_version=1, now=5.0)
    write(db, jobs.hold, f"{array}_502", by="ana", now=5.0)
    after = [jobs.find(db, f"{array}_{index}") for index in range(1000)]
    assert [a.id for a in after] == [b.id for b in before]
    assert [at for at in range(1000) if after[at] != before[at]] == [500, 501, 502]
    assert after[500].state is State.CANCELLED
    assert jobs.counts(db)[State.PENDING] == 999
    assert lists.held_count(db) == 1
    told = events.after(db, 0, limit=10_000, job=after[500].id)
    assert [one.type for one in told] == ["job.submitted", "job.state"]


def test_a_whole_array_is_cancelled_in_one_step_and_forgotten_in_one(db):
    array = submit(db, array="0-99999").id
    waits = {kind: submit(db, **{kind: [f"{array}_*"]}).id for kind in ("after", "after_any", "after_fail")}
    single = submit(db, after_any=[f"{array}_70000"]).id
    assert jobs.find(db, str(waits["after"])).deps_waiting == 100_000
    assert cancel_compact(db, array, "cancelled by ana: no") == 100_000 - compact_arrays.AT_ONCE
    assert jobs.find(db, f"{array}_99999").explanation == "cancelled by ana: no"
    assert jobs.counts(db) == {
        **dict.fromkeys(State, 0),
        State.PENDING: compact_arrays.AT_ONCE + 4,
        State.CANCELLED: 99_936,
    }
    assert jobs.find(db, str(single)).deps_waiting == 0
    cancel_all(db, array)
    for kind, failed in (("after", 100_000), ("after_any", 0), ("after_fail", 0)):
        job = jobs.find(db, str(waits[kind]))
        assert (job.deps_waiting, job.deps_failed) == (0, failed), kind
    (one,) = dependencies.of(db, waits["after"])
    assert (one.on_ref, one.state) == (f"{array}_*", "failed")
    assert not due(db, only(job_age_s=10.0), 100.0).compact, "jobs that have not ended speak of it"
    for number in (*waits.values(), single):
        write(db, jobs.cancel, str(number), by="ana", grace_s=None, reason=None, now=5.0)
    found = due(db, only(job_age_s=10.0), 100.0)
    assert sum(last - first + 1 for first, last in found.compact) == 100_000 - compact_arrays.AT_ONCE
    ((first, last),) = found.compact
    assert write(db, forget_compact, first, last, by="ana", now=100.0) == 100_000 - compact_arrays.AT_ONCE
    assert jobs.counts(db)[State.CANCELLED] == compact_arrays.AT_ONCE + 4


def test_what_is_edited_stands_where_it_would_without_folds(db):
    array = submit(db, array="0-999", gpus=1).id
    places = "SELECT order_at, lane, due_at, alone_at, short_s FROM {} WHERE array_id = ?"
    (before,) = {tuple(row) for row in db.execute(places.format("folds"), (array,))}
    write(db, arrays.edit_compact, array, {"priority": 5}, by="ana", by_admin=False, now=2.0)
    assert db.execute("SELECT ready FROM arrays").fetchone()[0] == 0, "those with rows stand elsewhere"
    write(db, jobs.edit, str(array), {"priority": 5}, by="ana", if_version=None, now=2.0)
    (after,) = {tuple(row) for row in db.execute(places.format("folds"), (array,))}
    assert after != before
    assert after == tuple(db.execute(places.format("jobs"), (array,)).fetchone())
    assert db.execute("SELECT ready FROM arrays").fetchone()[0] == 1


def test_only_so_many_of_a_fold_are_forgotten_as_are_too_many(db):
    array = submit(db, array="0-999").id
    cancel_compact(db, array, "cancelled by ana")
    cancel_all(db, array)
    ((first, last),) = due(db, only(max_jobs=400), 100.0).compact
    assert last - first + 1 == 600
    write(db, forget_compact, first, last, by="ana", now=100.0)
    assert jobs.counts(db)[State.CANCELLED] == 400
    assert write(db, jobs.retry, f"{array}_999", user="ana", now=101.0, max_pending=9)[1]


def test_an_array_that_waits_for_another_is_unfolded_when_its_time_comes(db):
    one = submit(db, array="0-199").id
    two = submit(db, array="0-999", after=[f"{one}_*"]).id
    assert db.execute("SELECT count(*) FROM jobs WHERE array_id = ?", (two,)).fetchone()[0] == 1
    assert [short.array_id for short in compact_arrays.short(db)] == [one]
    assert jobs.find(db, f"{two}_999").deps_waiting == 200
    assert snapshot.why_not_ready(jobs.find(db, f"{two}_999"), now=1.0, boot=1.0).sentence.endswith(
        "200 other jobs"
    )
    write(db, jobs.hold, f"{two}_500", by="ana", now=2.0)
    for job in range(one, one + 200):
        db.execute("BEGIN")
        job_id = compact_arrays.expand_one(db, str(job), 3.0) or job
        for state in ("starting", "running"):
            jobs.touch(db, job_id, {"state": state})
        jobs.end(db, jobs.find(db, str(job)), State.SUCCEEDED, 4.0, {})
        db.execute("COMMIT")
    for index in (0, 500, 999):
        member = jobs.find(db, f"{two}_{index}")
        assert (member.deps_waiting, member.deps_failed) == (0, 0), index
        assert [each.state for each in dependencies.of(db, member.id, two)] == ["met"]
    assert [short.array_id for short in compact_arrays.short(db)] == [two]


def test_who_waits_for_what_is_not_there_is_refused(db):
    array = submit(db, array="0-999").id
    for ref in ("5000", f"{array}_1000", "2_*", f"{array + 1000}_*"):
        with pytest.raises(Invalid, match="no job"):
            submit(db, after=[ref])


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "cancel",
                "hold",
                "release",
                "edit",
                "cancel_compact",
                "hold_compact",
                "release_compact",
                "edit_compact",
                "decide",
                "submit",
                "after",
                "expand",
                "retry",
                "purge",
            ]
        ),
        st.integers(0, 60),
        st.integers(-3, 3),
    ),
    max_size=25,
)


@given(OPERATIONS, st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_it_makes_no_difference_when_members_are_expanded(operations, seed):
    """The same is done to a queue that folds and to one that never does; only the first unfolds at random."""
    dice = random.Random(seed)
    told = []
    for folding in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (("OVER", 3), ("AT_ONCE", 1), ("LOW", 9), ("HIGH", 10)):
                patch.setattr(compact_arrays, name, value if folding else 1_000_000)
            told.append(list(_carried_out(operations, dice if folding else None)))
    assert told[0] == told[1]


def _carried_out(operations, dice):
    db = database()
    found = [gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=True) for i in range(2)]
    write(db, gpus.sync, found, 1.0)
    first = submit(db, array="0-39%4", gpus=1)
    submit(db, array="0-12", after_any=[f"{first.id}_*"], project="p")
    now = 10.0
    for verb, at, number in operations:
        now += 1.0
        total = jobs.counts(db)
        ref = str(1 + at % sum(total.values()))  # some are purged: then it may be refused
        how = {"by": "ana", "now": now}
        try:
            match verb:
                case "cancel":
                    write(db, jobs.cancel, ref, grace_s=0.0, reason=None, **how)
                case "hold" | "release":
                    write(db, getattr(jobs, verb), ref, **how)
                case "edit":
                    write(db, jobs.edit, ref, {"priority": number}, if_version=None, **how)
                case "retry":
                    yield write(db, jobs.retry, ref, user="ana", now=now, max_pending=10_000)
                case "purge":
                    write(db, jobs.purge, ref, **how)
                case "submit":
                    submit(db, now, array=f"0-{at}", priority=number, gpus=at % 2)
                case "after":
                    submit(db, now, array=f"0-{at}", after=[ref])
                case "expand":
                    if dice is not None:
                        write(db, compact_arrays.refill, first.id, at, now)
                case "decide":
                    yield from _start(db, now)
                case _:
                    _whole(db, first.id, verb.removesuffix("_compact"), number, how)
        except Exception as refusal:
            yield type(refusal).__name__, str(refusal)
        if dice is not None and dice.random() < 0.3:
            for one in compact_arrays.short(db):
                write(db, compact_arrays.refill, one.array_id, dice.randrange(1, 5), now)
        yield jobs.counts(db), lists.held_count(db), lists.oldest_wait(db)
        yield sorted(tuple(row) for row in db.execute("SELECT * FROM pending_counts WHERE n > 0"))
        found, _ = lists.newest(db, lists.Filter(), limit=1000, cursor=None)
        yield found
        yield lists.in_queue_order(db, lists.Filter(), limit=1000, cursor=None)
        yield lists.newest(db, lists.Filter(array_id=first.id, equal={"user": "ana"}), limit=7, cursor="20")
        yield [dependencies.of(db, job.id, job.array_id) for job in found]
    db.close()


def _whole(db, array, verb, number, how):
    members = sets.Wanted(filter=lists.Filter(array_id=array))
    if verb == "cancel":
        write(db, sets.cancel, members, grace_s=0.0, reason=None, **how)
    elif verb != "edit":
        write(db, getattr(sets, verb), members, **how)
    else:
        more = {"changes": {"priority": number}, "by_admin": False}
        write(db, arrays.edit_compact, array, **more, **how)
        at = -1
        while some := arrays.unended(db, array, at, newest_first=False):
            write(db, arrays.each, some, jobs.edit, if_version=None, **more, **how)
            at = some[-1][0]


def _start(db, now):
    while short := compact_arrays.short(db):
        for one in short:
            write(db, compact_arrays.refill, one.array_id, one.missing, now)
    decided = snapshot.decide(db, now=now, boot=now, unhealthy={}, cpu_slots=2, policy=Policy())
    for start in decided.plan.starts:
        claimed = write(
            db, attempts.claim, start, attempt_id=f"{start.id:032x}", now=now, boot=now, boot_id="boot"
        )
        yield start, claimed is not None


def kept_counts(db):
    return {
        name: sorted(tuple(row) for row in db.execute(f"SELECT * FROM {name}") if name == "arrays" or row[-1])
        for name in COUNTS
    }


def test_a_salvage_of_two_moments_has_each_member_once(tmp_path):
    """The backup is of a time before members got their rows and were cancelled, as rows and folded; or the
    other way round."""
    files = []
    for name in ("early", "late"):
        file = tmp_path / f"{name}.db"
        with contextlib.closing(database()) as db:
            array = submit(db, array="0-999").id
            other = submit(db, array="0-299", hold=True).id
            submit(db, after=[f"{array}_*"])
            if name == "late":
                write(db, compact_arrays.refill, array, 300, 2.0)
                write(db, jobs.cancel, f"{array}_700", by="ana", grace_s=None, reason=None, now=3.0)
                cancel_compact(db, other, "cancelled by ana")
            with contextlib.closing(sqlite3.connect(file)) as copy:
                db.backup(copy)
        files.append(file)
    for base, newer in (files, files[::-1]):
        new = tmp_path / "new.db"
        new.unlink(missing_ok=True)
        build(newer, base, new, data_dir("migrations"))
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            ids = []
            cursor = None
            while True:
                page, cursor = lists.newest(db, lists.Filter(), limit=500, cursor=cursor)
                ids += [job.id for job in page]
                if cursor is None:
                    break
            assert sorted(ids) == list(range(1, 1302))
            assert jobs.find(db, f"{array}_700").state is State.CANCELLED
            assert jobs.find(db, f"{other}_299").state is State.CANCELLED
            kept = kept_counts(db)
            for name in COUNTS.keys() - {"job_counts"}:
                db.execute(f"DELETE FROM {name}")
            for again in COUNTS.values():
                db.execute(again)
            assert kept == kept_counts(db)
            assert jobs.find(db, "1301").deps_waiting == 999


def test_a_folded_member_that_ran_after_the_backup_is_taken_in_as_itself(db, tmp_path):
    array = submit(db, array="0-999", gpus=1).id
    member = array + 700
    directory = tmp_path / "jobs" / str(member) / "1"
    directory.mkdir(parents=True)
    claim = {"claimed_at": 5.0, "claimed_boot": 5.0, "gpus": [{"uuid": "GPU-0", "index": 0}]}
    who = {"attempt_id": "a" * 32, "boot_id": "gone", "pid": 1, "start_ticks": 1, "claim": claim}
    (directory / "identity.json").write_text(json.dumps(who))
    caught = write(db, bring_up, tmp_path, starts=0, restored=False, now=9.0, boot=9.0)
    assert caught.jobs == {member: [1]}
    job = jobs.find(db, f"{array}_700")
    assert (job.id, job.state, job.attempt, job.labels) == (member, State.RUNNING, 1, {})
    assert jobs.counts(db)[State.PENDING] == 999
    assert adoption.unfinished(db, [member, array + 800, 5000]).keys() == {member, array + 800}
