"""Scripts in the database: one for all that run it, gone with the last of them; notes on attempts."""

from __future__ import annotations

import hashlib

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.core.jobs.sources import Note
from leptond.store.database import events
from leptond.store.queue import attempts, compact_arrays, jobs, notes, retention, scripts
from tests.support.queue import add, db, end, lease

__all__ = ["db"]

TEXT = "#!/bin/sh\necho é\n"
SHA = hashlib.sha256(TEXT.encode()).hexdigest()


def kept(db) -> int:
    return db.execute("SELECT count(*) FROM scripts").fetchone()[0]


def test_a_script_is_stored_once_and_not_in_the_spec(db) -> None:
    first, second = add(db, script=TEXT), add(db, script=TEXT)
    other = add(db, script="echo\n")
    assert kept(db) == 2
    found = [jobs.find(db, str(job)) for job in (first, second, other)]
    assert [job.script_sha256 == SHA for job in found] == [True, True, False]
    assert [job.spec.script for job in found] == [None] * 3
    assert scripts.content(db, SHA) == TEXT.encode()
    assert scripts.content(db, "0" * 64) is None
    assert jobs.find(db, str(add(db))).script_sha256 is None


def test_a_script_goes_with_the_last_job_that_runs_it(db) -> None:
    first, second = add(db, script=TEXT), add(db, script=TEXT)
    for job in (first, second):
        jobs.cancel(db, str(job), by="ana", grace_s=None, reason=None, now=2.0)
    retention.forget(db, [first], by="ana", now=3.0)
    assert kept(db) == 1
    retention.forget(db, [second], by="ana", now=3.0)
    assert kept(db) == 0


def test_a_retry_runs_the_same_script_after_its_first_job_is_forgotten(db) -> None:
    first = add(db, script=TEXT)
    end(db, lease(db, first).attempt.id, exit_code=1)
    again, copied = jobs.retry(db, str(first), user="ana", now=3.0, max_pending=10)
    assert copied
    assert jobs.find(db, str(again.id)).script_sha256 == SHA
    jobs.cancel(db, str(again.id), by="ana", grace_s=None, reason=None, now=4.0)
    retention.forget(db, [first], by="ana", now=5.0)
    assert kept(db) == 1


def test_members_of_a_large_array_have_the_script_and_it_stays_for_the_last(db) -> None:
    count = compact_arrays.OVER + 10
    admitted = admit(JobSpec(argv=["x.sh"], script=TEXT, array=f"0-{count - 1}", hold=True), gpus=2, home="/",
                     defaults=Defaults())  # fmt: skip
    (stored,), _ = jobs.submit(db, [admitted], user="ana", now=1.0, max_pending=1000)
    assert kept(db) == 1
    last = jobs.find(db, f"{stored.id}_{count - 1}")
    assert last.script_sha256 == SHA
    assert jobs.find_for_change(db, last.ref, 2.0).script_sha256 == SHA
    jobs.cancel(db, str(stored.id), by="ana", grace_s=None, reason=None, now=2.0)
    retention.forget(db, [stored.id], by="ana", now=3.0)
    assert kept(db) == 1
    compact = compact_arrays.of_array(db, stored.id)
    assert compact
    assert all(one.row["script_sha256"] == SHA for one in compact)


def test_an_attempt_is_noted_on_once_with_an_event(db) -> None:
    job = add(db)
    attempt = lease(db, job).attempt
    changed = Note(kind="source-changed", text="/w/x.py was changed")
    failed = Note(kind="output-failed", text="no room")
    notes.add(db, job, 1, [changed], now=2.0)
    notes.add(db, job, 1, [changed, failed], now=3.0)
    notes.add(db, job, 7, [failed], now=3.0)  # not known
    assert attempts.get(db, attempt.id).notes == [changed, failed]
    said = events.after(db, 0, limit=10, kinds=["job.source_changed", "job.output_failed"])
    assert [(one.type, one.attempt, one.data["text"]) for one in said] == [
        ("job.source_changed", 1, changed.text),
        ("job.output_failed", 1, failed.text),
    ]


def test_notes_of_one_attempt_are_bounded(db) -> None:
    job = add(db)
    attempt = lease(db, job).attempt
    for n in range(notes.MOST + 5):
        notes.add(db, job, 1, [Note(kind="output-failed", text=str(n))], now=2.0)
    assert len(attempts.get(db, attempt.id).notes) == notes.MOST
